"""Small tables as Parquet and Arrow files of every kind, and what a bad disk or malice makes of them."""

import functools
import io
import json
import random
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.jobs_and_inputs import protein

NUM_ROWS = 9
LENGTH_BYTES = 4
"""Of the footer of either format: before the magic at the file's end."""
EXTREMES = (
    0, 1, -1, 0x7F, 0x80, 0xFF, 1 << 15, (1 << 31) - 1, 1 << 31, -(1 << 31), 1 << 40, (1 << 63) - 1,
    -(1 << 63),
)  # fmt: skip
CHANGES = (1, 1, 1, 1, 2, 4)

Change = Callable[[bytearray, random.Random], None]


@functools.cache
def seed_tables() -> Mapping[str, bytes]:
    """By a file's name, which begins with the format."""
    return dict(_seed_tables())


def changed_table(rng: random.Random) -> tuple[str, bytes]:
    """A file's name and its content: a table, changed in its head, its footer, or anywhere."""
    seeds = seed_tables()
    name = rng.choice(sorted(seeds))
    data = bytearray(seeds[name])
    for _ in range(rng.choice(CHANGES)):
        rng.choice(_CHANGES)(data, rng)
    if rng.random() < 0.05:  # the one's end behind the other's beginning
        other = seeds[rng.choice(sorted(seeds))]
        data = data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other)) :]
    return name, bytes(data)


# ---- the tables


def _seed_tables() -> Iterator[tuple[str, bytes]]:
    tables = {"plain": _plain(), "kinds": _kinds(), "nested": _nested(), "categories": _categories()}
    for name, table in tables.items():
        for packed in ("none", "snappy", "gzip", "zstd", "lz4"):
            yield f"parquet-{name}-{packed}.parquet", _parquet(table, compression=packed)
        yield f"parquet-{name}-v2.parquet", _parquet(table, data_page_version="2.0", row_group_size=4)
        yield f"parquet-{name}-sums.parquet", _parquet(table, write_page_checksum=True, use_dictionary=False)
        yield f"parquet-{name}-bare.parquet", _parquet(table, store_schema=False, write_statistics=False)
        for packed in (None, "lz4", "zstd"):
            options = pa.ipc.IpcWriteOptions(compression=packed, emit_dictionary_deltas=True)
            yield f"arrow-{name}-{packed}.arrow", _arrow(table, pa.ipc.new_file, options)
            yield f"arrow-{name}-{packed}.arrows", _arrow(table, pa.ipc.new_stream, options)
    deltas = {
        "use_dictionary": False,
        "column_encoding": {"id": "DELTA_BYTE_ARRAY", "seq": "DELTA_LENGTH_BYTE_ARRAY"},
    }
    yield "parquet-deltas.parquet", _parquet(_plain(), **deltas)
    index = {"kind": "range", "name": "id", "start": 0, "stop": 2 * NUM_ROWS, "step": 2}
    framed = (
        _plain()
        .drop_columns(["id"])
        .replace_schema_metadata({"pandas": json.dumps({"index_columns": [index]})})
    )
    yield "parquet-pandas.parquet", _parquet(framed)
    alike = pa.table({"id": ["a"] * 10_000, "seq": ["M" * 2_000] * 10_000})
    yield "parquet-alike.parquet", _parquet(alike, compression="zstd")  # 20 MB of some kilobytes
    yield (
        "arrow-alike.arrow",
        _arrow(alike.slice(0, 2_000), pa.ipc.new_file, pa.ipc.IpcWriteOptions(compression="zstd")),
    )


def _plain() -> pa.Table:
    rows = range(NUM_ROWS)
    return pa.table({"id": [f"p{row}" for row in rows], "seq": [protein(row) for row in rows], "x": [*rows]})


def _kinds() -> pa.Table:
    """Ids that are numbers, and of each kind of value a column."""
    rows = range(NUM_ROWS)
    return pa.table(
        {
            "id": pa.array(rows, pa.int32()),
            "seq": pa.array([protein(row) for row in rows], pa.large_string()),
            "x": pa.array([None, *rows][:NUM_ROWS], pa.float16()),
            "when": pa.array(rows, pa.timestamp("us", "UTC")),
            "exact": pa.array([Decimal(row) for row in rows], pa.decimal128(9, 2)),
            "bytes": pa.array([b"\xff" * row for row in rows], pa.binary()),
            "four": pa.array([b"four"] * NUM_ROWS, pa.binary(4)),
            "is": pa.array([True, None, False] * 3),
            "nothing": pa.nulls(NUM_ROWS),
        }
    )


