"""The writers of the output formats. Each writes under a temporary name, fsyncs, and renames into place."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from queue_app.host.durable_files import DigestedFile, sync_file
from queue_app.job.output_names import Format, ids_path, ranges_path
from queue_app.job.result_files import ROWS_PER_GROUP, as_matrix, num_vectors, write_parquet
from queue_app.outputs.content import Content
from queue_app.outputs.formats.named_arrays import write_array_header
from queue_app.outputs.formats.replacing import Digests, id_lines, replacing

PIECE_BYTES = 32 << 20


def write_npy(output: Path, content: Content) -> Digests:
    """[N, dim] as `np.load` reads it, [N, columns, dim] where there are several; ids in <stem>.ids.txt.

    One id a line, always: a line break inside an id becomes a blank there.
    """
    with replacing(ids_path(output)) as ids_temporary, replacing(output) as temporary:
        with DigestedFile(temporary) as file, DigestedFile(ids_temporary) as ids:
            _write_header(file, content, content.num_rows)
            for batch in content.batches():
                file.write(_values(batch, content))
                ids.write(id_lines(batch))
        sync_file(temporary)
        sync_file(ids_temporary)
    return {output: file.hexdigest(), ids_path(output): ids.hexdigest(), **_write_ranges(output, content)}


def _write_ranges(output: Path, content: Content) -> Digests:
    """[2, dim], or [2, columns, dim] where there are several, of int8 and uint8."""
    ranges, path = [*content.coding.ranges.values()], ranges_path(output)
    if not ranges:
        return {}
    with replacing(path) as temporary:
        with DigestedFile(temporary) as file:
            array = ranges[0] if len(ranges) == 1 else np.stack(ranges, axis=1)
            # Not by np.save, which writes past the file object, and so past its digest.
            write_array_header(file, array.dtype, array.shape)
            file.write(array.tobytes())
        sync_file(temporary)
    return {path: file.hexdigest()}


def write_ragged_npy(output: Path, content: Content) -> None:
    """The vectors of all ragged rows end to end, ids as `write_npy` writes them, and where each row begins in
    <stem>.offsets.npy. Whoever calls sees to it that all are there or none."""
    offsets, row = np.zeros(content.num_rows + 1, np.int64), 0
    with output.open("wb") as file, ids_path(output).open("wb") as ids:
        _write_header(file, content, 0)
        for batch in content.batches():
            file.write(_values(batch, content))
            ids.write(id_lines(batch))
            end = row + batch.num_rows
            lengths = num_vectors(batch.column(content.columns[0]))
            offsets[row + 1 : end + 1] = offsets[row] + np.cumsum(lengths)
            row = end
        file.seek(0)
        _write_header(file, content, int(offsets[-1]))
    np.save(offsets_path(output), offsets)
    for written in (output, ids_path(output), offsets_path(output)):
        sync_file(written)


def _values(batch: pa.RecordBatch, content: Content) -> memoryview:
    return np.stack([as_matrix(batch.column(name)) for name in content.columns], axis=1).data


def _write_header(file: BinaryIO, content: Content, length: int) -> None:
    shape = (length, *([len(content.columns)] if len(content.columns) > 1 else []), content.dim)
    write_array_header(file, content.dtype, shape)


def offsets_path(path: Path) -> Path:
    """Where the offsets of an array of ragged rows lie."""
    return path.with_suffix(".offsets.npy")


def write_parquet_file(output: Path, content: Content) -> Digests:
    """A table: see `table_schema`."""
    schema = table_schema(content)
    with replacing(output) as temporary:
        batches = (batch.select(schema.names) for batch in content.batches_with_kept())
        tables = (pa.Table.from_batches([batch]).cast(schema) for batch in batches)
        tables = (table.replace_schema_metadata(schema.metadata) for table in tables)
        return {output: write_parquet(temporary, schema, tables, kept=_kept_names(content))}


def write_arrow_file(output: Path, content: Content) -> Digests:
    """A table (see `table_schema`) as an Arrow IPC file, not compressed, so that it can be mapped as it lies.

    What a reader takes for one array is one record batch: few and large ones are what it wants.
    """
    schema = table_schema(content)
    with replacing(output) as temporary:
        with DigestedFile(temporary) as file, pa.ipc.new_file(file, schema) as writer:
            for table in _pieces(content):
                writer.write_table(table.select(schema.names).combine_chunks().cast(schema))
        sync_file(temporary)
    return {output: file.hexdigest()}


def table_schema(content: Content) -> pa.Schema:
    """Columns `id`, what is kept, and `embedding`, or several of these; provenance in the metadata."""
    number = pa.from_numpy_dtype(np.dtype(content.dtype))
    vector = number if content.is_contacts else pa.list_(number, content.dim)
    embedding = pa.list_(vector) if content.is_ragged else vector
    vectors = [pa.field(name, embedding) for name in content.columns]
    fields = [pa.field("id", pa.string()), *(content.kept.schema if content.kept else []), *vectors]
    ranges = {name: each.tolist() for name, each in content.coding.ranges.items()}
    metadata = {**content.provenance, **({"ranges": json.dumps(ranges)} if ranges else {})}
    return pa.schema(fields, metadata=metadata)


def _kept_names(content: Content) -> Sequence[str]:
    return content.kept.names if content.kept else ()


def write_directory(output: Path, content: Content) -> Digests:
    """The published files as a dataset, named by number alone, so that every run gives the same names.

    Where they are not the rows in their order, files of about a shard's size are written instead.
    """
    with replacing(output) as temporary:
        temporary.mkdir()
        if not content.as_published:
            return {
                output / f"{number:05d}.parquet": write_parquet(
                    temporary / f"{number:05d}.parquet", table.schema, [table], kept=_kept_names(content)
                )
                for number, table in enumerate(_pieces(content))
            }
        for _ in content.batches():
            pass  # counted and digested, as for every other format
        digests = {}
        for source, digest in content.files.items():
            name = f"{source.name.split('-')[0]}.parquet"
            _link(source, temporary / name)
            digests[output / name] = digest
        return digests


def _pieces(content: Content) -> Iterator[pa.Table]:
    """The rows in tables of at least 16,384, or 32 MB, but for the last."""
    waiting: list[pa.RecordBatch] = []
    for batch in content.batches_with_kept():
        waiting.append(batch)
        num_rows, num_bytes = (sum(each.num_rows for each in waiting), sum(each.nbytes for each in waiting))
        if num_rows >= ROWS_PER_GROUP or num_bytes >= PIECE_BYTES:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def _link(source: Path, target: Path) -> None:
    """A hard link costs no room; across file systems it must be a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        sync_file(target)


def _by(module: str, name: str) -> Callable[[Path, Content], Digests]:
    """A writer in a module of its own, imported when it is wanted: workers import this one, and most never
    write an output."""

    def write(output: Path, content: Content) -> Digests:
        writer: Callable[[Path, Content], Digests] = getattr(import_module(module), name)
        return writer(output, content)

    return write


OUTPUTS: dict[Format, Callable[[Path, Content], Digests]] = {
    "h5": _by("queue_app.outputs.formats.hdf5", "write_h5_file"),
    "h5ad": _by("queue_app.outputs.formats.h5ad", "write_h5ad"),
    "npy": write_npy,
    "npz": _by("queue_app.outputs.formats.npz", "write_npz"),
    "safetensors": _by("queue_app.outputs.formats.safetensors_file", "write_safetensors"),
    "parquet": write_parquet_file,
    "arrow": write_arrow_file,
    "lance": _by("queue_app.outputs.formats.lance_dataset", "write_lance"),
    "directory": write_directory,
}
