"""The child of `verify_store`: looks through a store, and may die of it.

python -m checkpoint.verify_child PATH [JOB_DIGEST_HEX]    prints a StoreReport as JSON
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import lmdb

from checkpoint.errors import CheckpointError, NewerFormat
from checkpoint.store import CheckpointStore
from checkpoint.verify import StoreReport


def look_through(path: Path, job_digest: bytes | None) -> StoreReport:
    """What a reader can see of the store. Broken pages can end this process."""
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
