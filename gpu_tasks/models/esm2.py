"""ESM-2 on packed tokens (Lin et al. 2023, https://doi.org/10.1126/science.ade2574).

Reads the layout of transformers' EsmModel and EsmForMaskedLM. Pre-norm layers, rotary positions, exact
GELU, a final layer norm. ESM-1b (https://doi.org/10.1073/pnas.2016239118) and ESM-1v have learned positions
instead, and a layer norm on the embeddings.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gpu_tasks.errors import UnsupportedModel
from gpu_tasks.models.kernels.choose import choose_kernels
from gpu_tasks.models.layers import Kernels, Layer, LayerNorm, Packed, feed_forward, tap
from gpu_tasks.models.weights import Weights

_ROPE_THETA = 1e4
# Token dropout: ESM-2 trained with 15 % of the tokens selected and 80 % of those masked, and scales
# embeddings by what was left. Without <mask> in the input that is this constant:
# https://github.com/facebookresearch/esm/blob/main/esm/model/esm2.py
_KEPT_IN_TRAINING = 1 - 0.15 * 0.8

Watch = Callable[[int, Tensor, Tensor], None]
"""Is shown each layer, from 0, with its query and key as they meet: [T, heads, head_dim] each."""


@dataclass(frozen=True, slots=True, eq=False)
class Esm2:
    """The encoder. `embedding` is [vocabulary, dim], already scaled; `inv_freq` float32[head_dim / 2].

    With learned `positions` [places, dim] nothing is rotated.
    """

    num_heads: int
    embedding: Tensor
    positions: Tensor | None
    norm_before: LayerNorm | None
    inv_freq: Tensor
    layers: tuple[Layer, ...]
    norm: LayerNorm
    kernels: Kernels

    def __call__(self, packed: Packed, layers: tuple[int, ...], watch: Watch | None = None) -> list[Tensor]:
        """See Encoder."""
        return tap(self._states(packed, max(layers), watch), layers)

    def _states(self, packed: Packed, last: int, watch: Watch | None) -> Iterator[Tensor]:
        # The final layer norm belongs to the last layer, as in fair-esm and transformers.
        x = self._embed(packed)
        angles = self._angles(packed.positions, x.dtype) if self.positions is None else None
        norms = [layer.attention_norm for layer in self.layers] + [self.norm]
        add_norm, normed = self.kernels.add_norm, norms[0](x)
        for index, layer in enumerate(self.layers[:last]):
            yield x
            query, key, value = self._heads(layer, normed, angles)
            if watch is not None:
                watch(index, query, key)
            attended = layer.attention_out(self.kernels.attention(query, key, value, packed))
            x, normed = add_norm(x, attended, layer.mlp_norm)
            x, normed = add_norm(x, feed_forward(layer, normed), norms[index + 1])
        yield normed if last == len(self.layers) else x

    def _embed(self, packed: Packed) -> Tensor:
        x = functional.embedding(packed.input_ids, self.embedding)
        if self.positions is not None:
            x = x + functional.embedding(packed.positions, self.positions)
        return x if self.norm_before is None else self.norm_before(x)

    def _heads(
        self, layer: Layer, x: Tensor, angles: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        qkv = layer.qkv(x).view(len(x), 3, self.num_heads, -1)
        query, key = (qkv[:, :2] if angles is None else self.kernels.rotate(qkv[:, :2], *angles)).unbind(1)
        return query, key, qkv[:, 2]

    def _angles(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        angles = (positions[:, None].float() * self.inv_freq)[:, None, None, :]
        return angles.cos().to(dtype), angles.sin().to(dtype)


def load_esm2(weights: Weights) -> Esm2:
    """Raises ModelLoadError for missing or misshapen weights, UnsupportedModel for rotations of its own."""
    encoder = weights.encoder
    head_dim = encoder.hidden_size // encoder.num_heads
    return Esm2(
        num_heads=encoder.num_heads,
        embedding=weights.words(scale=_KEPT_IN_TRAINING if encoder.token_dropout else 1.0),
        positions=weights.positions() if encoder.learned_positions else None,
        norm_before=weights.norm("embeddings.layer_norm") if encoder.norm_before else None,
        inv_freq=_inv_freq(weights, head_dim).to(weights.device),
        layers=weights.layers(),
        norm=weights.norm("encoder.emb_layer_norm_after"),
        kernels=choose_kernels(weights, rotary=not encoder.learned_positions),
    )


def _inv_freq(weights: Weights, head_dim: int) -> Tensor:
    """As stored, where they are: the published half-precision weights were trained with rounded ones.

    As transformers' EsmModel.load_hook does.
    """
    names = sorted(name for name in weights.tensors if name.endswith("rotary_embeddings.inv_freq"))
    if not names:
        return _ROPE_THETA ** (-torch.arange(0, head_dim, 2) / head_dim)
    first, *others = (weights.tensors[name].float() for name in names)
    if first.shape != (head_dim // 2,) or not all(first.equal(each) for each in others):
        raise UnsupportedModel(f"{weights.spec.path}: the layers' rotary inv_freq differ, or are misshapen")
    return first
