"""An LMDB environment that grows while it is used, and says clearly when the disk is full."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb

from checkpoint.errors import CheckpointError
from checkpoint.files import DISK_FULL, disk_full


def open_environment(path: Path, map_size: int, *, readonly: bool) -> lmdb.Environment:
    """sync and metasync on, writemap off: the modes that keep every acknowledged commit, and no SIGBUS."""
    try:
        environment = lmdb.open(
            str(path),
            map_size=max(map_size, _existing_bytes(path)) if not readonly else 0,
            subdir=True,
            readonly=readonly,
            create=not readonly,
            sync=True,
            metasync=True,
            writemap=False,
            max_dbs=3,
            readahead=False,
        )
    except lmdb.DiskError as error:
        raise _as_disk_full(error, path) from None
    environment.reader_check()
    return environment


def _existing_bytes(path: Path) -> int:
    """A map smaller than the file would be refused; leave room for the next commits too."""
    data = path / "data.mdb"
    return 2 * data.stat().st_size if data.exists() else 0


class Recorded:
    """What a transaction will do, noted so that it can be done again after the map has grown."""

    def __init__(self) -> None:
        self._steps: list[tuple[bytes, bytes | None, Any]] = []

    def put(self, key: bytes, value: bytes, *, db: Any) -> None:
        self._steps.append((key, value, db))

    def delete(self, key: bytes, *, db: Any) -> None:
        self._steps.append((key, None, db))

    def replay(self, transaction: lmdb.Transaction) -> None:
        for key, value, db in self._steps:
            if value is None:
                transaction.delete(key, db=db)
            else:
                transaction.put(key, value, db=db)


def write(
    environment: lmdb.Environment, recorded: Recorded, *, check: Callable[[lmdb.Transaction], None]
) -> None:
    """Do what was recorded in one durable transaction; `check` may refuse it from inside.

    Raises:
        DiskFull: no room; nothing was written.
    """
    while True:
        try:
            with environment.begin(write=True) as transaction:
                check(transaction)
                recorded.replay(transaction)
            return
        except lmdb.MapFullError:
            environment.set_mapsize(2 * environment.info()["map_size"])
        except lmdb.MapResizedError:
            environment.set_mapsize(0)
        except (lmdb.DiskError, OSError) as error:
            raise _as_disk_full(error, Path(environment.path())) from None


def _as_disk_full(error: Exception, path: Path) -> CheckpointError:
    if any(os.strerror(code) in str(error) for code in DISK_FULL):
        return disk_full(path)
    return CheckpointError(f"{path}: {error}")
