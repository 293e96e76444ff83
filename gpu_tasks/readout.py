"""What is taken out of a model: of which layers, and how a row's tokens become one vector or several."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

Pool = Literal["mean", "cls", "max", "last"]
EVERY_TOKEN = "none"


@dataclass(frozen=True, slots=True)
class Readout:
    """`layers` count from 0, the embeddings before the first layer; -1 is the last one.

    Without `pools` every token keeps its vector, special tokens left out: rows are ragged. With several
    pools or layers their vectors stand side by side in the row, layer by layer, in the order given.
    """

    layers: tuple[int, ...] = (-1,)
    pools: tuple[Pool, ...] = ("mean",)

    @property
    def is_ragged(self) -> bool:
        return not self.pools

    @property
    def num_vectors(self) -> int:
        """How many vectors stand side by side."""
        return len(self.layers) * max(len(self.pools), 1)

    @property
    def side_by_side(self) -> tuple[Pool, ...]:
        """The pool of each of them."""
        return self.pools * len(self.layers)


def parse_pools(text: str) -> tuple[Pool, ...]:
    """`mean`, `mean,cls`, or `none`, which gives (). Raises ValueError for anything else."""
    if text == EVERY_TOKEN:
        return ()
    names = text.split(",")
    for name in names:
        if name not in get_args(Pool) or names.count(name) > 1:
            raise ValueError(
                f"pool={text!r}: some of {', '.join(get_args(Pool))}, each once, or {EVERY_TOKEN} alone"
            )
    return cast("tuple[Pool, ...]", tuple(names))


def check_layers(layers: Sequence[int], num_layers: int) -> tuple[int, ...]:
    """The layers counted from 0. Raises ValueError for one that the model lacks, or that is named twice."""
    found = tuple(layer + num_layers + 1 if layer < 0 else layer for layer in layers)
    if not found or len(set(found)) < len(found) or not all(0 <= layer <= num_layers for layer in found):
        raise ValueError(
            f"layers={','.join(map(str, layers))}: name some of 0 (before the first layer) to {num_layers}, "
            "each once; -1 is the last"
        )
    return found
