"""Holdfast as `holdfast embed` runs small models on the CPU: a process per core, each shard to a free one."""

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.throughput.ours import Ours, shard_bounds
from benchmarks.throughput.rounds import System, Vectors

_ours: Ours


@contextmanager
def workers(path: Path, dtype: str, num_processes: int) -> Iterator[System]:
    """Each process has one thread and has loaded the model before the first call."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(num_processes, initializer=_load, initargs=(path, dtype)) as pool:

        def embed(sequences: Sequence[str]) -> Vectors:
            bounds = shard_bounds(sequences)
            shards = [sequences[first:last] for first, last in pairwise(bounds)]
            return np.concatenate(list(pool.imap(_embed, shards)))

        yield System(f"Holdfast, {num_processes} workers", dtype, embed, ours=True)


def _load(path: Path, dtype: str) -> None:
    global _ours
    _ours = Ours.load(path, dtype=dtype, threads=1)


def _embed(sequences: Sequence[str]) -> Vectors:
    return _ours.embed(sequences)
