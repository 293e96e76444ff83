"""Puts a sequence into random companies, and compares its vector with the one that it has alone."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from gpu_tasks.inference.batch_plan import TokenBatch
from gpu_tasks.inference.exact_shapes import ExactShapes
from gpu_tasks.inference.model import Dtype, EmbeddingModel
from gpu_tasks.inference.out_of_memory import _in_halves
from gpu_tasks.inference.readout import parse_pools
from gpu_tasks.inference.rows import split_rows
from gpu_tasks.model_directory.reader import read_model
from gpu_tasks.models.loading import load
from tests.campaigns.companies.models import Kind

BUDGET = 1024
LENGTHS = (1, 2, 3, 4, 5, 7, 8, 11, 13, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 200, 300, 480)
"""Of the sequences that are watched, in tokens without special ones."""
READOUTS = (("mean", (0, 1, -1)), ("cls,max,last,mean_sqrt_len,weighted_mean", (-1,)), ("none", (-1,)))
"""Pools and layers, one after the other."""


@dataclass(frozen=True, slots=True)
class Report:
    """Of so many companies, those in which a vector had other bits: the tokens of its sequence."""

    num_companies: int
    differing: tuple[int, ...]


def load_exact_model(
    directory: Path, dtype: Dtype, threads: int, pool: str, layers: Sequence[int], *, exact: bool = True
) -> EmbeddingModel:
    reading = read_model(directory)
    shapes = ExactShapes(BUDGET, None, threads) if exact else None
    return load(
        reading.spec, reading.tokenizer, dtype=dtype, pools=parse_pools(pool), layers=layers, threads=threads,
        shapes=shapes,
    )  # fmt: skip


def campaign(
    directory: Path, kind: Kind, dtype: Dtype, threads: int, number: int, seed: int, *, exact: bool = True
) -> Report:
    """Random companies of random sequences: ordered as planned or not, whole or in halves."""
    differing = list[int]()
    threads_before = torch.get_num_threads()
    try:
        for place, (pool, layers) in enumerate(READOUTS):
            model = load_exact_model(directory, dtype, threads, pool, layers, exact=exact)
            chosen, share = random.Random(f"{seed} {place}"), number // len(READOUTS)
            share += place < number % len(READOUTS)
            differing += _differing(model, kind, chosen, share)
    finally:
        torch.set_num_threads(threads_before)
    return Report(number, tuple(differing))


def _differing(model: EmbeddingModel, kind: Kind, chosen: random.Random, number: int) -> Iterator[int]:
    watched = [_rows(model, kind, chosen, [length])[0] for length in LENGTHS]
    alone = dict[int, bytes]()
    for _ in range(number):
        place = chosen.randrange(len(watched))
        if place not in alone:
            alone[place] = _compute(model, [watched[place]])[0].tobytes()
        rows = [watched[place], *_rows(model, kind, chosen, _mates(chosen, BUDGET - len(watched[place])))]
        order = [*range(len(rows))]
        chosen.shuffle(order)
        if chosen.random() < 0.5:
            order.sort(key=lambda each: -len(rows[each]))
        found = _compute(model, [rows[each] for each in order], halved=chosen.random() < 0.2)
        if found[order.index(0)].tobytes() != alone[place]:
            yield len(watched[place])


def _mates(chosen: random.Random, room: int) -> list[int]:
    """Lengths without special tokens: from none at all to a full batch."""
    most, found = chosen.choice([3, 20, 100, 480]), list[int]()
    for _ in range(chosen.choice([0, 1, 2, 3, 5, 8, 13, 21])):
        length = chosen.randint(1, most)
        if (room := room - length - 3) < 0:
            break
        found.append(length)
    return found


def _rows(
    model: EmbeddingModel, kind: Kind, chosen: random.Random, lengths: Sequence[int]
) -> list[npt.NDArray[np.int64]]:
    texts = [kind.between.join(chosen.choices(kind.letters, k=length)) for length in lengths]
    return [
        np.concatenate([model.prefix, ids, model.suffix]).astype(np.int64) for ids in model.tokenize(texts)
    ]


def _compute(
    model: EmbeddingModel, rows: Sequence[npt.NDArray[np.int64]], *, halved: bool = False
) -> list[npt.NDArray[np.floating]]:
    """Each row's vectors, from one batch or from its two halves."""
    lengths = np.array([len(row) for row in rows])
    batch = TokenBatch(
        batch_idx=0,
        ordinals=np.arange(len(rows), dtype=np.uint64),
        input_ids=np.concatenate(rows),
        cu_seqlens=np.array([*accumulate(lengths, initial=0)], dtype=np.int32),
        max_seqlen=int(lengths.max()),
        owned_starts=np.zeros(len(rows), np.int64),
        owned_ends=lengths,
        of_windows=False,
    )
    halved = halved and len(rows) > 1
    fetched = _in_halves(model, batch, "float32") if halved else model.stage(batch).launch("float32").wait()
    return [*split_rows(fetched.embeddings, fetched.offsets)]
