"""Blocks and stores for the tests of the checkpoint package."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from checkpoint import Block, CheckpointStore, encode

JOB = bytes(range(16))
PLAN = "plan-1"
LARGE = {"count": 64, "dim": 32}
"""Large enough for LMDB to give such a block pages of its own."""


def make_block(batch_idx: int, *, count: int = 8, dim: int = 16) -> Block:
    """A block whose numbers follow from its index."""
    ordinals = np.arange(count, dtype=np.uint64) + np.uint64(batch_idx * count)
    embeddings = np.random.default_rng(batch_idx).standard_normal((count, dim)).astype(np.float32)
    return Block(batch_idx, ordinals, embeddings)


def make_ragged(
    batch_idx: int, ordinals: Sequence[int], matrices: Sequence[np.ndarray], *, split: bool = False
) -> Block:
    """A block of one [L_i, dim] matrix per ordinal."""
    offsets = np.zeros(len(matrices) + 1, np.uint64)
    np.cumsum([len(matrix) for matrix in matrices], out=offsets[1:])
    return Block(batch_idx, np.asarray(ordinals, np.uint64), np.concatenate(matrices), split, offsets)


def open_store(
    path: Path, *, token: int = 1, job_digest: bytes = JOB, plan: str = PLAN, **more: Any
) -> CheckpointStore:
    return CheckpointStore.open(path, job_digest=job_digest, plan=plan, token=token, **more)


def scan(store: CheckpointStore) -> Iterator[tuple[int, Block | None]]:
    """Every committed batch in order, None in the place of a damaged one; valid until the next one."""
    with store.snapshot() as snapshot:
        yield from snapshot.scan()


def assert_same(left: Block, right: Block) -> None:
    assert left.batch_idx == right.batch_idx
    assert left.split == right.split
    np.testing.assert_array_equal(left.ordinals, right.ordinals)
    assert left.embeddings.dtype == right.embeddings.dtype
    assert left.embeddings.tobytes() == right.embeddings.tobytes()
    assert left.embeddings.shape == right.embeddings.shape
    assert (left.offsets is None) == (right.offsets is None)
    if left.offsets is not None and right.offsets is not None:
        np.testing.assert_array_equal(left.offsets, right.offsets)


def damage_block(store_path: Path, batch_idx: int) -> None:
    """Flip one bit in the middle of a committed block, in every copy that LMDB's pages still hold of it."""
    with CheckpointStore.open_readonly(store_path) as store:
        written = encode(store.read(batch_idx), store.job_digest())
    damaged = bytearray(written)
    damaged[len(damaged) // 2] ^= 1
    data = store_path / "data.mdb"
    content = data.read_bytes()
    assert written in content
    data.write_bytes(content.replace(written, damaged))
