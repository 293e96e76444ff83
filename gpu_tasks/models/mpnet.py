"""MPNet (https://arxiv.org/abs/2004.09297) on packed tokens: BERT with a bias by the distance of two tokens.

Reads the layout of transformers' MPNetModel. Positions begin behind the padding, as RoBERTa's do, and there
are no token types; all layers share one bias.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gpu_tasks.models.bert import Bert
from gpu_tasks.models.kernels.choose import choose_kernels
from gpu_tasks.models.t5.buckets import buckets
from gpu_tasks.models.weight_names import NUM_BUCKETS, RELATIVE_BIAS
from gpu_tasks.models.weights import Weights

_FARTHEST = 128
"""All that is at least so far apart shares a bucket."""


@dataclass(frozen=True, slots=True, eq=False)
class RelativeBias:
    """A learned bias. `by_offset` is [heads, 257], for keys from 128 before the query to 128 behind it."""

    by_offset: Tensor

    def __call__(self, length: int) -> Tensor:
        places = torch.arange(length, device=self.by_offset.device)
        offsets = (places - places[:, None]).clamp(-_FARTHEST, _FARTHEST) + _FARTHEST
        return self.by_offset[:, offsets]

    def for_offsets(self, length: int) -> Tensor:
        """See Bias."""
        return self.by_offset


def load_mpnet(weights: Weights) -> Bert:
    """Raises ModelLoadError for missing or misshapen weights."""
    num_heads = weights.encoder.num_heads
    by_bucket = weights.tensor(RELATIVE_BIAS, NUM_BUCKETS, num_heads)
    return Bert(
        num_heads=num_heads,
        words=weights.words(),
        positions=weights.positions(),
        norm=weights.norm("embeddings.LayerNorm"),
        layers=weights.layers(),
        kernels=choose_kernels(weights, biased=True),
        bias=RelativeBias(by_bucket[buckets(NUM_BUCKETS, _FARTHEST)].T.contiguous()),
    )
