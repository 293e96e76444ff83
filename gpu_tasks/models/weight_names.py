"""The names and shapes of the weights that each native family reads, without torch."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

from gpu_tasks.models.t5 import weight_names as t5
from queue_app.model.spec import EncoderSpec, Family

Shapes = Iterator[tuple[str, tuple[int, ...]]]

WORDS = "embeddings.word_embeddings.weight"
POSITIONS = "embeddings.position_embeddings.weight"
TOKEN_TYPES = "embeddings.token_type_embeddings.weight"
RELATIVE_BIAS = "encoder.relative_attention_bias.weight"
NUM_BUCKETS = 32
"""Buckets of distances in MPNet's bias, half of them for later tokens; 32 whatever config.json says."""

PREFIXES: Mapping[Family, tuple[str, ...]] = {
    "esm2": ("", "esm."),
    "bert": ("", "bert.", "roberta."),
    "mpnet": ("", "mpnet."),
    "mosaic": ("", "bert."),
    "t5": ("", "transformer."),
}
"""What may stand before all names."""


@dataclass(frozen=True, slots=True)
class LayerNames:
    """How the parts of a layer are called. Where it is `gated`, `up` has its outputs twice, and no bias."""

    qkv: tuple[str, ...]
    attention_out: str
    attention_norm: str
    up: str
    down: str
    mlp_norm: str
    gated: bool = False


_QKV = ("attention.self.query", "attention.self.key", "attention.self.value")
_MLP = ("intermediate.dense", "output.dense")
LAYERS: Mapping[Family, LayerNames] = {
    "esm2": LayerNames(_QKV, "attention.output.dense", "attention.LayerNorm", *_MLP, "LayerNorm"),
    "bert": LayerNames(
        _QKV, "attention.output.dense", "attention.output.LayerNorm", *_MLP, "output.LayerNorm"
    ),
    "mpnet": LayerNames(
        ("attention.attn.q", "attention.attn.k", "attention.attn.v"),
        *("attention.attn.o", "attention.LayerNorm", *_MLP, "output.LayerNorm"),
    ),
    "mosaic": LayerNames(
        ("attention.self.Wqkv",), "attention.output.dense", "attention.output.LayerNorm",
        "mlp.gated_layers", "mlp.wo", "mlp.layernorm", gated=True,
    ),
}  # fmt: skip


def find_prefix(family: Family, stored: Container[str]) -> str | None:
    """What stands before the names; None where no prefix leads to the embeddings."""
    words = words_of(family)
    return next((prefix for prefix in PREFIXES[family] if stored_name(prefix + words, stored)), None)


def words_of(family: Family) -> str:
    """The name of the word embeddings."""
    return t5.WORDS if family == "t5" else WORDS


def stored_name(name: str, stored: Container[str]) -> str | None:
    """The name of this weight among those that are stored; None where it is not.

    Checkpoints that came from TensorFlow kept its names for the parameters of a layer norm. Encoder and
    decoder of a T5 mostly share their word embeddings.
    """
    old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    shared = name.replace(t5.WORDS, t5.SHARED)
    return next((each for each in (name, old, shared) if each in stored), None)


def weight_shapes(family: Family, spec: EncoderSpec) -> Shapes:
    """Names and shapes of all that a native family reads, the word embeddings first."""
    if family == "t5":
        yield from t5.weight_shapes(spec)
        return
    dim = spec.hidden_size
    yield WORDS, (spec.vocab_size, dim)
    if family in ("bert", "mpnet") or spec.learned_positions:
        yield POSITIONS, (spec.num_positions, dim)
    if spec.norm_before:
        yield from _norm("embeddings.layer_norm", dim)
    if family in ("bert", "mosaic"):
        yield TOKEN_TYPES, (spec.num_token_types, dim)
    if family == "mpnet":
        yield RELATIVE_BIAS, (NUM_BUCKETS, spec.num_heads)
    yield from _norm("encoder.emb_layer_norm_after" if family == "esm2" else "embeddings.LayerNorm", dim)
    for index in range(spec.num_layers):
        for name, shape in _layer(LAYERS[family], dim, spec.intermediate_size):
            yield f"encoder.layer.{index}.{name}", shape


def _layer(names: LayerNames, dim: int, inner: int) -> Shapes:
    for name in names.qkv:
        yield from _linear(name, 3 * dim // len(names.qkv), dim)
    yield from _linear(names.attention_out, dim, dim)
    yield from _norm(names.attention_norm, dim)
    yield from [(f"{names.up}.weight", (2 * inner, dim))] if names.gated else _linear(names.up, inner, dim)
    yield from _linear(names.down, dim, inner)
    yield from _norm(names.mlp_norm, dim)


def _norm(name: str, dim: int) -> Shapes:
    yield f"{name}.weight", (dim,)
    yield f"{name}.bias", (dim,)


def _linear(name: str, outputs: int, inputs: int) -> Shapes:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)
