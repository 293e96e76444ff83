"""The names and shapes of the weights of a T5's encoder, as transformers' T5EncoderModel calls them."""

from collections.abc import Iterator
from dataclasses import dataclass

from queue_app.model.spec import EncoderSpec

WORDS = "encoder.embed_tokens.weight"
"""What the encoder embeds with; where it is not stored, `shared.weight` is."""
SHARED = "shared.weight"
BIAS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias"
"""Stored with the first layer, and the bias of all."""
FINAL_NORM = "encoder.final_layer_norm"


@dataclass(frozen=True, slots=True)
class LayerNames:
    """How the parts of one layer are called; where it is gated, `up` are two."""

    qkv: tuple[str, ...]
    attention_out: str
    attention_norm: str
    up: tuple[str, ...]
    down: str
    mlp_norm: str


def layer_names(index: int, *, gated: bool) -> LayerNames:
    attention, mlp = (f"encoder.block.{index}.layer.{part}" for part in (0, 1))
    up = ("wi_0", "wi_1") if gated else ("wi",)
    return LayerNames(
        qkv=tuple(f"{attention}.SelfAttention.{name}" for name in "qkv"),
        attention_out=f"{attention}.SelfAttention.o",
        attention_norm=f"{attention}.layer_norm",
        up=tuple(f"{mlp}.DenseReluDense.{name}" for name in up),
        down=f"{mlp}.DenseReluDense.wo",
        mlp_norm=f"{mlp}.layer_norm",
    )


def weight_shapes(spec: EncoderSpec) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of all that is read, the word embeddings first. There are no biases."""
    dim, inner, width = spec.hidden_size, spec.intermediate_size, spec.num_heads * spec.head_dim
    yield WORDS, (spec.vocab_size, dim)
    yield f"{BIAS}.weight", (spec.num_buckets, spec.num_heads)
    for index in range(spec.num_layers):
        names = layer_names(index, gated=spec.gated)
        yield from ((f"{name}.weight", (width, dim)) for name in names.qkv)
        yield f"{names.attention_out}.weight", (dim, width)
        yield f"{names.attention_norm}.weight", (dim,)
        yield from ((f"{name}.weight", (inner, dim)) for name in names.up)
        yield f"{names.down}.weight", (dim, inner)
        yield f"{names.mlp_norm}.weight", (dim,)
    yield f"{FINAL_NORM}.weight", (dim,)
