"""Small batches of texts and numbers, made in the child of whatever a file's columns are.

The parent takes them as they are: nothing in them refers to anything else, as categories do, and none is
larger than its longest row. What is too long for a record is left out before it is copied, and the reason
stands in its row.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from itertools import repeat

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from queue_app.array_types import Int64s
from queue_app.ingest.readers.bounds.limits import OPTION, TOKENIZED_LETTERS, Limits
from queue_app.ingest.readers.columnar.chosen import Chosen, is_text
from queue_app.ingest.readers.columnar.frames import ID, SEQUENCE, UNUSABLE
from queue_app.ingest.readers.values import shown
from queue_app.shown import visible

BYTES_AT_ONCE = 4 << 20
VALUES_AT_ONCE = 2_000_000
"""Those of lists become Python's objects, of some 50 bytes each, on their way to JSON."""
SHOWN_BYTES = 40
BYTES_A_CHARACTER = 4
NANOSECONDS = "[ns"
"""In the words of a type."""
VIEW_INTEGERS = 4
"""A view is 16 bytes, whose first four are the length."""

_Columns = dict[int, pa.Array]
_Limit = tuple[str, int, str]
"""What a column holds, in words, the most bytes of it, and the name of that limit."""
_Reasons = list[str | None]
_FINE: str | None = None


class Untold(Exception):
    """Raised where a column that is kept has a value that nobody can write; names both."""


def plain_batches(batch: pa.RecordBatch, chosen: Chosen, limits: Limits) -> Iterator[pa.RecordBatch]:
    """The batch, in parts of some megabytes at most where its rows are not longer."""
    columns: _Columns = dict(zip(chosen.places, batch.columns, strict=True))
    sizes, reasons = np.zeros(batch.num_rows, np.int64), [*repeat(_FINE, batch.num_rows)]
    by_place = _limits(chosen, limits)
    for place, limit in by_place.items():
        if is_text(columns[place].type):
            columns[place] = _without_long(columns[place], limit, reasons)
            sizes += _lengths(columns[place])
    for start, stop in _cuts(sizes):
        part = {place: column.slice(start, stop - start) for place, column in columns.items()}
        yield _plain(part, chosen, by_place, reasons[start:stop])


def _limits(chosen: Chosen, limits: Limits) -> Mapping[int, _Limit]:
    """By the place of a column. In bytes, and so that no character is too many which the record's own limits
    allow: the parent counts them."""
    kept = {
        place: (f"a value of {name!r}", BYTES_A_CHARACTER * limits.field, "field")
        for name, place in chosen.kept
    }
    ids = {} if chosen.id is None else {chosen.id: ("an id", BYTES_A_CHARACTER * limits.id, "id")}
    sequence = max(2 * limits.record, BYTES_A_CHARACTER * min(limits.record, TOKENIZED_LETTERS))
    return {**kept, **ids, chosen.sequence: ("a sequence", sequence, "record")}


def _lengths(column: pa.Array) -> Int64s:
    """Bytes of each text, from what says where it lies: none is looked at, and nothing for a missing one."""
    at, values = np.arange(len(column)), column
    if pa.types.is_dictionary(column.type):
        at, values = np.asarray(column.indices.cast(pa.int64()).fill_null(0)), column.dictionary
    if not len(values) or pa.types.is_null(values.type):
        return np.zeros(len(column), np.int64)
    kind, places, at = values.type, values.buffers()[1], at + values.offset
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        found = np.frombuffer(places, np.int32).reshape(-1, VIEW_INTEGERS)[at, 0].astype(np.int64)
    else:
        is_large = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
        offsets = np.frombuffer(places, np.int64 if is_large else np.int32)
        found = offsets[at + 1].astype(np.int64) - offsets[at]
    return np.where(np.asarray(column.is_valid()), found, 0)


def _without_long(column: pa.Array, limit: _Limit, reasons: _Reasons) -> pa.Array:
    """The column without what is longer than its limit; the reason is noted."""
    (what, most, name), lengths = limit, _lengths(column)
    too_long = lengths > most
    if not too_long.any():
        return column
    for row in np.flatnonzero(too_long).tolist():
        value = column[row].cast(pa.large_binary()).as_buffer()
        begin = bytes(value[:SHOWN_BYTES]).decode(errors="replace")
        why = f"{what} of {lengths[row]:,} bytes, more than {most:,}, which begins with {begin!r}"
        reasons[row] = f"{why}: {OPTION} {name}={lengths[row]} takes it"
    return column.take(pa.array(np.arange(len(column)), mask=too_long))


