"""How fast rows come to the disk and back, way beside way."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.storage.ways import TORCH, WAYS, Commit, Way, read_every_byte, store_in_blocks_of
from checkpoint import CheckpointStore

ROWS_PER_COMMIT = 10_000


@dataclass(frozen=True, slots=True)
class Shape:
    """So many rows of one dtype and width."""

    dtype: str
    dim: int
    num_rows: int

    @property
    def raw_bytes(self) -> int:
        return self.num_rows * self.dim * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{self.dtype}[{self.dim}]"

    def commits(self, rows_per_commit: int = ROWS_PER_COMMIT) -> Iterator[Commit]:
        """Random numbers, which nothing can compress; the same ones in each commit."""
        vectors = np.random.default_rng(0).standard_normal((rows_per_commit, self.dim)).astype(self.dtype)
        for first in range(0, self.num_rows, rows_per_commit):
            ordinals = np.arange(first, min(first + rows_per_commit, self.num_rows), dtype=np.uint64)
            yield ordinals, vectors[: len(ordinals)]


@dataclass(slots=True)
class Measured:
    """Of one way and shape: a figure per round."""

    write_mb: list[float] = field(default_factory=list)
    """raw megabytes per second"""
    read_mb: list[float] = field(default_factory=list)
    size_ratio: float = 0.0
    """bytes on disk over the raw vectors"""


def compare(home: Path, shape: Shape, rounds: int) -> dict[str, Measured]:
    """Every way once a round, each round beginning with another one."""
    found = {way.name: Measured() for way in WAYS}
    commits = list(shape.commits())
    for number in range(rounds):
        turn = number % len(WAYS)
        for way in (*WAYS[turn:], *WAYS[:turn]):
            measure(home, shape, commits, way, found[way.name])
    return found


def measure(home: Path, shape: Shape, commits: list[Commit], way: Way, into: Measured) -> None:
    directory = home / "rows"
    directory.mkdir()
    os.sync()  # what an earlier way left behind is not to be paid by this one
    try:
        into.write_mb.append(shape.raw_bytes / 1e6 / seconds_of(lambda: way.write(directory, commits)))
        os.sync()
        into.size_ratio = size_bytes(directory) / shape.raw_bytes
        into.read_mb.append(shape.raw_bytes / 1e6 / seconds_of(lambda: read_every_byte(way, directory)))
    finally:
        shutil.rmtree(directory)


def ratios(found: dict[str, Measured], name: str, beside: str = TORCH.name) -> list[float]:
    pairs = zip(found[name].write_mb, found[beside].write_mb, strict=True)
    return [ours / theirs for ours, theirs in pairs]


@dataclass(frozen=True, slots=True)
class BatchSize:
    """What blocks of so many rows cost, and commits of so many."""

    rows_per_block: int
    rows_per_commit: int
    block_bytes: int
    write_mb: float
    size_ratio: float


def batch_sizes(home: Path, shape: Shape, rounds: int) -> list[BatchSize]:
    """Blocks of 8 to 1,024 rows in large commits, and commits of 64 rows."""
    found = []
    for rows_per_block, rows_per_commit in (
        (8, ROWS_PER_COMMIT), (64, ROWS_PER_COMMIT), (256, ROWS_PER_COMMIT), (1024, ROWS_PER_COMMIT),
        (64, 64), (512, 512),
    ):  # fmt: skip
        commits = list(shape.commits(rows_per_commit))
        way = Way("", store_in_blocks_of(rows_per_block), lambda _: iter(()))
        measured = Measured()
        for _ in range(rounds):
            measure(home, shape, commits, way, measured)
        raw_bytes = rows_per_block * shape.raw_bytes // shape.num_rows
        rate, size = median(measured.write_mb), measured.size_ratio
        found.append(BatchSize(rows_per_block, rows_per_commit, raw_bytes, rate, size))
    return found


@dataclass(frozen=True, slots=True)
class Resume:
    """What it takes to go on with a store of many committed records, in seconds but for `verify_mb`."""

    num_rows: int
    num_blocks: int
    open_seconds: float
    committed_seconds: float
    ordinals_seconds: float
    first_find_seconds: float
    find_seconds: float
    verify_mb: float
    verify_in_child_seconds: float


def resume(home: Path, shape: Shape, rows_per_block: int, rounds: int) -> Resume:
    """Of warm data: the store was read once before."""
    from checkpoint.verify import verify_store

    directory = home / "rows"
    directory.mkdir()
    path = directory / "store"
    try:
        store_in_blocks_of(rows_per_block)(directory, shape.commits())
        with CheckpointStore.open_readonly(path) as store, store.snapshot() as snapshot:
            sum(block is not None for _, block in snapshot.scan())
        opening, scanning, listing, verifying, finding, finding_first = [], [], [], [], [], []
        for token in range(2, 2 + rounds):
            started = time.perf_counter()
            store = CheckpointStore.open(path, job_digest=bytes(16), plan="p", token=token)
            opening.append(time.perf_counter() - started)
            with store:
                scanning.append(seconds_of(store.committed))
                with store.snapshot() as snapshot:
                    verifying.append(seconds_of(lambda: sum(1 for _ in snapshot.blocks())))
                    listing.append(seconds_of(snapshot.ordinals))
                    finding_first.append(seconds_of(lambda: snapshot.find(7)))
                    some = range(0, shape.num_rows, shape.num_rows // 100)
                    finding.append(seconds_of(lambda: [snapshot.find(each) for each in some]) / 100)  # noqa: B023
                num_blocks = len(store.committed())
        child = median(seconds_of(lambda: verify_store(path)) for _ in range(rounds))
    finally:
        shutil.rmtree(directory)
    return Resume(
        shape.num_rows, num_blocks, median(opening), median(scanning), median(listing),
        median(finding_first), median(finding), shape.raw_bytes / 1e6 / median(verifying), child,
    )  # fmt: skip


def seconds_of(action: Callable[[], Any]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def size_bytes(directory: Path) -> int:
    """What the disk holds, holes left out."""
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())
