"""The processes that are recorded. Each tells the file MARKS what is acknowledged, as soon as it is.

    python -m tests.campaigns.power_loss.writers MARKS store PATH SHAPE [WITHOUT...]     commits to a store
    python -m tests.campaigns.power_loss.writers MARKS shard JOB_DIR [WITHOUT...]        publishes one shard

WITHOUT names what is switched off, to be found missing: LMDB's settings sync and metasync, and fsync, all
calls of os.fsync.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lmdb

from checkpoint import Block, CheckpointStore, CheckpointTrigger, CheckpointWriter
from tests.campaigns.power_loss.shapes import SHAPES, Drop, Shape, State
from tests.support.blocks_and_stores import make_block, open_store

TOKEN = 1


class Marks:
    """One write a mark, so that it stands in the record at the moment of the acknowledgement."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def tell(self, **what: Any) -> None:
        os.write(self._descriptor, json.dumps(what).encode())


def write_store(marks: Marks, path: Path, shape: Shape) -> None:
    with open_store(path, token=TOKEN, map_size=shape.map_size) as store:
        marks.tell(**State().as_json())
        if shape.threaded:
            write_from_a_thread(marks, store, shape)
        else:
            write_in_steps(marks, store, shape)


def write_in_steps(marks: Marks, store: CheckpointStore, shape: Shape) -> None:
    """One transaction after the other."""
    for step, state in zip(shape.steps, shape.states(), strict=True):
        if isinstance(step, Drop):
            store.drop(step.batches, token=TOKEN)
        else:
            store.commit(blocks_of(shape, step.batches), token=TOKEN, quarantine=step.quarantine)
        marks.tell(**state.as_json())


def write_from_a_thread(marks: Marks, store: CheckpointStore, shape: Shape) -> None:
    """As a worker does: which batches share a commit is up to the commit thread."""
    acknowledged: set[int] = set()

    def tell(batches: Sequence[int]) -> None:
        acknowledged.update(batches)
        marks.tell(**State(frozenset(acknowledged)).as_json())

    trigger = CheckpointTrigger(sequences=2 * shape.rows, seconds=3600)
    with CheckpointWriter(store, token=TOKEN, trigger=trigger, on_commit=tell) as writer:
        for step in shape.steps:
            for block in blocks_of(shape, step.batches):
                writer.put(block)


def blocks_of(shape: Shape, batches: Sequence[int]) -> list[Block]:
    """Every third was computed in parts."""
    blocks = [make_block(index, count=shape.rows, dim=shape.dim) for index in batches]
    return [replace(block, split=block.batch_idx % 3 == 0) for block in blocks]


def write_shard(marks: Marks, directory: Path) -> None:
    """A whole attempt at a shard as the worker makes it, the removal of the checkpoints included."""
    from tests.campaigns.power_loss.shard import shard_run

    run = shard_run(directory, TOKEN, report=lambda progress: marks.tell(batches_done=progress.batches_done))
    done = run.run()
    assert done is not None
    marks.tell(published=done.file)
    run.discard_store()
    marks.tell(discarded=True)


def main(marks: str, kind: str, path: str, *more: str) -> None:
    switch_off(set(more) & {"sync", "metasync", "fsync"})
    if kind == "shard":
        write_shard(Marks(Path(marks)), Path(path))
    else:
        write_store(Marks(Path(marks)), Path(path), SHAPES[more[0]])


def switch_off(without: set[str]) -> None:
    if "fsync" in without:
        os.fsync = lambda fd: None
    lmdb.open = partial(_open_without, lmdb.open, without - {"fsync"})  # type: ignore[assignment]


def _open_without(real: Any, without: set[str], *arguments: Any, **settings: Any) -> Any:
    return real(*arguments, **{**settings, **dict.fromkeys(without, False)})


if __name__ == "__main__":
    main(*sys.argv[1:])
