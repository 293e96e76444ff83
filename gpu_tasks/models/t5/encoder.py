"""T5's encoder on packed tokens (https://arxiv.org/abs/1910.10683).

Pre-norm layers without biases, root mean square norms, attention without a scale and with a bias by distance
that all layers share. The feed-forward has a ReLU, as in ProtT5 (https://doi.org/10.1109/TPAMI.2021.3095381),
or a gate of the approximate GELU, as from version 1.1 on and in Ankh (https://arxiv.org/abs/2301.06568).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from gpu_tasks.models.layers import Packed, Project, tap
from gpu_tasks.models.t5.attention import BiasLines, attend_with_lines, bias_lines
from gpu_tasks.models.t5.buckets import buckets
from gpu_tasks.models.t5.weight_names import BIAS, FINAL_NORM, WORDS, layer_names
from gpu_tasks.models.weights import Weights
from queue_app.model.spec import Activation

_ACTIVATIONS: Mapping[Activation, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
}


@dataclass(frozen=True, slots=True, eq=False)
class RmsNorm:
    """Root mean square norm (https://arxiv.org/abs/1910.07467), its mean square in float32."""

    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        mean_square = x.float().square().mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(mean_square + self.eps)).to(self.weight.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class T5Layer:
    """The weights of one layer. Where the feed-forward is gated, `up` has its outputs twice."""

    qkv: Project
    attention_out: Project
    attention_norm: RmsNorm
    up: Project
    down: Project
    mlp_norm: RmsNorm


@dataclass(frozen=True, slots=True, eq=False)
class T5:
    """The encoder. `words` is [vocabulary, dim], `by_offset` the bias as in bias_lines.

    `stream` is the dtype of what the layers add up. Of a float16 model it is float32, and so is `down`: the
    sums outgrow float16, and transformers keeps them so as well
    (https://github.com/huggingface/transformers/issues/20287).
    """

    num_heads: int
    words: Tensor
    layers: tuple[T5Layer, ...]
    norm: RmsNorm
    by_offset: Tensor
    activation: Callable[[Tensor], Tensor]
    gated: bool
    stream: torch.dtype

    def __call__(self, packed: Packed, layers: tuple[int, ...]) -> list[Tensor]:
        """See Encoder."""
        return tap(self._states(packed, max(layers)), layers)

    def _states(self, packed: Packed, last: int) -> Iterator[Tensor]:
        # The final norm belongs to the last layer, as in transformers.
        x = functional.embedding(packed.input_ids, self.words).to(self.stream)
        bias = bias_lines(self.by_offset, packed.max_seqlen)
        for layer in self.layers[:last]:
            yield x
            x = x + self._attend(layer, layer.attention_norm(x), packed, bias)
            x = x + self._feed_forward(layer, layer.mlp_norm(x))
        yield self.norm(x) if last == len(self.layers) else x

    def _attend(self, layer: T5Layer, x: Tensor, packed: Packed, bias: BiasLines) -> Tensor:
        query, key, value = layer.qkv(x).view(len(x), 3, self.num_heads, -1).unbind(1)
        return layer.attention_out(attend_with_lines(query, key, value, packed, bias))

    def _feed_forward(self, layer: T5Layer, x: Tensor) -> Tensor:
        inner = layer.up(x)
        if self.gated:
            gate, inner = inner.chunk(2, dim=-1)
            inner = self.activation(gate) * inner
        else:
            inner = self.activation(inner)
        return layer.down(inner.to(self.stream))


def load_t5(weights: Weights) -> T5:
    """Raises ModelLoadError for missing or misshapen weights."""
    spec = weights.encoder
    stream = torch.float32 if weights.dtype == torch.float16 else weights.dtype
    by_bucket = weights.tensor(f"{BIAS}.weight", spec.num_buckets, spec.num_heads)
    by_offset = by_bucket[buckets(spec.num_buckets, spec.farthest)].T.contiguous()
    return T5(
        num_heads=spec.num_heads,
        words=weights.tensor(WORDS, spec.vocab_size, spec.hidden_size),
        layers=tuple(_layer(weights, index, stream) for index in range(spec.num_layers)),
        norm=_norm(weights, FINAL_NORM),
        by_offset=by_offset,
        activation=_ACTIVATIONS[spec.activation],
        gated=spec.gated,
        stream=stream,
    )


def _layer(weights: Weights, index: int, stream: torch.dtype) -> T5Layer:
    spec = weights.encoder
    dim, inner, width = spec.hidden_size, spec.intermediate_size, spec.num_heads * spec.head_dim
    names = layer_names(index, gated=spec.gated)
    return T5Layer(
        qkv=weights.linear(*names.qkv, inputs=dim, outputs=width),
        attention_out=weights.linear(names.attention_out, inputs=width, outputs=dim),
        attention_norm=_norm(weights, names.attention_norm),
        up=weights.linear(*names.up, inputs=dim, outputs=inner),
        down=replace(weights, dtype=stream).linear(names.down, inputs=inner, outputs=dim),
        mlp_norm=_norm(weights, names.mlp_norm),
    )


def _norm(weights: Weights, name: str) -> RmsNorm:
    spec = weights.encoder
    return RmsNorm(weights.tensor(f"{name}.weight", spec.hidden_size), spec.layer_norm_eps)
