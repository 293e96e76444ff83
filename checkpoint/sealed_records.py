"""The small records of a store, each under a checksum: LMDB notices no flipped bit in them, nor in blocks."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb
import xxhash

from checkpoint.errors import StoreDamaged
from checkpoint.schema import FORMAT, JOB, PLAN, SEALED_FORMAT, TOKEN, UUID

SEAL_BYTES = 16
ALWAYS = (JOB, PLAN, TOKEN, UUID)
"""What every store that was begun has, beside its format."""


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
class SealedRecords:
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
        plain = transaction.get(FORMAT, db=self.meta)
        sealed = transaction.get(SEALED_FORMAT, db=self.meta)
        version = None if plain is None else bytes(plain)
        if sealed is None:
            sound = version is None
        else:
            sound = self._unseal(SEALED_FORMAT, bytes(sealed)) == version
        if not sound:
            raise StoreDamaged(f"{self.path}: its format {version!r} is not the one that was sealed")
        return version

    def get(self, transaction: lmdb.Transaction, key: bytes) -> bytes | None:
        """The content of a record in `meta`; None where there is none, or the store was not begun."""
        version = self.format(transaction)
        value = transaction.get(key, db=self.meta)
        if value is not None:
            return self._content(version, key, bytes(value))
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

    def _content(self, version: bytes | None, key: bytes, value: bytes) -> bytes:
        if version is None:
            raise StoreDamaged(f"{self.path}: it has records and names no format")
        return self._unseal(key, value)

    def _unseal(self, key: bytes, value: bytes) -> bytes:
        try:
            return unseal(key, value)
        except StoreDamaged as error:
            raise StoreDamaged(f"{self.path}: {error}") from None
