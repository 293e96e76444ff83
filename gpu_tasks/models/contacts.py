"""Contacts from the attention maps of an ESM-2 (Rao et al. 2020, https://doi.org/10.1101/2020.12.15.422761).

The maps A of all layers and heads, without <cls> and <eos>, are made symmetric, S = A + A^T, corrected for
what each residue has on average (average product correction, Dunn et al. 2008,
https://doi.org/10.1093/bioinformatics/btm604), and weighed by a logistic regression:

    p = sigmoid(bias + sum over heads of weight * (S - r r^T / sum(r))),    r = the sums of the rows of S

As this is a sum over heads, each layer adds to one [L, L] for each row, and only the maps of one layer and
one row are ever held. What is added is half of it, and the other half its transpose at the end: so the result
is symmetric to the bit.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gpu_tasks.errors import UnsupportedModel
from gpu_tasks.models.esm2 import Esm2, load_esm2
from gpu_tasks.models.layers import Packed
from gpu_tasks.models.weights import Weights
from queue_app.model.spec import ModelSpec

WEIGHT, BIAS = "contact_head.regression.weight", "contact_head.regression.bias"


@dataclass(frozen=True, slots=True, eq=False)
class ContactMaps:
    """The probability that two residues touch. `weight` [layers, heads] and `bias` [1] are float32, and so is
    all that is computed of query and key, whatever the encoder's dtype."""

    encoder: Esm2
    weight: Tensor
    bias: Tensor

    def __call__(self, packed: Packed) -> list[Tensor]:
        """float32 [L, L] for each row, special tokens left out; each is computed by itself."""
        lengths = [length for count, length in packed.runs for _ in range(count)]
        # A row that fills a batch may be shorter than the special tokens.
        sizes = [max(length - 2, 0) for length in lengths]
        halves = [self.weight.new_zeros(size, size) for size in sizes]

        def add_layer(layer: int, query: Tensor, key: Tensor) -> None:
            rows = zip(halves, torch.split(query, lengths), torch.split(key, lengths), strict=True)
            for half, row_query, row_key in rows:
                half += half_of_layer(row_query, row_key, self.weight[layer])

        self.encoder(packed, (len(self.weight),), add_layer)
        return [_mirrored(torch.sigmoid(half + half.T + self.bias)) for half in halves]


def _mirrored(maps: Tensor) -> Tensor:
    """Its upper half on both sides: a sigmoid's last bit may depend on where in memory its value stands."""
    return torch.triu(maps) + torch.triu(maps, diagonal=1).T


def half_of_layer(query: Tensor, key: Tensor, weight: Tensor) -> Tensor:
    """What a layer adds to a row's logits: this [L, L] and its transpose.

    Args:
        query, key: [L + 2, heads, head_dim], the first and the last token special ones.
        weight: float32 [heads].
    """
    scaled = query.transpose(0, 1).float() * query.shape[-1] ** -0.5
    maps = torch.softmax(scaled @ key.permute(1, 2, 0).float(), dim=-1)
    # Weighed before the special tokens are cut off: a product with a cut copy would be held beside it.
    weighed = (weight @ maps.flatten(1)).view(maps.shape[1:])[1:-1, 1:-1]
    residues = maps[:, 1:-1, 1:-1]
    sums = residues.sum(dim=1) + residues.sum(dim=2)
    shares = weight / sums.sum(dim=1)
    return weighed - 0.5 * (sums * shares[:, None]).T @ sums


def require_contacts(spec: ModelSpec) -> None:
    """Raises UnsupportedModel for a model without a head for them."""
    if spec.family != "esm2":
        raise UnsupportedModel(f"{spec.path}: only of an ESM-2, ESM-1b or ESM-1v contacts can be predicted")


def load_contacts(weights: Weights) -> ContactMaps:
    """Raises ModelLoadError where the directory has no contact head, and as `load_esm2`."""
    exact, encoder = replace(weights, dtype=torch.float32), weights.encoder
    shape = encoder.num_layers, encoder.num_heads
    weight, bias = exact.tensor(WEIGHT, 1, shape[0] * shape[1]), exact.tensor(BIAS, 1)
    return ContactMaps(load_esm2(weights), weight.view(shape), bias)
