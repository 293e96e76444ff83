"""shards.table: the shards of a job in rows of one size, so that whoever wants one shard reads one row.

A header of 32 bytes, then 64 bytes for each shard; little-endian. job.json, which is written last, says how
many rows there are, and the digest of the whole file. What is read whole is held against that digest; a row
that is read by itself against its checksum, which the id of the job and the row's place go into: neither a
damaged row nor one of another job, which has taken this one's place, is ever computed with.
"""

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, overload

import numpy as np
import numpy.typing as npt
import xxhash
from pydantic import Field

from queue_app.errors import Damage

MAGIC = b"HFSHARDS"
VERSION = 1
_HEADER = struct.Struct("<8sIIQ8x")
"""Magic, version, bytes of a row, number of rows."""
_ROW = struct.Struct("<4Q16sQ")
_CHECKSUM = struct.Struct("<Q")
ROW_BYTES = _ROW.size + _CHECKSUM.size
COLUMNS = np.dtype(
    [
        ("num_records", "<i8"), ("cost", "<i8"), ("first_ordinal", "<i8"), ("num_twins", "<i8"),
        ("digest", "V16"), ("reused", "<i8"), ("checksum", "<u8"),
    ]
)  # fmt: skip
"""The rows of the file as numpy has them."""
_ROWS_AT_ONCE = 1_024


@dataclass(frozen=True, slots=True)
class Shard:
    """A contiguous run of the records that are computed, or of those whose vectors are reused.

    It answers for `num_records` of the input: its rows, and `num_twins` that have the sequence of one of
    them. `cost` is what it is expected to take to compute, in characters.
    """

    job_id: str
    index: int
    num_records: int
    cost: int
    first_ordinal: int
    digest: str  # xxh3-128 (hex) of shards/<index>.arrow
    num_twins: int = 0
    reused: bool = False  # done from the start, with vectors of another job

    @property
    def num_rows(self) -> int:
        return self.num_records - self.num_twins


@dataclass(frozen=True, slots=True)
class ShardTable(Sequence[Shard]):
    """A job's shards by index. Every look reads of the file what it needs, and keeps nothing of it.

    Whatever reads raises Damage when the file is missing, or not the one that was submitted.
    """

    num_shards: int
    digest: str  # xxh3-128 (hex) of the file
    job_id: Annotated[str, Field(exclude=True)] = field(default="", compare=False)
    source: Annotated[Path | bytes, Field(exclude=True)] = field(default=b"", repr=False, compare=False)
    """The file; the bytes themselves, as long as they were not written."""

    @classmethod
    def of(cls, job_id: str, shards: Iterable[Shard]) -> "ShardTable":
        """The table of these shards, in the order of their indices."""
        rows = b"".join(_encode(job_id, index, shard) for index, shard in enumerate(shards))
        num_shards = len(rows) // ROW_BYTES
        content = _HEADER.pack(MAGIC, VERSION, ROW_BYTES, num_shards) + rows
        return cls(num_shards, xxhash.xxh3_128_hexdigest(content), job_id, content)

    def at(self, job_id: str, path: Path) -> "ShardTable":
        """The same table, read of a file."""
        return replace(self, job_id=job_id, source=path)

    def __len__(self) -> int:
        return self.num_shards

    @overload
    def __getitem__(self, index: int) -> Shard: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Shard, ...]: ...
    def __getitem__(self, index: int | slice) -> Shard | tuple[Shard, ...]:
        """One read, however many shards there are."""
        if isinstance(index, slice):
            return self._read(range(self.num_shards)[index])
        place = range(self.num_shards)[index]
        (shard,) = self._read(range(place, place + 1))
        return shard

    def __iter__(self) -> Iterator[Shard]:
        for first in range(0, self.num_shards, _ROWS_AT_ONCE):
            yield from self[first : first + _ROWS_AT_ONCE]

    @property
    def columns(self) -> npt.NDArray[np.void]:
        """The whole table, read at once: [shards] of COLUMNS, for sums over all shards."""
        return np.frombuffer(self.content(), COLUMNS, offset=_HEADER.size)

    @property
    def num_rows(self) -> npt.NDArray[np.int64]:
        """How many rows each shard's file has, [shards]."""
        columns = self.columns
        rows: npt.NDArray[np.int64] = columns["num_records"] - columns["num_twins"]
        return rows

    @property
    def costs_to_compute(self) -> npt.NDArray[np.int64]:
        """The cost of every shard that is computed: of all but those of reused vectors."""
        columns = self.columns
        costs: npt.NDArray[np.int64] = columns["cost"][columns["reused"] == 0]
        return costs

    def content(self) -> bytes:
        """The bytes of the whole file, held against their digest."""
        content = self._bytes(0, _HEADER.size + self.num_shards * ROW_BYTES)
        if xxhash.xxh3_128_hexdigest(content) != self.digest:
            raise self._damage("not the shards that were submitted")
        return content

    def _read(self, wanted: range) -> tuple[Shard, ...]:
        if not wanted:
            return ()
        first, last = min(wanted), max(wanted)
        rows = self._bytes(_HEADER.size + first * ROW_BYTES, (last + 1 - first) * ROW_BYTES)
        starts = ((index, (index - first) * ROW_BYTES) for index in wanted)
        return tuple(self._decode(index, rows[start : start + ROW_BYTES]) for index, start in starts)

    def _decode(self, index: int, row: bytes) -> Shard:
        fields, checksum = row[: _ROW.size], row[_ROW.size :]
        if _checksum(self.job_id, index, fields) != checksum:
            raise self._damage(f"the row of shard {index} is damaged, or of another job")
        num_records, cost, first_ordinal, num_twins, digest, reused = _ROW.unpack(fields)
        return Shard(
            self.job_id, index, num_records, cost, first_ordinal, digest.hex(), num_twins, bool(reused)
        )

    def _bytes(self, start: int, size: int) -> bytes:
        if isinstance(self.source, bytes):
            return self.source[start : start + size]
        try:
            descriptor = os.open(self.source, os.O_RDONLY)
        except FileNotFoundError:
            raise self._damage("missing") from None
        try:
            content = os.pread(descriptor, size, start)
        finally:
            os.close(descriptor)
        if len(content) < size:
            raise self._damage("cut off")
        return content

    def _damage(self, what: str) -> Damage:
        return Damage(f"{self.source!s}: {what}; run embed again with --overwrite")


def _encode(job_id: str, index: int, shard: Shard) -> bytes:
    digest = bytes.fromhex(shard.digest)
    fields = _ROW.pack(
        shard.num_records, shard.cost, shard.first_ordinal, shard.num_twins, digest, shard.reused
    )
    return fields + _checksum(job_id, index, fields)


def _checksum(job_id: str, index: int, fields: bytes) -> bytes:
    """xxh3-64 over the row, whose row it is, and which."""
    return _CHECKSUM.pack(xxhash.xxh3_64_intdigest(f"{job_id} {index} ".encode() + fields))
