"""The writers of the output formats. Each writes under a temporary name, fsyncs, and renames into place."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from queue_app.host.durable_files import rename_durably, sync_file
from queue_app.job.output_names import Format, ids_path, one_line, target_of
from queue_app.job.result_files import ROWS_PER_GROUP, as_matrix, write_parquet
from queue_app.outputs.content import Content

PIECE_BYTES = 32 << 20


def write_npy(output: Path, content: Content) -> None:
    """[N, dim] as `np.load` reads it, [N, columns, dim] where there are several; ids in <stem>.ids.txt.

    One id a line, always: a line break inside an id becomes a blank there.
    """
    with _replacing(ids_path(output)) as ids_temporary, _replacing(output) as temporary:
        with temporary.open("wb") as file, ids_temporary.open("w", encoding="utf-8", newline="\n") as ids:
            header = {"descr": np.dtype(content.dtype).str, "fortran_order": False}
            columns = content.columns
            shape = (content.num_rows, *([len(columns)] if len(columns) > 1 else []), content.dim)
            np.lib.format.write_array_header_1_0(file, {**header, "shape": shape})
            for batch in content.batches():
                file.write(np.stack([as_matrix(batch.column(name)) for name in columns], axis=1).tobytes())
                ids.writelines(f"{one_line(each)}\n" for each in batch.column("id").to_pylist())
        sync_file(temporary)
        sync_file(ids_temporary)


def write_parquet_file(output: Path, content: Content) -> None:
    """A table: see `_schema`."""
    schema = _schema(content)
    with _replacing(output) as temporary:
        batches = (batch.select(schema.names) for batch in content.batches())
        tables = (pa.Table.from_batches([batch]).cast(schema) for batch in batches)
        write_parquet(temporary, schema, (table.replace_schema_metadata(schema.metadata) for table in tables))


def write_arrow_file(output: Path, content: Content) -> None:
    """The same table as an Arrow IPC file, not compressed, so that it can be mapped into memory as it lies.

    What a reader takes for one array is one record batch: few and large ones are what it wants.
    """
    schema = _schema(content)
    with _replacing(output) as temporary:
        with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            for table in _pieces(content):
                writer.write_table(table.select(schema.names).combine_chunks().cast(schema))
        sync_file(temporary)


def _schema(content: Content) -> pa.Schema:
    """Columns `id` and `embedding`, or several of these; provenance in the metadata."""
    vector = pa.list_(pa.from_numpy_dtype(np.dtype(content.dtype)), content.dim)
    embedding = pa.list_(vector) if content.is_ragged else vector
    fields = [("id", pa.string()), *((name, embedding) for name in content.columns)]
    return pa.schema(fields, metadata=content.provenance)


def write_directory(output: Path, content: Content) -> None:
    """The published files as a dataset, named by number alone, so that every run gives the same names.

    Where they are not the rows in their order, files of about a shard's size are written instead.
    """
    with _replacing(output) as temporary:
        temporary.mkdir()
        if not content.as_published:
            for number, table in enumerate(_pieces(content)):
                write_parquet(temporary / f"{number:05d}.parquet", table.schema, [table])
            return
        for _ in content.batches():
            pass  # counted and digested, as for every other format
        for source in content.files:
            _link(source, temporary / f"{source.name.split('-')[0]}.parquet")


def _pieces(content: Content) -> Iterator[pa.Table]:
    """The rows in tables of at least 16,384, or 32 MB, but for the last."""
    waiting: list[pa.RecordBatch] = []
    for batch in content.batches():
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


def write_h5_file(output: Path, content: Content) -> None:
    """In the layout that was asked for: see queue_app.outputs.hdf5."""
    from queue_app.outputs.hdf5 import (
        write_h5,  # here, as workers import this module and most never write an output
    )

    with _replacing(output) as temporary:
        write_h5(temporary, content)
        sync_file(temporary)


@contextlib.contextmanager
def _replacing(output: Path) -> Iterator[Path]:
    """A temporary name beside `output`, renamed to it at the end, removed when writing fails.

    A symbolic link stays one: the file that it leads to is replaced.
    """
    output = target_of(output)
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if temporary.is_dir() and output.exists():
            # A directory cannot be renamed over another that is not empty.
            old = output.with_name(f".{output.name}.{os.getpid()}.old")
            output.rename(old)
            rename_durably(temporary, output)
            shutil.rmtree(old)
        else:
            rename_durably(temporary, output)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


OUTPUTS: dict[Format, Callable[[Path, Content], None]] = {
    "h5": write_h5_file,
    "npy": write_npy,
    "parquet": write_parquet_file,
    "arrow": write_arrow_file,
    "directory": write_directory,
}
