"""What stays with the records, on its way to kept.parquet: the type of a column is known when all was read.

So values are texts first, in a file of their own. A column is int64, float64 or bool where all of its values
are that, and else string: of a number among texts, its text.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from queue_app.host.durable_files import DigestedFile, room_for, sync_file
from queue_app.host.own_files import begun
from queue_app.ingest.readers.values import writable
from queue_app.job.shard_files import Record
from queue_app.job.spec import KeptFile

ROWS_AT_ONCE = 16_384
CHARACTERS_AT_ONCE = 4 << 20
VALUE_COST = 16
"""What a value takes beside its characters: of many columns the empty ones fill the memory, too."""
ROWS = "\0"
"""No column is called so."""
EXACT_IN_FLOAT64 = 1 << 53
INT64_MOST = (1 << 63) - 1
_TYPES: tuple[tuple[frozenset[str], pa.DataType], ...] = (
    (frozenset(), pa.string()), (frozenset(["bool"]), pa.bool_()), (frozenset(["int", "long"]), pa.int64()),
    (frozenset(["int", "float"]), pa.float64()),
)  # fmt: skip
"""The first type whose kinds of values are all that a column has. An int that is long is no exact float64."""


class KeptSpool:
    """Takes what stays with each record as it passes; gone when it is closed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kinds: dict[str, set[str]] = {}
        self._rows: list[dict[str, str | None]] = []
        self._num_characters = 0
        self._file = pa.OSFile(begun(path), "wb")

    def passing(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records, unchanged. Raises DiskFull."""
        for record in records:
            self._add(record.kept)
            yield record
        self._flush()

    def write(self, path: Path, first: Iterable[str]) -> KeptFile | None:
        """Write kept.parquet, durably; None, and no file, where no record had anything.

        `first` names columns that stand before the others, which follow as they came up. Raises DiskFull.
        """
        names = [*(name for name in first if name in self._kinds)]
        names += [name for name in self._kinds if name not in names]
        if not names:
            return None
        schema = pa.schema([(name, self._type(name)) for name in names])
        self._file.close()
        with room_for(path):
            with (
                DigestedFile(path, mode=None) as file,
                pq.ParquetWriter(file, schema, compression="zstd") as writer,
            ):
                for batch in self._batches():
                    writer.write_table(_typed(batch, schema))
            sync_file(path)
        return KeptFile(file.hexdigest(), tuple(names))

    def _add(self, kept: Mapping[str, object]) -> None:
        row: dict[str, str | None] = {}
        self._num_characters += VALUE_COST * len(kept)
        for name, value in kept.items():
            kinds = self._kinds.setdefault(name, set())
            row[name] = text = value if type(value) is str else self._text(value, kinds)
            if text is not None:
                self._num_characters += len(text)
                if text is value:
                    kinds.add("text")
        self._rows.append(row)
        if len(self._rows) == ROWS_AT_ONCE or self._num_characters >= CHARACTERS_AT_ONCE:
            self._flush()

    def _text(self, value: object, kinds: set[str]) -> str | None:
        if value is None:
            return None
        kind, text = _as_text(value)
        kinds.add(kind)
        return text

    def _flush(self) -> None:
        """A stream for each batch: a column that comes up later is in none of those before."""
        if self._rows:
            columns = {name: _strings([row.get(name) for row in self._rows]) for name in self._kinds}
            # Where there are no columns yet, something must still say how many rows there are.
            batch = pa.record_batch({**columns, ROWS: pa.nulls(len(self._rows))})
            with room_for(self._path), pa.ipc.new_stream(self._file, batch.schema) as writer:
                writer.write_batch(batch)
        self._rows, self._num_characters = [], 0

    def _batches(self) -> Iterator[pa.RecordBatch]:
        with pa.OSFile(str(self._path), "rb") as file:
            while file.tell() < file.size():
                yield from pa.ipc.open_stream(file)

    def _type(self, name: str) -> pa.DataType:
        kinds = self._kinds[name]
        return next((kind for known, kind in _TYPES if kinds <= known), pa.string())

    def __enter__(self) -> "KeptSpool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


def _as_text(value: object) -> tuple[str, str]:
    """The kind of a value that is no string, and its text: that of JSON, where there is one."""
    if isinstance(value, bool):
        return "bool", "true" if value else "false"
    if isinstance(value, int):
        size = abs(value)
        return "int" if size <= EXACT_IN_FLOAT64 else "long" if size <= INT64_MOST else "text", str(value)
    if isinstance(value, float):
        return "float", repr(value)
    if isinstance(value, bytes):
        return "text", value.decode(errors="backslashreplace")
    return "text", json.dumps(value, ensure_ascii=False, default=str)


def _strings(values: list[str | None]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:  # halves of surrogate pairs, as JSON may hold them
        return pa.array([value and writable(value) for value in values], pa.string())


def _typed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.Table:
    nothing = pa.nulls(batch.num_rows)
    names = batch.schema.names
    columns = [batch.column(field.name) if field.name in names else nothing for field in schema]
    return pa.table(
        [column.cast(field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )
