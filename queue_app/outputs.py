"""The output formats. Each is written under a temporary name, fsynced, and renamed into place."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa

from queue_app.durable import rename_durably, sync_file
from queue_app.errors import UsageError
from queue_app.job import Job
from queue_app.results import as_matrix, write_parquet

Format = Literal["h5", "npy", "parquet", "directory"]

H5_CHUNK_BYTES = 1 << 20


class Results(Protocol):
    """What an output is written from. `digest` stands once `batches` was read to its end."""

    files: list[Path]
    num_rows: int
    dim: int
    dtype: Literal["float32", "float16"]
    provenance: dict[str, str]
    digest: str

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Record batches with id, ordinal and embedding, in input order."""


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


def files_of(output: Path) -> list[Path]:
    """The files that a written output consists of."""
    if output.is_dir():
        return sorted(output.iterdir())
    return [output, ids_path(output)] if output_format(output) == "npy" else [output]


def meta_path(output: Path) -> Path:
    return output.with_name(output.name + ".meta.json")


def exported(job: Job) -> dict[str, Any] | None:
    """The meta.json of the job's output; None while it was not written, or belongs to another job."""
    try:
        meta = json.loads(meta_path(Path(job.output)).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return meta if isinstance(meta, dict) and meta.get("job") == job.job_id else None


def write_h5(output: Path, results: Results) -> None:
    """Datasets `ids` (UTF-8) and `embeddings` [N, dim]; provenance in the attributes."""
    import h5py  # here, as workers import this module and most never write an output

    with _replacing(output) as temporary:
        with h5py.File(temporary, "w", track_order=True) as file:
            file.attrs.update(results.provenance)
            ids = file.create_dataset("ids", (results.num_rows,), h5py.string_dtype(), track_times=False)
            embeddings = file.create_dataset(
                "embeddings", (results.num_rows, results.dim), results.dtype,
                chunks=_h5_chunks(results), track_times=False,
            )  # fmt: skip
            for start, batch in _placed(results):
                rows = slice(start, start + batch.num_rows)
                ids[rows] = batch.column("id").to_pylist()
                embeddings[rows] = as_matrix(batch.column("embedding"))
        sync_file(temporary)


def _h5_chunks(results: Results) -> tuple[int, int] | None:
    """About a megabyte of whole rows; none for an output without rows, which cannot be chunked."""
    row_bytes = results.dim * np.dtype(results.dtype).itemsize
    rows = min(results.num_rows, max(1, H5_CHUNK_BYTES // row_bytes))
    return (rows, results.dim) if rows else None


def write_npy(output: Path, results: Results) -> None:
    """[N, dim] as `np.load` reads it, and the ids in <stem>.ids.txt.

    One id a line, always: a line break inside an id becomes a blank there.
    """
    with _replacing(ids_path(output)) as ids_temporary, _replacing(output) as temporary:
        with temporary.open("wb") as file, ids_temporary.open("w", encoding="utf-8", newline="\n") as ids:
            header = {"descr": np.dtype(results.dtype).str, "fortran_order": False}
            np.lib.format.write_array_header_1_0(file, {**header, "shape": (results.num_rows, results.dim)})
            for batch in results.batches():
                file.write(as_matrix(batch.column("embedding")).tobytes())
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
    """Columns `id` and `embedding`; provenance in the schema's metadata."""
    embedding = pa.list_(pa.from_numpy_dtype(np.dtype(results.dtype)), results.dim)
    schema = pa.schema([("id", pa.string()), ("embedding", embedding)], metadata=results.provenance)
    with _replacing(output) as temporary:
        tables = (pa.Table.from_batches([batch.select(["id", "embedding"])]) for batch in results.batches())
        write_parquet(temporary, schema, (table.replace_schema_metadata(schema.metadata) for table in tables))


def write_directory(output: Path, results: Results) -> None:
    """The published files as a dataset, named by shard alone, so that every run gives the same names."""
    for _ in results.batches():
        pass  # counted and digested, as for every other format
    with _replacing(output) as temporary:
        temporary.mkdir()
        for source in results.files:
            _link(source, temporary / f"{source.name.split('-')[0]}.parquet")


def _link(source: Path, target: Path) -> None:
    """A hard link costs no room; across file systems it must be a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        sync_file(target)


def _placed(results: Results) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Every batch with the row where it begins."""
    start = 0
    for batch in results.batches():
        yield start, batch
        start += batch.num_rows


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
    "h5": write_h5,
    "npy": write_npy,
    "parquet": write_parquet_file,
    "directory": write_directory,
}
