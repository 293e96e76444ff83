"""What is taken away of the records that were chosen on a map: a table, or their sequences."""

import csv
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from queue_app.array_types import Int64s
from queue_app.dashboard.map.embedding_map import EmbeddingMap
from queue_app.dashboard.map.kept_texts import descriptions, kept_rows
from queue_app.dashboard.map.metadata import Metadata
from queue_app.dashboard.map.sequence_texts import beginnings, is_kept, sequences
from queue_app.errors import UsageError
from queue_app.job.output_names import one_line
from queue_app.shown import spreadsheet_cell

AT_ONCE = 500
"""Records whose sequences are in memory at once."""
LINE_LETTERS = 60


def point_texts(embedding_map: EmbeddingMap) -> list[str]:
    """What stands beside each point: its description or the beginning of its sequence; else an empty text."""
    published = embedding_map.published
    told = descriptions(published.job, published.job_dir, embedding_map.ordinals)
    if told is not None:
        return [text or "" for text in told.to_pylist()]
    if not is_kept(published.job, published.job_dir):
        return [""] * len(embedding_map.ids)
    begun = beginnings(published.job, published.job_dir, embedding_map.rows)
    return [begun[place] for place in embedding_map.places]


def as_fasta(embedding_map: EmbeddingMap, ordinals: Int64s) -> Iterator[str]:
    """The records, each with its whole sequence, in the order of the input; `ordinals` ascend.

    Raises:
        UsageError: a record is not on the map, or sequences are texts, or not there any more.
        Damage: a shard cannot be read.
    """
    job, job_dir = embedding_map.published.job, embedding_map.published.job_dir
    if job.options.alphabet == "text":
        raise UsageError("texts are no FASTA; take the CSV")
    if not is_kept(job, job_dir):
        raise UsageError("holdfast clean has removed the sequences; the ids are still there")
    return _fasta(embedding_map, embedding_map.find(ordinals))


def _fasta(embedding_map: EmbeddingMap, places: Int64s) -> Iterator[str]:
    job, job_dir = embedding_map.published.job, embedding_map.published.job_dir
    for start in range(0, len(places), AT_ONCE):
        part = places[start : start + AT_ONCE]
        told = descriptions(job, job_dir, embedding_map.ordinals[part])
        rows, which = np.unique(embedding_map.rows[embedding_map.places[part]], return_inverse=True)
        texts = sequences(job, job_dir, rows)
        for at, place in enumerate(part):
            description = told[at].as_py() if told is not None else ""
            head = " ".join(filter(None, [embedding_map.ids[place], description]))
            yield f">{one_line(head)}\n{_in_lines(texts[which[at]])}"


def _in_lines(sequence: str) -> str:
    return "".join(
        f"{sequence[start : start + LINE_LETTERS]}\n"
        for start in range(0, max(1, len(sequence)), LINE_LETTERS)
    )


def as_csv(embedding_map: EmbeddingMap, ordinals: Int64s, metadata: Metadata | None) -> Iterator[str]:
    """id, x, y, and what is known of each record: its description or text, and the columns of the table.

    Raises UsageError where a record is not on the map.
    """
    places = embedding_map.find(ordinals)
    columns = _columns(embedding_map, places, metadata)
    return _csv([list(columns), *zip(*(column.to_pylist() for column in columns.values()), strict=True)])


def _csv(rows: list[list[object] | tuple[object, ...]]) -> Iterator[str]:
    """It is opened in spreadsheets, which are not to compute what an id says."""
    for start in range(0, len(rows), AT_ONCE):
        written = io.StringIO()
        shown = (map(spreadsheet_cell, row) for row in rows[start : start + AT_ONCE])
        csv.writer(written, lineterminator="\n").writerows(shown)
        yield written.getvalue()


def _columns(embedding_map: EmbeddingMap, places: Int64s, metadata: Metadata | None) -> dict[str, Any]:
    job, job_dir = embedding_map.published.job, embedding_map.published.job_dir
    ids = pa.array(embedding_map.ids, pa.string()).take(pa.array(places))
    x, y = (pa.array(axis) for axis in embedding_map.points[places].T)
    columns = {"id": ids, "x": x, "y": y}
    kept = kept_rows(job, job_dir, embedding_map.ordinals[places])
    if kept is not None:
        columns |= {name: kept[name] for name in kept.column_names if name not in columns}
    if job.options.alphabet == "text" and is_kept(job, job_dir):
        columns.setdefault("text", _texts(embedding_map, places))
    if metadata is not None:
        for name in metadata.columns:
            columns.setdefault(name, metadata.texts(name, ids.to_pylist()))
    return columns


def _texts(embedding_map: EmbeddingMap, places: Int64s) -> pa.Array:
    rows, which = np.unique(embedding_map.rows[embedding_map.places[places]], return_inverse=True)
    texts = sequences(embedding_map.published.job, embedding_map.published.job_dir, rows)
    return pa.array([texts[at] for at in which], pa.string())
