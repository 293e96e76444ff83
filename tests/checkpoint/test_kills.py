"""A writer that is killed at any moment has lost nothing of what it acknowledged.

HOLDFAST_TEST_KILLS=200 makes it 200 kills.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from checkpoint import Block, CheckpointStore
from checkpoint.verify import verify_store
from tests.support import ROOT
from tests.support.blocks_and_stores import assert_same, make_block, open_store

KILLS = int(os.environ.get("HOLDFAST_TEST_KILLS", "8"))
SEED = 20261126
KILLS_OF_A_STORE = 8
LONGEST_SECONDS, LONGEST_OPENING_SECONDS = 0.25, 1.0
SHAPES = ((8, 120), (32, 504), (256, 1016))
"""Rows and dim of the blocks, in turn: 4 KiB, 64 KiB, 1 MiB."""
DROPPED = 7
"""Every so many commits one batch is dropped, so that the next commits write over freed pages."""

WRITER = """
import os, sys
from pathlib import Path
from tests.checkpoint.test_kills import batch, leaves
from tests.support.blocks_and_stores import open_store
path, token, first = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with open_store(path, token=token, map_size=1 << 20) as store:
    for index in range(first, 10**9):
        store.commit([batch(index)], token=token)
        if leaves(index):
            store.drop([index], token=token)
        os.write(1, b"%d\\n" % index)
"""


def batch(index: int) -> Block:
    """Drawn once for each shape, so that the writer commits as fast as it can; ordinals tell them apart."""
    rows, dim = SHAPES[index % len(SHAPES)]
    if (rows, dim) not in _drawn:
        _drawn[rows, dim] = make_block(0, count=rows, dim=dim)
    ordinals = np.arange(rows, dtype=np.uint64) + np.uint64(index * rows)
    return Block(index, ordinals, _drawn[rows, dim].embeddings)


_drawn: dict[tuple[int, int], Block] = {}


def leaves(index: int) -> bool:
    """Whether a batch is dropped again before it is acknowledged."""
    return index % DROPPED == 0


def killed_writer(path: Path, token: int, first: int, seconds: float, *, open_at_least: bool) -> list[int]:
    """What it acknowledged before it was killed so long after its first commit, or after its start."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WRITER, str(path), str(token), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline())] if open_at_least else []
        time.sleep(seconds)
        writer.kill()
        # A line is one write of few bytes: it arrives whole or not at all.
        acknowledged += map(int, writer.stdout.read().split())
    assert writer.returncode == -signal.SIGKILL
    return acknowledged


@pytest.mark.timeout(60 + 10 * KILLS)
def test_a_writer_killed_at_any_moment_has_lost_nothing_it_acknowledged(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    for number in range(-(-KILLS // KILLS_OF_A_STORE)):
        kill_writers_of(tmp_path / f"{number:05}.lmdb", min(KILLS, KILLS_OF_A_STORE), rng)


def kill_writers_of(path: Path, kills: int, rng: random.Random) -> None:
    """One after the other, each going on where the one before it was killed; every third while it opens."""
    kept, first = frozenset[int](), 0
    for token in range(1, kills + 1):
        opening = token % 3 == 0
        seconds = rng.uniform(0, LONGEST_OPENING_SECONDS if opening else LONGEST_SECONDS)
        acknowledged = killed_writer(path, token, first, seconds, open_at_least=not opening)
        report = verify_store(path)
        assert report.sound, report
        assert report.token == token or not acknowledged
        under_way = first + len(acknowledged)
        kept = check(path, kept | {index for index in acknowledged if not leaves(index)}, under_way)
        first = under_way + 1
    with open_store(path, token=kills + 1) as store:
        assert store.committed() == kept


def check(path: Path, kept: frozenset[int], under_way: int) -> frozenset[int]:
    """What is there: all that was acknowledged, at most the batch more that was under way, byte for byte."""
    with CheckpointStore.open_readonly(path) as store:
        found = store.committed()
        assert kept <= found
        assert found - kept <= {under_way}
        for block in store.blocks():
            assert_same(block, batch(block.batch_idx))
    return found
