"""Outputs as their users read them, each format by what reads it elsewhere."""

import warnings
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from queue_app.job.output_names import companions

EVERY_FORMAT = [
    "out.h5", "out.h5ad", "out.npy", "out.npz", "out.safetensors", "out.parquet", "out.arrow", "out.lance",
    "out",
]  # fmt: skip


def table_of(output: Path) -> pa.Table:
    """That of a .parquet, .arrow, .feather or .lance file, or of a directory."""
    if output.suffix in (".arrow", ".feather"):
        with pa.memory_map(str(output)) as mapped:
            return pa.ipc.open_file(mapped).read_all()
    return lance().dataset(str(output)).to_table() if output.suffix == ".lance" else pq.read_table(output)


def ids_of(output: Path) -> list[str]:
    if output.suffix == ".h5":
        with h5py.File(output) as file:
            return list(file["ids"].asstr()[:])
    if output.suffix == ".h5ad":
        return list(read_h5ad(output).obs_names)
    if output.suffix == ".npz":
        return list(np.load(output)["ids"].tolist())
    if found := companions(output):
        return found[0].read_text(encoding="utf-8").split("\n")[:-1]
    return list(table_of(output)["id"].to_pylist())


def vectors_of(output: Path, column: str = "embedding", place: int = 0) -> np.ndarray:
    """[N, dim], or the vectors of all ragged rows end to end; of a .npy with columns that in `place`."""
    if output.suffix == ".npy":
        array: np.ndarray = np.load(output)
        return array[:, place] if array.ndim == 3 else array
    if output.suffix == ".h5ad":
        data = read_h5ad(output)
        return np.asarray(data.X if column == "embedding" else data.obsm[column])
    if output.suffix in (".h5", ".npz", ".safetensors"):
        return array_of(output, column.replace("embedding", "embeddings", 1))
    rows = table_of(output)[column].combine_chunks()
    while not pa.types.is_floating(rows.type) and not pa.types.is_integer(rows.type):
        dim = getattr(rows.type, "list_size", -1)
        rows = rows.flatten()
    return np.asarray(rows).reshape(-1, dim)


def array_of(output: Path, name: str) -> np.ndarray:
    """One of the arrays of a .h5, .npz or .safetensors."""
    if output.suffix == ".h5":
        with h5py.File(output) as file:
            return np.asarray(file[name][:])
    return np.asarray(np.load(output)[name] if output.suffix == ".npz" else load_file(output)[name])


def ragged_rows_of(output: Path, column: str = "embedding") -> list[np.ndarray]:
    """[L, dim] of each row."""
    if output.suffix in (".h5", ".npz", ".safetensors"):
        bounds, vectors = array_of(output, "offsets"), vectors_of(output, column)
        return [vectors[first:end] for first, end in pairwise(bounds.tolist())]
    return [np.array(row, np.float32) for row in table_of(output)[column].to_pylist()]


def files_of(output: Path) -> list[Path]:
    """All files that an output consists of, but for what is told of it."""
    if output.is_dir():
        return sorted(path for path in output.rglob("*") if path.is_file())
    return [output, *(path for path in companions(output) if path.exists())]


def read_h5ad(output: Path, **how: str) -> Any:
    anndata = pytest.importorskip("anndata")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Observation names are not unique")
        return anndata.read_h5ad(output, **how)


def lance() -> ModuleType:
    """What reads .lance; where it is missing the test is skipped, visibly."""
    found: ModuleType = pytest.importorskip("lance")
    return found
