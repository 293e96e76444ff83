"""The names and keys inside a store's LMDB environment, and which versions of them are known here."""

from pathlib import Path

from checkpoint.errors import NewerFormat, StoreDamaged

FORMAT_VERSION = 2
"""Raised with every change that an older reader would misread."""

BLOCKS, META, QUARANTINE = b"blocks", b"meta", b"quarantine"
FORMAT, UUID, JOB, PLAN, TOKEN, DONE = b"format", b"uuid", b"job_digest", b"plan", b"token", b"done"
SEALED_FORMAT = b"sealed_format"


def as_key(number: int) -> bytes:
    """Big-endian, so that LMDB's order is the numbers' order."""
    return number.to_bytes(8, "big")


def as_number(key: bytes | memoryview) -> int:
    return int.from_bytes(key, "big")


def check_format(path: Path, version: bytes | None) -> None:
    """Hold a store's `format` record against what is known here; None is a store that was not begun.

    Raises:
        NewerFormat: the store was written by a newer version.
        StoreDamaged: there is no such format.
    """
    if version is None:
        return
    if not version.isdigit() or int(version) < FORMAT_VERSION:
        raise StoreDamaged(f"{path}: there is no format {version!r}")
    if int(version) > FORMAT_VERSION:
        raise NewerFormat(
            f"{path}: format {int(version)} is newer than {FORMAT_VERSION}, the newest known here; "
            "a newer version of this program reads it"
        )
