"""Put a model together by its specification, from files that are held against its digests."""

from collections.abc import Callable, Sequence

import torch

from gpu_tasks.inference.exact_shapes import ExactShapes
from gpu_tasks.inference.model import Dtype, KernelChoice
from gpu_tasks.inference.readout import Readout, check_layers
from gpu_tasks.inference.torch_device import open_device
from gpu_tasks.models.auto import load_auto
from gpu_tasks.models.bert import load_bert
from gpu_tasks.models.contacts import ContactMaps, load_contacts, require_contacts
from gpu_tasks.models.esm2 import load_esm2
from gpu_tasks.models.files import ModelFiles, model_files
from gpu_tasks.models.head import load_head
from gpu_tasks.models.layers import Encoder
from gpu_tasks.models.mosaic import load_mosaic
from gpu_tasks.models.mpnet import load_mpnet
from gpu_tasks.models.packed import PackedModel
from gpu_tasks.models.t5.encoder import load_t5
from gpu_tasks.models.tokens import load_tokens
from gpu_tasks.models.weights import (
    Weights,
    merge_adapter,
    native_weights,
    read_tensors,
    require_native_on_cpu,
)
from queue_app.model.spec import Family, ModelSpec

_NATIVE: dict[Family, Callable[[Weights], Encoder]] = {
    "esm2": load_esm2,
    "bert": load_bert,
    "mpnet": load_mpnet,
    "mosaic": load_mosaic,
    "t5": load_t5,
}
"""Who makes an encoder of the weights; all others are for transformers."""


def load_directory(
    spec: ModelSpec,
    tokenizer: str | None,
    *,
    device: str,
    dtype: Dtype,
    pools: tuple[str, ...] | None,
    layers: Sequence[int],
    threads: int | None,
    kernels: KernelChoice,
    shapes: ExactShapes | None = None,
) -> PackedModel:
    """See gpu_tasks.models.load."""
    readout = Readout(check_layers(layers, spec.num_layers), (spec.pool,) if pools is None else pools)
    dims = [spec.vector_dim(pool) for pool in readout.pools or ("none",)]
    on, files = open_device(device, threads), model_files(spec)
    tokens = load_tokens(spec, tokenizer, files)
    with on.computing():
        encoder, contacts = _encoder(
            spec, files, on.device, dtype, readout, kernels, is_exact=shapes is not None
        )
        head = load_head(spec.head, files, on.device)
    on.settle()
    return PackedModel(
        name=spec.name,
        hidden_size=spec.encoder.hidden_size,
        dim=sum(dims) * len(readout.layers),
        max_length=spec.max_length,
        readout=readout,
        pool_special=spec.pool_special,
        max_positions=spec.max_positions,
        padding=_padding(spec),
        tokenizer=tokens,
        encoder=encoder,
        head=head,
        on=on,
        contacts=contacts,
        shapes=shapes,
    )


def _encoder(
    spec: ModelSpec,
    files: ModelFiles,
    device: torch.device,
    dtype: Dtype,
    readout: Readout,
    kernels: KernelChoice,
    is_exact: bool,
) -> tuple[Encoder, ContactMaps | None]:
    """With what makes contacts of it, where these are read out."""
    if readout.is_contacts:
        require_contacts(spec)
    int8 = dtype == "int8"
    if int8:
        require_native_on_cpu(spec, device)
    of_the_rest = torch.float32 if int8 else getattr(torch, dtype)
    tensors = read_tensors(files, spec.encoder.weights)
    if spec.adapter:
        merge_adapter(tensors, spec.adapter, files)
    if spec.family == "auto":
        # What padding changes, a text alone has none of.
        return load_auto(spec, files, tensors, device, of_the_rest, alone=is_exact), None
    weights = native_weights(spec, tensors, device, of_the_rest, kernels, int8=int8)
    if readout.is_contacts:
        contacts = load_contacts(weights)
        return contacts.encoder, contacts
    return _NATIVE[spec.family](weights), None


def _padding(spec: ModelSpec) -> tuple[int, int] | None:
    """As in positions_of: these models' positions begin behind the padding's id."""
    encoder = spec.encoder
    if spec.family == "auto" or not encoder.first_position:
        return None
    return encoder.first_position - 1, encoder.num_positions - encoder.first_position