def _cuts(sizes: Int64s) -> Iterator[tuple[int, int]]:
    """From row to row, so that what lies between has some megabytes at most, or is one row."""
    if int(sizes.sum()) <= BYTES_AT_ONCE:
        yield 0, len(sizes)
        return
    start = total = 0
    for row, size in enumerate(sizes.tolist()):
        if total and total + size > BYTES_AT_ONCE:
            yield start, row
            start, total = row, 0
        total += size
    yield start, len(sizes)


def _plain(
    columns: _Columns, chosen: Chosen, limits: Mapping[int, _Limit], reasons: _Reasons
) -> pa.RecordBatch:
    arrays = {SEQUENCE: _text(columns[chosen.sequence])}
    if chosen.id is not None:
        arrays[ID] = _text(columns[chosen.id])
    for number, (name, place) in enumerate(chosen.kept):
        with _naming(name):
            kept = _kept(columns[place])
        is_told = pa.types.is_large_string(kept.type)
        arrays[str(number)] = _without_long(kept, limits[place], reasons) if is_told else kept
    return pa.record_batch({**arrays, UNUSABLE: pa.array(reasons, pa.string())})


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except Untold as untold:
        raise Untold(f"column {shown(name)} holds {untold}; --keep the others") from None


def _text(column: pa.Array) -> pa.Array:
    """Strings; where some are no UTF-8, bytes."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        inner = kind.value_type
        # As polars writes categories: pyarrow casts none of views.
        is_view = pa.types.is_string_view(inner) or pa.types.is_binary_view(inner)
        column = pa.array(column.to_pylist(), inner) if is_view else column.cast(inner)
    try:
        text = column.cast(pa.large_string())
    except pa.ArrowInvalid:
        return column.cast(pa.large_binary())
    text.validate(full=True)  # a cast of strings to strings believes that they are some
    return text


def _kept(column: pa.Array) -> pa.Array:
    """Strings, numbers and truth as they are; of all else its text, or its JSON."""
    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    kind = column.type
    if is_text(kind):
        text = _text(column)
        if pa.types.is_large_string(text.type):
            return text
        values = text.to_pylist()
    elif pa.types.is_floating(kind):
        return column.cast(pa.float64())
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return column
    else:
        if not pa.types.is_nested(kind):
            # What Arrow has no text of, as bytes of a fixed length, is told by its Python value below.
            with contextlib.suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
                return column.cast(pa.string()).cast(pa.large_string())
        if _num_values(column) > VALUES_AT_ONCE:
            raise MemoryError
        values = _python_values(column)
    return pa.array([_told(value) for value in values], pa.large_string())


def _python_values(column: pa.Array) -> list[object]:
    """Python has no nanoseconds, and no year after 9999: then Arrow's texts of them. Raises Untold."""
    kind, with_texts, reason = column.type, _with_texts(column.type), ""
    for wanted in (with_texts,) if NANOSECONDS in str(kind) else (kind, with_texts):
        try:
            values: list[object] = (column if wanted == kind else column.cast(wanted)).to_pylist()
            return values
        except MemoryError:
            raise
        except Exception as error:  # of any class: time zones are another library's
            reason = type(error).__name__
    raise Untold(f"{visible(str(kind))}, of which a value has no text ({reason})")


def _with_texts(kind: pa.DataType) -> pa.DataType:
    """The type with texts for points in time and spans of it, however deep they lie."""
    if pa.types.is_temporal(kind):
        return pa.string()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_with_texts(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_with_texts(kind.key_type), _with_texts(kind.item_type))
    return pa.list_(_with_texts(kind.value_type)) if _is_list(kind) else kind


def _is_list(kind: pa.DataType) -> bool:
    """Of whatever layout."""
    any_list = (
        pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view,
        pa.types.is_large_list_view,
    )  # fmt: skip
    return any(is_kind(kind) for is_kind in any_list)


def _num_values(column: pa.Array) -> int:
    """Of lists and structures all that is in them: a missing value in a list takes a byte, or none."""
    kind = column.type
    if pa.types.is_struct(kind):
        return sum(map(_num_values, column.flatten()))
    if pa.types.is_map(kind):
        begin, end = column.offsets[0].as_py(), column.offsets[-1].as_py()
        return len(column) + sum(_num_values(each[begin:end]) for each in (column.keys, column.items))
    if pa.types.is_run_end_encoded(kind):  # any of its values may be that of every row
        return len(column) * (1 + _num_values(column.values))
    return len(column) + (_num_values(column.flatten()) if _is_list(kind) else 0)


def _told(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return json.dumps(value, ensure_ascii=False, default=str)
