"""Look through a store from a child process, which may die of it.

    python -m checkpoint.verify PATH [JOB_DIGEST_HEX]    prints one JSON object

LMDB does not notice damaged values, and raises SIGABRT or SIGBUS on damaged pages. What the child sees
before it dies does not count: a store that kills it is unreadable.
"""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import lmdb

from checkpoint.errors import CheckpointError, NewerFormat
from checkpoint.store import CheckpointStore
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
        "checkpoint.verify",
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


def look_through(path: Path, job_digest: bytes | None) -> StoreReport:
    """What the child does."""
    try:
        with CheckpointStore.open_readonly(path) as store:
            return _look_through(store, job_digest)
    except NewerFormat as error:
        return StoreReport(readable=False, newer=True, error=str(error))
    except (CheckpointError, lmdb.Error, ValueError, TypeError) as error:
        return StoreReport(readable=False, error=f"{type(error).__name__}: {error}")


def _look_through(store: CheckpointStore, job_digest: bytes | None) -> StoreReport:
    store.check()
    damaged: list[int] = []
    num_blocks = num_rows = 0
    with store.snapshot() as snapshot:
        for index, block in snapshot.scan(job_digest):
            num_blocks += 1
            if block is None:
                damaged.append(index)
            else:
                num_rows += len(block.ordinals)
    store.quarantine()
    done = store.done_record()
    return StoreReport(
        readable=True,
        damaged=tuple(damaged),
        num_blocks=num_blocks,
        num_rows=num_rows,
        token=store.token(),
        done_file=done.file if done else None,
    )


if __name__ == "__main__":
    digest = bytes.fromhex(sys.argv[2]) if len(sys.argv) > 2 else None
    print(json.dumps(asdict(look_through(Path(sys.argv[1]), digest))))
