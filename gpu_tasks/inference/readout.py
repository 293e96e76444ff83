"""What is taken out of a model: of which layers, and how a row's tokens become one vector or several."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from gpu_tasks.inference.rows import Int64s
from queue_app.model.spec import CONCATENATED, CONTACTS, Pool

EVERY_TOKEN = "none"


@dataclass(frozen=True, slots=True)
class Readout:
    """`layers` count from 0, the embeddings before the first layer; -1 is the last one.

    A pool is one of Pool, or several joined by `+`, which make one vector. Without `pools` every token keeps
    its vector, special tokens left out: rows are ragged. With several pools or layers their vectors stand
    side by side in the row, layer by layer, in the order given. With CONTACTS alone a row has a number for
    each pair of its tokens, row by row, special tokens left out: L * L vectors of one number.
    """

    layers: tuple[int, ...] = (-1,)
    pools: tuple[str, ...] = ("mean",)

    @property
    def is_ragged(self) -> bool:
        return not self.pools or self.is_contacts

    @property
    def is_contacts(self) -> bool:
        return self.pools == (CONTACTS,)

    @property
    def num_vectors(self) -> int:
        """How many vectors stand side by side."""
        return len(self.layers) * max(len(self.pools), 1)

    @property
    def side_by_side(self) -> tuple[str, ...]:
        """The pool of each of them."""
        return self.pools * len(self.layers)


@dataclass(frozen=True, slots=True)
class Left:
    """How many tokens of a row are not pooled: its special ones, and at a record's begin `num_lead` instead.

    Of these the first `num_prompt` are a prompt that is none of the text, so that `cls` begins behind it too.
    """

    num_prefix: int
    num_suffix: int
    num_lead: int
    num_prompt: int

    def pooled(self, starts: Int64s, ends: Int64s, lengths: Int64s) -> tuple[Int64s, Int64s]:
        """Of the places that rows own, from `starts` to `ends`, those that are pooled: int64[n] each."""
        last = np.minimum(ends, lengths - self.num_suffix)
        first = np.maximum(starts, np.where(starts == 0, self.num_lead, self.num_prefix))
        return np.minimum(first, last), last

    def first(self, starts: Int64s, lengths: Int64s) -> Int64s:
        """The place of the token that stands for the whole row."""
        return np.where((starts == 0) & (lengths > self.num_prompt), self.num_prompt, 0)


def joined_pools(pool: str) -> list[Pool]:
    """Those that make one vector."""
    return pool.split(CONCATENATED)  # type: ignore[return-value]


def parse_pools(text: str) -> tuple[str, ...]:
    """`mean`, `mean,cls`, `cls+mean`, `contacts`, or `none`, which gives (). Raises ValueError for others."""
    if text in (EVERY_TOKEN, CONTACTS):
        return () if text == EVERY_TOKEN else (CONTACTS,)
    pools = tuple(text.split(","))
    for pool in pools:
        if pools.count(pool) > 1 or not set(joined_pools(pool)) <= {*get_args(Pool)}:
            raise ValueError(
                f"pool={text!r}: some of {', '.join(get_args(Pool))}, each once, or {EVERY_TOKEN} alone, "
                f"or {CONTACTS} alone"
            )
    return pools


def check_layers(layers: Sequence[int], num_layers: int) -> tuple[int, ...]:
    """The layers counted from 0. Raises ValueError for one that the model lacks, or that is named twice."""
    found = tuple(layer + num_layers + 1 if layer < 0 else layer for layer in layers)
    if not found or len(set(found)) < len(found) or not all(0 <= layer <= num_layers for layer in found):
        raise ValueError(
            f"layers={','.join(map(str, layers))}: name some of 0 (before the first layer) to {num_layers}, "
            "each once; -1 is the last"
        )
    return found