def _nested() -> pa.Table:
    lists = [[{"y": [1, None], "z": "a"}], None, []] * 3
    return (
        _plain()
        .set_column(2, "x", pa.array(lists))
        .append_column(
            "map", pa.array([[("k", [1.5])]] * NUM_ROWS, pa.map_(pa.string(), pa.list_(pa.float32())))
        )
    )


def _categories() -> pa.Table:
    table = _plain()
    for place, name in enumerate(("id", "seq")):
        table = table.set_column(place, name, table[name].dictionary_encode())
    return table


def _parquet(table: pa.Table, **options: Any) -> bytes:
    pq.write_table(table, sink := io.BytesIO(), **options)
    return sink.getvalue()


def _arrow(table: pa.Table, new: Callable[..., Any], options: pa.ipc.IpcWriteOptions) -> bytes:
    sink = io.BytesIO()
    with new(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=5)
    return sink.getvalue()


# ---- the changes


def _place(data: bytearray, rng: random.Random) -> int:
    """Anywhere, but mostly where something is said of the rest: the first and the last kilobyte."""
    if not data:
        return 0
    ends = (rng.randrange(min(len(data), 1_000)), max(0, len(data) - 1 - rng.randrange(1_500)))
    return rng.choice((*ends, *ends, rng.randrange(len(data))))


def _flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 1, 4, 30))):
        if data:
            data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _byte(data: bytearray, rng: random.Random) -> None:
    if data:
        data[_place(data, rng)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _number(data: bytearray, rng: random.Random) -> None:
    """As Arrow's metadata and the lengths before footers hold them."""
    at, size = _place(data, rng), rng.choice((2, 4, 8))
    at -= at % size if rng.random() < 0.7 else 0
    number = rng.choice(EXTREMES) & ((1 << 8 * size) - 1)
    data[at : at + size] = number.to_bytes(size, "little")


def _varint(data: bytearray, rng: random.Random) -> None:
    """As Parquet's footer holds them: longer by what a huge size takes."""
    at, number, written = _place(data, rng), rng.choice(EXTREMES) & ((1 << 64) - 1), bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    data[at : at + rng.choice((1, 1, 2, len(written)))] = bytes([*written, number])


def _footer_length(data: bytearray, rng: random.Random) -> None:
    end = rng.choice((len(data) - 4, len(data) - 6))  # before PAR1, or ARROW1
    if end < LENGTH_BYTES:
        return
    length = int.from_bytes(data[end - LENGTH_BYTES : end], "little")
    lied = rng.choice((length - 1, length + 1, 2 * length, *EXTREMES)) & 0xFFFFFFFF
    data[end - LENGTH_BYTES : end] = lied.to_bytes(LENGTH_BYTES, "little")


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[_place(data, rng) :]


def _drop(data: bytearray, rng: random.Random) -> None:
    at = _place(data, rng)
    del data[at : at + rng.choice((1, 4, 8, 100))]


def _insert(data: bytearray, rng: random.Random) -> None:
    at = _place(data, rng)
    data[at:at] = rng.choice((b"\0", b"\xff", b"PAR1", b"ARROW1\0\0", b"\xff\xff\xff\xff")) * rng.choice(
        (1, 1, 8, 500)
    )


def _copy(data: bytearray, rng: random.Random) -> None:
    """One part over another: a page or a message where another one is looked for."""
    source, target, size = _place(data, rng), _place(data, rng), rng.choice((1, 4, 16, 64, 300))
    part = data[source : source + size]
    data[target : target + len(part)] = part


def _letters(data: bytearray, rng: random.Random) -> None:
    """Texts that are none, or names that say something else."""
    old, new = rng.choice(
        ((b"seq", b"se\xff"), (b"seq", b"id\0"), (b"id", b"\x1b["), (b"M", b"\xff"), (b"utf8", b"bool"))
    )
    if (at := data.find(old, rng.randrange(len(data) + 1))) >= 0:
        data[at : at + len(old)] = new


_CHANGES: tuple[Change, ...] = (
    _flip, _flip, _byte, _byte, _number, _number, _varint, _varint, _footer_length, _cut, _drop, _insert,
    _copy, _letters,
)  # fmt: skip
