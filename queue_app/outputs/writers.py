"""The writers of the output formats. Each writes under a temporary name, fsyncs, and renames into place."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from queue_app.host.durable_files import (
    DigestedFile,
    file_digest,
    removed_on_failure,
    rename_durably,
    sync_file,
)
from queue_app.job.output_names import Format, ids_path, one_line, target_of
from queue_app.job.result_files import ROWS_PER_GROUP, as_matrix, num_vectors, write_parquet
from queue_app.outputs.content import Content

PIECE_BYTES = 32 << 20

Digests = Mapping[Path, str]
"""The files that an output consists of, and the xxh3-128 (hex) of each: what was written, not what was read
back."""


def write_npy(output: Path, content: Content) -> Digests:
    """[N, dim] as `np.load` reads it, [N, columns, dim] where there are several; ids in <stem>.ids.txt.

    One id a line, always: a line break inside an id becomes a blank there.
    """
    with _replacing(ids_path(output)) as ids_temporary, _replacing(output) as temporary:
        with DigestedFile(temporary) as file, DigestedFile(ids_temporary) as ids:
            _write_header(file, content, content.num_rows)
            for batch in content.batches():
                file.write(_values(batch, content))
                ids.write(_id_lines(batch))
        sync_file(temporary)
        sync_file(ids_temporary)
    return {output: file.hexdigest(), ids_path(output): ids.hexdigest()}


def write_ragged_npy(output: Path, content: Content) -> None:
    """The vectors of all ragged rows end to end, ids as `write_npy` writes them, and where each row begins in
    <stem>.offsets.npy. Whoever calls sees to it that all are there or none."""
    offsets, row = np.zeros(content.num_rows + 1, np.int64), 0
    with output.open("wb") as file, ids_path(output).open("wb") as ids:
        _write_header(file, content, 0)
        for batch in content.batches():
            file.write(_values(batch, content))
            ids.write(_id_lines(batch))
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


def _id_lines(batch: pa.RecordBatch) -> bytes:
    return "".join(f"{one_line(each)}\n" for each in batch.column("id").to_pylist()).encode()


def _write_header(file: BinaryIO, content: Content, length: int) -> None:
    """NumPy leaves room in it for a first dimension that grows, so it may be written over."""
    shape = (length, *([len(content.columns)] if len(content.columns) > 1 else []), content.dim)
    header = {"descr": np.dtype(content.dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def offsets_path(path: Path) -> Path:
    """Where the offsets of an array of ragged rows lie."""
    return path.with_suffix(".offsets.npy")


def write_parquet_file(output: Path, content: Content) -> Digests:
    """A table: see `_schema`."""
    schema = _schema(content)
    with _replacing(output) as temporary:
        batches = (batch.select(schema.names) for batch in content.batches_with_kept())
        tables = (pa.Table.from_batches([batch]).cast(schema) for batch in batches)
        tables = (table.replace_schema_metadata(schema.metadata) for table in tables)
        return {output: write_parquet(temporary, schema, tables, kept=_kept_names(content))}


def write_arrow_file(output: Path, content: Content) -> Digests:
    """A table (see `_schema`) as an Arrow IPC file, not compressed, so that it can be mapped as it lies.

    What a reader takes for one array is one record batch: few and large ones are what it wants.
    """
    schema = _schema(content)
    with _replacing(output) as temporary:
        with DigestedFile(temporary) as file, pa.ipc.new_file(file, schema) as writer:
            for table in _pieces(content):
                writer.write_table(table.select(schema.names).combine_chunks().cast(schema))
        sync_file(temporary)
    return {output: file.hexdigest()}


def _schema(content: Content) -> pa.Schema:
    """Columns `id`, what is kept, and `embedding`, or several of these; provenance in the metadata."""
    number = pa.from_numpy_dtype(np.dtype(content.dtype))
    vector = number if content.is_contacts else pa.list_(number, content.dim)
    embedding = pa.list_(vector) if content.is_ragged else vector
    vectors = [pa.field(name, embedding) for name in content.columns]
    fields = [pa.field("id", pa.string()), *(content.kept.schema if content.kept else []), *vectors]
    return pa.schema(fields, metadata=content.provenance)


def _kept_names(content: Content) -> Sequence[str]:
    return content.kept.names if content.kept else ()


def write_directory(output: Path, content: Content) -> Digests:
    """The published files as a dataset, named by number alone, so that every run gives the same names.

    Where they are not the rows in their order, files of about a shard's size are written instead.
    """
    with _replacing(output) as temporary:
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


def write_h5_file(output: Path, content: Content) -> Digests:
    """In the layout that was asked for: see queue_app.outputs.hdf5."""
    # Not above, as workers import this module and most never write an output.
    from queue_app.outputs.hdf5 import write_h5

    with _replacing(output) as temporary:
        write_h5(temporary, content)
        sync_file(temporary)
    return {output: file_digest(output)}  # read back: HDF5 goes to and fro in its file


@contextlib.contextmanager
def _replacing(output: Path) -> Iterator[Path]:
    """A temporary name beside `output`, renamed to it at the end, removed when writing fails.

    A symbolic link stays one: the file that it leads to is replaced.
    """
    output = target_of(output)
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    with removed_on_failure(temporary):
        yield temporary
        if temporary.is_dir() and output.exists():
            # A directory cannot be renamed over another that is not empty.
            old = output.with_name(f".{output.name}.{os.getpid()}.old")
            output.rename(old)
            rename_durably(temporary, output)
            shutil.rmtree(old)
        else:
            rename_durably(temporary, output)


OUTPUTS: dict[Format, Callable[[Path, Content], Digests]] = {
    "h5": write_h5_file,
    "npy": write_npy,
    "parquet": write_parquet_file,
    "arrow": write_arrow_file,
    "directory": write_directory,
}
