"""What a worker's child is at, in memory that its parent shares: who died before it had a shard cannot tell.

Written by the child alone; read by the parent when the child has ended.
"""

import contextlib
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

_LAYOUT = struct.Struct("<QQ64s")  # process, stage, job id


class Stage(IntEnum):
    """Where a child stands."""

    STARTING = 0
    IDLE = 1
    GETTING_READY = 2
    AT_WORK = 3
    TOLD = 4
    """It ends, and has said why."""


@dataclass(frozen=True, slots=True)
class LastStage:
    """Where a child was last seen; `job_id` is empty where no job had to do with it."""

    stage: Stage
    job_id: str = ""


class StageBoard:
    """Make it before the fork."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _LAYOUT.size)

    def set(self, stage: Stage, job_id: str = "") -> None:
        _LAYOUT.pack_into(self._memory, 0, os.getpid(), stage, job_id.encode()[:64])

    @contextlib.contextmanager
    def during(self, stage: Stage, job_id: str) -> Iterator[None]:
        """What is done within belongs to the job; afterwards the child is idle."""
        self.set(stage, job_id)
        try:
            yield
        finally:
            self.set(Stage.IDLE)

    def of(self, pid: int) -> LastStage:
        """Where this process was last; one that has written nothing was still starting."""
        writer, stage, job_id = _LAYOUT.unpack_from(self._memory, 0)
        if writer != pid:
            return LastStage(Stage.STARTING)
        return LastStage(Stage(stage), job_id.rstrip(b"\0").decode(errors="replace"))
