"""What a store holds beside its blocks: names, keys, and small records under checksums.

LMDB notices no flipped bit. FORMAT.md says which value is sealed, and how.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb
import xxhash

from checkpoint.errors import NewerFormat, StoreDamaged

FORMAT_VERSION = 2
"""Raised with every change that an older reader would misread."""

BLOCKS, META, QUARANTINE = b"blocks", b"meta", b"quarantine"
FORMAT, UUID, JOB, PLAN, TOKEN, DONE = b"format", b"uuid", b"job_digest", b"plan", b"token", b"done"
SEALED_FORMAT = b"sealed_format"
KINDS = b"kinds"
ALWAYS = (JOB, PLAN, TOKEN, UUID)
"""What every store that was begun has, beside its format."""
SEAL_BYTES = 16


def as_key(number: int) -> bytes:
    """Big-endian, so that LMDB's order is the numbers' order."""
    return number.to_bytes(8, "big")


def as_number(key: bytes | memoryview) -> int:
    return int.from_bytes(key, "big")


def seal(key: bytes, content: bytes) -> bytes:
    """The content with an xxh3-128 over its key and it behind it."""
    return content + xxhash.xxh3_128_digest(key + content)


def unseal(key: bytes, value: bytes) -> bytes:
    """Raises StoreDamaged when the value is not what was sealed under this key."""
    content = value[:-SEAL_BYTES]
    if seal(key, content) != value:
        raise StoreDamaged(f"the record {key!r} is damaged")
    return content


@dataclass(frozen=True, slots=True)
class SmallRecords:
    """The databases `meta` and `quarantine` of one store, read inside the transactions of the caller.

    Every call raises StoreDamaged when a record that it looks at is not as it was written.
    """

    path: Path
    meta: Any
    quarantine: Any

    def format(self, transaction: lmdb.Transaction) -> bytes | None:
        """None in a store that was not begun. The record itself is plain, so that every version reads it;
        the other one, sealed, says that no bit of it was flipped.
        """
        version, sealed = (self._raw(transaction, key) for key in (FORMAT, SEALED_FORMAT))
        if version != (None if sealed is None else self._unseal(SEALED_FORMAT, sealed)):
            raise StoreDamaged(f"{self.path}: its format {version!r} is not the one that was sealed")
        return version

    def check_format(self, transaction: lmdb.Transaction) -> bytes | None:
        """The format, held against what is known here. Raises NewerFormat for a newer version's."""
        version = self.format(transaction)
        if version is None:
            return None
        if not version.isdigit() or int(version) < FORMAT_VERSION:
            raise StoreDamaged(f"{self.path}: there is no format {version!r}")
        if int(version) > FORMAT_VERSION:
            raise NewerFormat(
                f"{self.path}: format {int(version)} is newer than {FORMAT_VERSION}, the newest known here; "
                "a newer version of this program reads it"
            )
        return version

    def get(self, transaction: lmdb.Transaction, key: bytes) -> bytes | None:
        """The content of a record in `meta`; None where there is none, or the store was not begun."""
        version, value = self.format(transaction), self._raw(transaction, key)
        if value is not None:
            return self._content(version, key, value)
        if version is not None and key in ALWAYS:
            raise StoreDamaged(f"{self.path}: it has no {key.decode()}")
        return None

    def token(self, transaction: lmdb.Transaction) -> int:
        """The highest that was seen; 0 in a store that was not begun."""
        value = self.get(transaction, TOKEN) or b"0"
        if not value.isdigit():
            raise StoreDamaged(f"{self.path}: there is no token {value!r}")
        return int(value)

    def entries(self, transaction: lmdb.Transaction, database: Any) -> Iterator[tuple[bytes, bytes]]:
        """Key and content of all records in one of the two databases but the formats."""
        version = self.format(transaction)
        with transaction.cursor(db=database) as cursor:
            for key, value in cursor:
                if bytes(key) not in (FORMAT, SEALED_FORMAT):
                    yield bytes(key), self._content(version, bytes(key), bytes(value))

    def check(self, transaction: lmdb.Transaction) -> None:
        """Look at all of them."""
        for key in ALWAYS:
            self.get(transaction, key)
        for database in (self.meta, self.quarantine):
            for _ in self.entries(transaction, database):
                pass

    def _raw(self, transaction: lmdb.Transaction, key: bytes) -> bytes | None:
        value = transaction.get(key, db=self.meta)
        return None if value is None else bytes(value)

    def _content(self, version: bytes | None, key: bytes, value: bytes) -> bytes:
        if version is None:
            raise StoreDamaged(f"{self.path}: it has records and names no format")
        return self._unseal(key, value)

    def _unseal(self, key: bytes, value: bytes) -> bytes:
        try:
            return unseal(key, value)
        except StoreDamaged as error:
            raise StoreDamaged(f"{self.path}: {error}") from None
