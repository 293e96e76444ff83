"""Every other encoder, loaded through transformers: from what was read and hashed, and with all weights."""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from gpu_tasks.errors import ModelLoadError, UnsupportedModel, first_line
from gpu_tasks.models.files import ModelFiles
from gpu_tasks.models.from_transformers import LOCAL, import_transformers, open_config
from gpu_tasks.models.hugging_face.batching import PROBED_LENGTH, choose_batching
from gpu_tasks.models.hugging_face.encoder import HuggingFaceEncoder
from gpu_tasks.models.hugging_face.probe_rows import RUN_ERRORS
from gpu_tasks.models.weights import Tensors
from queue_app.model.spec import ModelSpec

UNSTEADY = ("big_bird", "bigbird_pegasus", "reformer", "yoso")
"""Model types that hash by chance, or change for good with a short text: nothing to compare a vector with."""
MADE_UP_TIMES_MOST, MADE_UP_PARAMETERS_MOST = 2, 64_000_000
"""Some parts may lack weights, as a decoder or a pooler that is never run."""
RUN_PARAMETERS_MOST = 200_000_000
"""A larger model is not run where it is only read."""


def load_auto(
    spec: ModelSpec, files: ModelFiles, tensors: Tensors, device: torch.device, dtype: torch.dtype,
    *, alone: bool = False,
) -> HuggingFaceEncoder:  # fmt: skip
    """With `alone` no text is padded for another: all in one pack, or each alone.

    Raises:
        ModelLoadError: transformers cannot load it.
        UnsupportedModel: it would compute something wrongly.
    """
    model = _load(spec, files, tensors, dtype).to(device).eval()
    encoder = _encoder(spec, model)
    batching = choose_batching(spec, encoder)
    return replace(encoder, batching="alone" if alone and batching != "packed" else batching)


def require_loadable(spec: ModelSpec, files: ModelFiles, stored: Mapping[str, tuple[int, ...]]) -> None:
    """Load a model without its weights: of zeros, by their names and shapes.

    Raises:
        ModelLoadError: transformers does not load it, or weights are missing.
        UnsupportedModel: it makes no hidden states, or takes what cannot be given.
    """
    if spec.encoder.model_type in UNSTEADY:
        raise UnsupportedModel(
            f"{spec.path}: what a {spec.encoder.model_type!r} makes of a text depends on chance, or on the "
            "texts before it"
        )
    is_run = spec.num_parameters <= RUN_PARAMETERS_MOST
    # Expanded ones take no memory, and some models write into theirs.
    zeros = torch.zeros if is_run else torch.zeros(1).expand
    tensors = {name: zeros(shape) for name, shape in stored.items()}
    encoder = _encoder(spec, _load(spec, files, tensors, torch.float32).eval())
    if not is_run:
        return
    length = min(PROBED_LENGTH, spec.max_positions or PROBED_LENGTH)
    ids = torch.arange(1, length + 1).unsqueeze(0) % spec.encoder.vocab_size
    try:
        with torch.inference_mode():
            encoder.run(ids, torch.ones_like(ids, dtype=torch.bool), (spec.num_layers,))
    except RUN_ERRORS as error:
        raise UnsupportedModel(
            f"{spec.path}: {type(encoder.model).__name__} does not run on text: {first_line(error)}"
        ) from None


def _encoder(spec: ModelSpec, model: Any) -> HuggingFaceEncoder:
    """The model as it computes each row alone."""
    parameters = frozenset(inspect.signature(model.forward).parameters)
    if spec.encoder.token_type and "token_type_ids" not in parameters:
        raise UnsupportedModel(f"{spec.path}: {type(model).__name__} takes no token types")
    _refuse_short_positions(spec, model)
    padding = model.config.pad_token_id
    return HuggingFaceEncoder(
        model,
        padding if padding in range(spec.encoder.vocab_size) else 0,
        spec.encoder.hidden_size,
        spec.num_layers,
        batching="alone",
        # GPT-2 looks token types up among its words, and has none of its own.
        takes=parameters if spec.encoder.num_token_types else parameters - {"token_type_ids"},
        token_type=spec.encoder.token_type,
    )


def _load(spec: ModelSpec, files: ModelFiles, tensors: Tensors, dtype: torch.dtype) -> Any:
    transformers, config = import_transformers(), open_config(spec, files)
    # T5 and its like have a class for the encoder alone; of others the decoder is left away.
    alone = type(config) in transformers.MODEL_FOR_TEXT_ENCODING_MAPPING
    kind = transformers.AutoModelForTextEncoding if alone else transformers.AutoModel
    try:
        # A model without memory, to learn its class: an Auto class reads no weights but from a path.
        with torch.device("meta"):
            shell = kind.from_config(config, trust_remote_code=False)
        _refuse_larger(spec, shell, tensors)
        own = config if isinstance(shell.config, type(config)) else shell.config
        model, loading = type(shell).from_pretrained(
            None, config=own, state_dict=tensors, dtype=dtype, output_loading_info=True, **LOCAL
        )
    except ModelLoadError:
        raise
    except Exception as error:  # of any class
        raise ModelLoadError(
            f"{spec.path}: transformers does not load {spec.encoder.model_type!r}: {first_line(error)}"
        ) from None
    encoder = model.get_encoder() if config.is_encoder_decoder else model
    _refuse_missing(spec, loading["missing_keys"], but="decoder" if encoder is not model else "")
    encoder.config.use_cache, encoder.config.return_dict = False, True
    return encoder


def _refuse_larger(spec: ModelSpec, shell: Any, tensors: Tensors) -> None:
    """transformers makes memory for all that config.json says, and compares it with the weights then."""
    said = sum(parameter.numel() for parameter in shell.parameters())
    stored = sum(tensor.numel() for tensor in tensors.values())
    if said > MADE_UP_TIMES_MOST * stored + MADE_UP_PARAMETERS_MOST:
        raise ModelLoadError(
            f"{spec.path}: by its config.json it has {said:,} parameters, and its weights are {stored:,}"
        )


def _refuse_missing(spec: ModelSpec, names: Iterable[str], *, but: str) -> None:
    """transformers makes up what is missing, with a warning."""
    missing = sorted(name for name in names if but not in name.split(".") and "pooler" not in name.split("."))
    if missing:
        raise ModelLoadError(f"{spec.path}: its weights lack {missing[0]}")


def _refuse_short_positions(spec: ModelSpec, model: Any) -> None:
    """A position table whose begin is kept for the padding is shorter than its config says."""
    positions = spec.max_positions
    for name, table in model.named_modules():
        if positions and name.endswith("position_embeddings") and isinstance(table, torch.nn.Embedding):
            usable = table.num_embeddings - (-1 if table.padding_idx is None else table.padding_idx) - 1
            if usable < positions:
                raise UnsupportedModel(f"{spec.path}: its {name} have {usable} positions, not {positions}")
