"""Look through a store from a child process, which may die of it.

LMDB does not notice damaged values, and raises SIGABRT or SIGBUS on damaged pages. What the child sees
before it dies does not count: a store that kills it is unreadable.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from checkpoint.errors import CheckpointError
from checkpoint.store_files import StoreFiles

SECONDS_AT_MOST = 3600


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What was found. `damaged` names batches; a store that is not `readable` says why in `error`.

    One that is `newer` is not readable either, but by no fault of its own: a newer version wrote it.
    """

    readable: bool
    damaged: tuple[int, ...] = ()
    num_blocks: int = 0
    num_rows: int = 0
    token: int = 0
    done_file: str | None = None
    error: str | None = None
    newer: bool = False

    @property
    def sound(self) -> bool:
        return self.readable and not self.damaged


def verify_store(path: Path, *, job_digest: bytes | None = None) -> StoreReport:
    """Check every page, record and block of a store in a child process. Changes nothing.

    One that was not begun yet, or is half removed, has nothing to check.
    """
    files = StoreFiles(path)
    try:
        files.check()
    except CheckpointError as error:
        return StoreReport(readable=False, error=str(error)) if files.started.exists() else StoreReport(True)
    command = [
        sys.executable,
        "-P",  # a checkpoint.py in the user's working directory is none of ours
        "-m",
        "checkpoint.verify_child",
        str(path),
        *([job_digest.hex()] if job_digest else []),
    ]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_AT_MOST, check=False)
    except subprocess.TimeoutExpired:
        return StoreReport(readable=False, error=f"reading it came to no end in {SECONDS_AT_MOST} s")
    if child.returncode != 0:
        died = f"signal {-child.returncode}" if child.returncode < 0 else child.stderr.strip()[-300:]
        return StoreReport(readable=False, error=f"reading it ended the process: {died}")
    fields = json.loads(child.stdout)
    return StoreReport(**{**fields, "damaged": tuple(fields["damaged"])})
