"""A shard's file: its records as a small, self-contained Arrow file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from queue_app.array_types import Int64s, Ordinals
from queue_app.errors import Damage
from queue_app.host.durable_files import file_digest
from queue_app.job.shard_table import Shard

RECORD_SCHEMA = pa.schema([("id", pa.string()), ("sequence", pa.string()), ("problem", pa.string())])
"""`problem` is null for a good record."""
SHARD_SCHEMA = pa.schema([("ordinal", pa.uint64()), *RECORD_SCHEMA, ("copies", pa.int64())])
"""By ordinal. `copies` counts the records of this sequence, itself included. Bad records have rows, too."""


@dataclass(frozen=True, slots=True, eq=False)
class ShardRecords:
    """The columns of one shard's file."""

    ordinals: Ordinals
    ids: list[str]
    sequences: list[str]
    problems: list[str | None]
    copies: Int64s

    def row(self, ordinal: int) -> int:
        """Where a record of this shard stands in it."""
        return int(np.searchsorted(self.ordinals, np.uint64(ordinal)))

    def num_records(self, ordinals: Ordinals) -> int:
        """How many records of the input these rows stand for."""
        return int(self.copies[np.searchsorted(self.ordinals, ordinals)].sum())


def read_shard(path: Path, shard: Shard) -> ShardRecords:
    """The records of a shard. Raises Damage when the file is not the one that was submitted."""
    if file_digest(path) != shard.digest:
        raise Damage(f"{path}: not the shard that was submitted; run embed again with --overwrite")
    with pa.memory_map(str(path)) as mapped:
        table = pa.ipc.open_file(mapped).read_all()
        if table.num_rows != shard.num_rows:
            raise Damage(f"{path}: {table.num_rows} records instead of {shard.num_rows}")
        return ShardRecords(
            table["ordinal"].to_numpy(),
            table["id"].to_pylist(),
            table["sequence"].to_pylist(),
            table["problem"].to_pylist(),
            table["copies"].to_numpy(),
        )


def num_records_of(path: Path, ordinals: Ordinals) -> int:
    """How many records of the input some rows of a shard's file stand for."""
    with pa.memory_map(str(path)) as mapped:
        table = pa.ipc.open_file(mapped).read_all()
        wanted = np.isin(table["ordinal"].to_numpy(), ordinals, assume_unique=True)
        return int(table["copies"].to_numpy()[wanted].sum())


def num_characters_of(path: Path) -> Int64s:
    """Of each row's sequence; 0 where it cannot be embedded."""
    with pa.memory_map(str(path)) as mapped:
        table = pa.ipc.open_file(mapped).read_all()
        lengths = pc.utf8_length(table["sequence"]).to_numpy()
        return np.where(table["problem"].is_null().to_numpy(), lengths, 0).astype(np.int64)


def sequences_of(path: Path, rows: Int64s) -> list[str]:
    """Those of some rows."""
    with pa.memory_map(str(path)) as mapped:
        sequences: list[str] = pa.ipc.open_file(mapped).read_all()["sequence"].take(rows).to_pylist()
        return sequences


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `ordinal` is its place over all inputs; `problem` says why it cannot be embedded.

    `kept` has what stays with it beside its id, by name; workers see nothing of it.
    """

    ordinal: int
    id: str
    sequence: str
    problem: str | None = None
    kept: Mapping[str, object] = field(default_factory=dict)
