"""A model's weights: tensors of safetensors files, with an adapter merged, and what a family takes of them.

Tensors are read one behind the other, as they lie in the file, so that of each there is one copy and no more.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.inference.model import KernelChoice
from gpu_tasks.models.files import ModelFiles, Reader
from gpu_tasks.models.layers import Layer, LayerNorm, Linear, Project
from gpu_tasks.models.linears.int8 import GELU_FLOOR, int8_linear
from gpu_tasks.models.linears.prepacked import can_prepack, prepacked
from gpu_tasks.models.weight_names import LAYERS, POSITIONS, WORDS, find_prefix, stored_name, words_of
from queue_app.model.safetensors_head import LENGTH_BYTES, HeadEntry, head_length, parse_head
from queue_app.model.spec import AdapterSpec, EncoderSpec, ModelSpec

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip

Tensors = dict[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """The weights of a native family, brought to one device and dtype, and the `kernels` asked for there.

    Each tensor can be taken once: what was converted does not stay beside its origin. `prefix` is what stands
    before every name. With `int8` the layers' matrices become int8, and `dtype` is that of all else.
    """

    spec: ModelSpec
    tensors: Tensors
    prefix: str
    device: torch.device
    dtype: torch.dtype
    kernels: KernelChoice
    int8: bool = False

    def tensor(self, name: str, *shape: int, scale: float = 1.0) -> Tensor:
        """Raises ModelLoadError when there is no such tensor, or one of another shape."""
        shown = f"{self.spec.path}: {self.prefix + name}"
        found = stored_name(self.prefix + name, self.tensors)
        if found is None:
            raise ModelLoadError(f"{self.spec.path}: its weights lack {self.prefix + name}")
        stored = self.tensors.pop(found)
        if stored.shape != shape:
            raise ModelLoadError(f"{shown} has the shape {[*stored.shape]}; by config.json it is {[*shape]}")
        if not stored.is_floating_point():
            raise UnsupportedModel(f"{shown} is stored as {stored.dtype}")
        # Converted where it is wanted: on the host a float32 copy would be twice the size.
        there = stored.to(self.device)
        if scale == 1.0 and there.dtype == self.dtype:
            return there
        there = there.float()
        return (there * scale if scale != 1.0 else there).to(self.dtype)

    def words(self, *, scale: float = 1.0) -> Tensor:
        """The embeddings of the vocabulary."""
        return self.tensor(WORDS, self.encoder.vocab_size, self.encoder.hidden_size, scale=scale)

    def positions(self) -> Tensor:
        """The rows of the position table from a segment's first token on.

        Where the first rows are kept for the padding, the last of them, which a padding token in a text
        takes, comes behind all others.
        """
        first = self.encoder.first_position
        table = self.tensor(POSITIONS, self.encoder.num_positions, self.encoder.hidden_size)
        return torch.cat([table[first:], table[first - 1 : first]]) if first else table

    def norm(self, name: str) -> LayerNorm:
        dim = self.encoder.hidden_size
        weight, bias = self.tensor(f"{name}.weight", dim), self.tensor(f"{name}.bias", dim)
        return LayerNorm(weight, bias, self.encoder.layer_norm_eps)

    def linear(self, *names: str, inputs: int, outputs: int) -> Project:
        """Layers without biases as one, their outputs side by side."""
        return self._linear(*names, inputs=inputs, outputs=outputs, biased=False)

    def layers(self) -> tuple[Layer, ...]:
        """The encoder's, under the names of the family."""
        return tuple(self._layer(f"encoder.layer.{index}") for index in range(self.encoder.num_layers))

    @property
    def encoder(self) -> EncoderSpec:
        return self.spec.encoder

    def _layer(self, layer: str) -> Layer:
        names, dim, inner = LAYERS[self.spec.family], self.encoder.hidden_size, self.encoder.intermediate_size
        qkv = [f"{layer}.{name}" for name in names.qkv]
        up = 2 * inner if names.gated else inner
        behind = None if names.gated else GELU_FLOOR
        return Layer(
            qkv=self._linear(*qkv, inputs=dim, outputs=3 * dim // len(qkv)),
            attention_out=self._linear(f"{layer}.{names.attention_out}", inputs=dim, outputs=dim),
            attention_norm=self.norm(f"{layer}.{names.attention_norm}"),
            up=self._linear(f"{layer}.{names.up}", inputs=dim, outputs=up, biased=not names.gated),
            down=self._linear(f"{layer}.{names.down}", inputs=inner, outputs=dim, floor=behind),
            mlp_norm=self.norm(f"{layer}.{names.mlp_norm}"),
        )

    def _linear(
        self, *names: str, inputs: int, outputs: int, biased: bool = True, floor: float | None = None
    ) -> Project:
        """The layers of these names as one, their outputs side by side. No input lies below `floor`."""
        weights = [self.tensor(f"{name}.weight", outputs, inputs) for name in names]
        biases = [self.tensor(f"{name}.bias", outputs) for name in names] if biased else []
        weight, bias = _joined(weights), _joined(biases) if biased else None
        if self.int8:
            return int8_linear(weight, bias, floor)
        if can_prepack(self.device, self.dtype):
            return prepacked(weight, bias)
        return Linear(weight, bias)


def native_weights(
    spec: ModelSpec,
    tensors: Tensors,
    device: torch.device,
    dtype: torch.dtype,
    kernels: KernelChoice,
    *,
    int8: bool = False,
) -> Weights:
    """Raises ModelLoadError when no prefix of the family leads to the embeddings, UnsupportedModel for token
    dropout that depends on the text."""
    if spec.encoder.token_dropout and spec.tokens.kind != "letters":
        # A <mask> in a sequence changes what all its tokens are scaled by; a table of letters has none.
        raise UnsupportedModel(f"{spec.path}: token dropout with a tokenizer is for transformers to compute")
    prefix = find_prefix(spec.family, tensors)
    if prefix is None:
        raise ModelLoadError(f"{spec.path}: its weights lack {words_of(spec.family)}")
    return Weights(spec, tensors, prefix, device, dtype, kernels, int8)


def require_native_on_cpu(spec: ModelSpec, device: torch.device) -> None:
    """Raises UnsupportedModel where there are no int8 products."""
    if spec.family == "auto" or device.type != "cpu":
        raise UnsupportedModel(
            f"{spec.path}: --dtype int8 is for families computed natively, on the CPU; use --dtype float32"
        )


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([*parts]) if len(parts) > 1 else parts[0]


def read_tensors(files: ModelFiles, names: Iterable[str]) -> Tensors:
    """All tensors of these files on the host, in the dtype that they are stored in.

    Raises:
        ModelLoadError: a file is not that of the specification, or no safetensors file.
        UnsupportedModel: a tensor is of a dtype that wants more than a number to be read, as float8 does.
    """
    found: Tensors = {}
    for name in names:
        with files.open(name) as reader:
            found |= _read(reader)
    return found


def merge_adapter(tensors: Tensors, adapter: AdapterSpec, files: ModelFiles) -> None:
    """Add a LoRA's update to the weights (https://arxiv.org/abs/2106.09685), in float32 and in place.

    Raises:
        ModelLoadError: a weight that it changes, or one of its own, is missing or of another shape.
    """
    low_rank = read_tensors(files, [adapter.file])
    stems = dict(adapter.names)
    for name, scale in adapter.scales:
        if name not in tensors:
            raise ModelLoadError(f"{adapter.file}: changes {name}, which the model does not have")
        first, second = (_taken(low_rank, f"{stems[name]}.lora_{part}.weight", adapter) for part in "AB")
        weight = tensors[name].float()
        if weight.shape != (second.shape[0], first.shape[1]) or first.shape[0] != second.shape[1]:
            raise ModelLoadError(f"{adapter.file}: its update of {name} does not have the weight's shape")
        tensors[name] = weight + scale * (second @ first)
    if low_rank:
        raise ModelLoadError(f"{adapter.file}: {next(iter(low_rank))} belongs to no weight of the model")


def _read(reader: Reader) -> Tensors:
    try:
        length = head_length(reader.read(min(LENGTH_BYTES, reader.left)))
        if length > reader.left:
            raise ValueError("its header is too long")
        head = parse_head(reader.read(length), reader.left)
    except ValueError as error:
        reader.finish()  # where the file has changed, that is what is wrong with it
        raise ModelLoadError(f"{reader.path}: not a readable safetensors file: {error}") from None
    return {name: _tensor(reader, name, entry) for name, entry in head.items()}


def _tensor(reader: Reader, name: str, entry: HeadEntry) -> Tensor:
    dtype = _DTYPES.get(entry.dtype)
    if dtype is None:
        raise UnsupportedModel(f"{reader.path}: {name} is stored as {entry.dtype}, which is not implemented")
    content = torch.empty(entry.end - entry.begin, dtype=torch.uint8)
    reader.fill(content.numpy().data)
    return content.view(dtype).view(entry.shape)


def _taken(tensors: Tensors, name: str, adapter: AdapterSpec) -> Tensor:
    if name not in tensors:
        raise ModelLoadError(f"{adapter.file}: lacks {name}")
    return tensors.pop(name).float()
