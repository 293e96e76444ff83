"""The output formats. Each is written under a temporary name, fsynced, and renamed into place."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa

from queue_app.durable import rename_durably, sync_file
from queue_app.errors import UsageError
from queue_app.job import EmbedOptions, H5Layout, Job
from queue_app.readouts import column_names, is_ragged
from queue_app.results import ROWS_PER_GROUP, as_matrix, write_parquet

_PIECE = re.compile(r"\d{5,}\.parquet")
PIECE_BYTES = 32 << 20

Format = Literal["h5", "npy", "parquet", "directory"]


class Results(Protocol):
    """What an output is written from. `digest` stands once `batches` was read to its end.

    Each of the `columns` has vectors of `dim` numbers: one for each row or, where they are ragged, for each
    token of it. `as_published` says that the files, one after another, hold what `batches` yields.
    """

    files: list[Path]
    as_published: bool
    num_rows: int
    dim: int
    columns: tuple[str, ...]
    is_ragged: bool
    h5_layout: H5Layout
    dtype: Literal["float32", "float16"]
    provenance: dict[str, str]
    digest: str

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Record batches with id, ordinal and the columns, in input order."""


def output_format(output: Path) -> Format:
    """By the name's ending; none means a directory. Raises UsageError for one that is unknown."""
    formats: dict[str, Format] = {
        ".h5": "h5", ".hdf5": "h5", ".npy": "npy", ".parquet": "parquet", "": "directory",
    }  # fmt: skip
    suffix = output.suffix.lower()
    if suffix not in formats:
        raise UsageError(
            f"{output}: unknown format {suffix}; use .h5, .npy, .parquet, or no ending for a directory"
        )
    return formats[suffix]


def check_format(output: Path, options: EmbedOptions, h5_layout: H5Layout) -> None:
    """Raises UsageError where the output's format cannot hold what is computed."""
    kind = output_format(output)
    if kind == "npy" and is_ragged(options):
        raise UsageError(
            f"{output}: a .npy holds no rows of different lengths, which --pool none makes; "
            "use .h5, .parquet, or a directory"
        )
    if kind == "h5" and h5_layout == "per-sequence" and len(column_names(options)) > 1:
        raise UsageError(
            f"{output}: --h5-layout per-sequence has one vector a record; choose one pool and one layer"
        )


def files_of(output: Path) -> list[Path]:
    """The files that a written output consists of."""
    if output.is_dir():
        return sorted(output.iterdir())
    return [output, ids_path(output)] if output_format(output) == "npy" else [output]


def meta_path(output: Path) -> Path:
    return output.with_name(output.name + ".meta.json")


def card_paths(output: Path) -> tuple[Path, Path]:
    """The run card, for people and for machines."""
    return output.with_name(output.name + ".card.md"), output.with_name(output.name + ".card.json")


def exported(job: Job) -> dict[str, Any] | None:
    """The meta.json of the job's output; None while it was not written, or belongs to another job."""
    try:
        meta = json.loads(meta_path(Path(job.output)).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return meta if isinstance(meta, dict) and meta.get("job") == job.job_id else None


def write_npy(output: Path, results: Results) -> None:
    """[N, dim] as `np.load` reads it, [N, columns, dim] where there are several; ids in <stem>.ids.txt.

    One id a line, always: a line break inside an id becomes a blank there.
    """
    with _replacing(ids_path(output)) as ids_temporary, _replacing(output) as temporary:
        with temporary.open("wb") as file, ids_temporary.open("w", encoding="utf-8", newline="\n") as ids:
            header = {"descr": np.dtype(results.dtype).str, "fortran_order": False}
            columns = results.columns
            shape = (results.num_rows, *([len(columns)] if len(columns) > 1 else []), results.dim)
            np.lib.format.write_array_header_1_0(file, {**header, "shape": shape})
            for batch in results.batches():
                file.write(np.stack([as_matrix(batch.column(name)) for name in columns], axis=1).tobytes())
                ids.writelines(f"{one_line(each)}\n" for each in batch.column("id").to_pylist())
        sync_file(temporary)
        sync_file(ids_temporary)


def ids_path(output: Path) -> Path:
    """Where the ids of a .npy output lie."""
    return output.with_suffix(".ids.txt")


def one_line(text: str) -> str:
    """Every line break, of whatever kind, becomes a blank."""
    return " ".join(text.splitlines())


def write_parquet_file(output: Path, results: Results) -> None:
    """Columns `id` and `embedding`, or several of these; provenance in the schema's metadata."""
    vector = pa.list_(pa.from_numpy_dtype(np.dtype(results.dtype)), results.dim)
    embedding = pa.list_(vector) if results.is_ragged else vector
    fields = [("id", pa.string()), *((name, embedding) for name in results.columns)]
    schema = pa.schema(fields, metadata=results.provenance)
    with _replacing(output) as temporary:
        batches = (batch.select(schema.names) for batch in results.batches())
        tables = (pa.Table.from_batches([batch]).cast(schema) for batch in batches)
        write_parquet(temporary, schema, (table.replace_schema_metadata(schema.metadata) for table in tables))


def write_directory(output: Path, results: Results) -> None:
    """The published files as a dataset, named by number alone, so that every run gives the same names.

    Where they are not the rows in their order, files of about a shard's size are written instead.
    """
    with _replacing(output) as temporary:
        temporary.mkdir()
        if not results.as_published:
            for number, table in enumerate(_pieces(results)):
                write_parquet(temporary / f"{number:05d}.parquet", table.schema, [table])
            return
        for _ in results.batches():
            pass  # counted and digested, as for every other format
        for source in results.files:
            _link(source, temporary / f"{source.name.split('-')[0]}.parquet")


def holds_other_than_output(directory: Path) -> str | None:
    """The name of something in it that `write_directory` does not write, and would remove."""
    return next((path.name for path in directory.iterdir() if not _PIECE.fullmatch(path.name)), None)


def _pieces(results: Results) -> Iterator[pa.Table]:
    """The rows in tables of at least 16,384, or 32 MB, but for the last."""
    waiting: list[pa.RecordBatch] = []
    for batch in results.batches():
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


def write_h5_file(output: Path, results: Results) -> None:
    """In the layout that was asked for: see queue_app.hdf5."""
    from queue_app.hdf5 import write_h5  # here, as workers import this module and most never write an output

    with _replacing(output) as temporary:
        write_h5(temporary, results)
        sync_file(temporary)


@contextlib.contextmanager
def _replacing(output: Path) -> Iterator[Path]:
    """A temporary name beside `output`, renamed to it at the end, removed when writing fails."""
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


OUTPUTS: dict[Format, Callable[[Path, Results], None]] = {
    "h5": write_h5_file,
    "npy": write_npy,
    "parquet": write_parquet_file,
    "directory": write_directory,
}
