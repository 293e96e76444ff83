"""The weights that each native family reads: their names and shapes, held against the heads of the files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from gpu_tasks.errors import ModelLoadError
from gpu_tasks.model_directory.files import StoredTensor
from queue_app.model.spec import EncoderSpec, Family

Shapes = Iterator[tuple[str, tuple[int, ...]]]

_OLD_NAMES = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
"""Checkpoints that came from TensorFlow kept its names for the parameters of a layer norm."""


def require_weights(
    folder: Path, family: Family, spec: EncoderSpec, tensors: Mapping[str, StoredTensor]
) -> None:
    """Raises ModelLoadError when a weight is missing, or of another shape than config.json says."""
    wanted = dict(_layout(family, spec))
    prefixes = ("", *(f"{name}." for name in ("bert", "roberta", "esm", "mpnet")))
    anchor = next(iter(wanted))
    prefix = next((prefix for prefix in prefixes if prefix + anchor in tensors), None)
    if prefix is None:
        raise ModelLoadError(f"{folder}: its weights lack {anchor}")
    for name, shape in wanted.items():
        found = tensors.get(prefix + name) or tensors.get(prefix + _old_name(name))
        if found is None:
            raise ModelLoadError(f"{folder}: its weights lack {prefix + name}")
        if found.shape != shape:
            raise ModelLoadError(
                f"{folder}: {prefix + name} has the shape {[*found.shape]}; by config.json it is {[*shape]}"
            )


def _old_name(name: str) -> str:
    for new, old in _OLD_NAMES.items():
        name = name.replace(new, old)
    return name


def _layout(family: Family, spec: EncoderSpec) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of all that a native family reads, the word embeddings first."""
    dim = spec.hidden_size
    yield "embeddings.word_embeddings.weight", (spec.vocab_size, dim)
    if family in ("bert", "mpnet") or spec.learned_positions:
        yield "embeddings.position_embeddings.weight", (spec.num_positions, dim)
    if spec.norm_before:
        yield from _norm("embeddings.layer_norm", dim)
    if family in ("bert", "mosaic"):
        yield "embeddings.token_type_embeddings.weight", (spec.num_token_types, dim)
    if family == "mpnet":
        yield "encoder.relative_attention_bias.weight", (32, spec.num_heads)
    yield from _norm("encoder.emb_layer_norm_after" if family == "esm2" else "embeddings.LayerNorm", dim)
    for index in range(spec.num_layers):
        for name, shape in _LAYERS[family](dim, spec.intermediate_size):
            yield f"encoder.layer.{index}.{name}", shape


def _norm(name: str, dim: int) -> Shapes:
    yield f"{name}.weight", (dim,)
    yield f"{name}.bias", (dim,)


def _linear(name: str, outputs: int, inputs: int) -> Shapes:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _layer(dim: int, inner: int, *, projections: Sequence[str], attention_norm: str, mlp_norm: str) -> Shapes:
    """The layer that BERT and its descendants share."""
    for name in projections:
        yield from _linear(name, dim, dim)
    yield from _norm(attention_norm, dim)
    yield from _linear("intermediate.dense", inner, dim)
    yield from _linear("output.dense", dim, inner)
    yield from _norm(mlp_norm, dim)


def _mosaic_layer(dim: int, inner: int) -> Shapes:
    yield from _linear("attention.self.Wqkv", 3 * dim, dim)
    yield from _linear("attention.output.dense", dim, dim)
    yield from _norm("attention.output.LayerNorm", dim)
    yield "mlp.gated_layers.weight", (2 * inner, dim)
    yield from _linear("mlp.wo", dim, inner)
    yield from _norm("mlp.layernorm", dim)


_OF_BERT = (*(f"attention.self.{part}" for part in ("query", "key", "value")), "attention.output.dense")
_LAYERS: Mapping[Family, Callable[[int, int], Shapes]] = {
    "bert": partial(
        _layer, projections=_OF_BERT, attention_norm="attention.output.LayerNorm", mlp_norm="output.LayerNorm"
    ),
    "esm2": partial(_layer, projections=_OF_BERT, attention_norm="attention.LayerNorm", mlp_norm="LayerNorm"),
    "mpnet": partial(
        _layer,
        projections=[f"attention.attn.{part}" for part in "qkvo"],
        attention_norm="attention.LayerNorm",
        mlp_norm="output.LayerNorm",
    ),
    "mosaic": _mosaic_layer,
}
