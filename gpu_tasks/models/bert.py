"""BERT and its like (MiniLM, BGE, E5, GTE) on packed tokens (https://arxiv.org/abs/1810.04805).

Post-norm layers, absolute positions, exact GELU. RoBERTa (https://arxiv.org/abs/1907.11692), XLM-RoBERTa and
CamemBERT differ in where their positions begin. `bias` and `mlp` are for the descendants that are not.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from gpu_tasks.models.kernels.choose import choose_kernels
from gpu_tasks.models.layers import Attention, Bias, Kernels, Layer, LayerNorm, Packed, feed_forward, tap
from gpu_tasks.models.weight_names import TOKEN_TYPES
from gpu_tasks.models.weights import Weights


@dataclass(frozen=True, slots=True, eq=False)
class Bert:
    """The encoder. `positions` [places, dim] holds the embedding of the token type as well.

    Where there are no positions, `words` [vocabulary, dim] holds it.
    """

    num_heads: int
    words: Tensor
    positions: Tensor | None
    norm: LayerNorm
    layers: tuple[Layer, ...]
    kernels: Kernels
    bias: Bias | None = None
    mlp: Callable[[Layer, Tensor], Tensor] = feed_forward

    def __call__(self, packed: Packed, layers: tuple[int, ...]) -> list[Tensor]:
        """See Encoder."""
        return tap(self._states(packed, max(layers)), layers)

    def _states(self, packed: Packed, last: int) -> Iterator[Tensor]:
        x = functional.embedding(packed.input_ids, self.words)
        if self.positions is not None:
            x = x + functional.embedding(packed.positions, self.positions)
        x, attention = self.norm(x), self._attention(packed)
        for layer in self.layers[:last]:
            yield x
            x = self.kernels.norm_sum(x, self._attend(layer, x, packed, attention), layer.attention_norm)
            x = self.kernels.norm_sum(x, self.mlp(layer, x), layer.mlp_norm)
        yield x

    def _attention(self, packed: Packed) -> Attention:
        return self.kernels.attention if self.bias is None else self.kernels.biased(packed, self.bias)

    def _attend(self, layer: Layer, x: Tensor, packed: Packed, attention: Attention) -> Tensor:
        query, key, value = layer.qkv(x).view(len(x), 3, self.num_heads, -1).unbind(1)
        return layer.attention_out(attention(query, key, value, packed))


def load_bert(weights: Weights) -> Bert:
    """Raises ModelLoadError for missing or misshapen weights."""
    return Bert(
        num_heads=weights.encoder.num_heads,
        words=weights.words(),
        positions=weights.positions() + token_type(weights),
        norm=weights.norm("embeddings.LayerNorm"),
        layers=weights.layers(),
        kernels=choose_kernels(weights),
    )


def token_type(weights: Weights) -> Tensor:
    """The embedding of the one type that all tokens have."""
    encoder = weights.encoder
    return weights.tensor(TOKEN_TYPES, encoder.num_token_types, encoder.hidden_size)[encoder.token_type]
