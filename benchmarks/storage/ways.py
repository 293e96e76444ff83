"""Ways of keeping rows on disk so that every 10,000 of them are safe before the next are computed.

Each writes the same ordinals and vectors. All but one bring every commit to the disk (fsync of the file, and
of its directory where a file is new); that one is how scripts do it, and a power cut takes what it wrote.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
import xxhash
from safetensors.numpy import load_file, save_file

from checkpoint import Block, CheckpointStore

JOB = bytes(16)
Commit = tuple[npt.NDArray[np.uint64], npt.NDArray[Any]]
"""ordinals uint64[rows], vectors [rows, dim]"""


@dataclass(frozen=True, slots=True)
class Way:
    """`write` keeps the commits in a directory; `read` gives all their vectors back, in pieces."""

    name: str
    write: Callable[[Path, Iterable[Commit]], None]
    read: Callable[[Path], Iterator[npt.NDArray[Any]]]


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- ours


def store_in_blocks_of(rows_per_block: int) -> Callable[[Path, Iterable[Commit]], None]:
    def write(directory: Path, commits: Iterable[Commit]) -> None:
        batch_idx = 0
        with CheckpointStore.open(directory / "store", job_digest=JOB, plan="p", token=1) as store:
            for ordinals, vectors in commits:
                blocks = []
                for first in range(0, len(ordinals), rows_per_block):
                    rows = slice(first, first + rows_per_block)
                    blocks.append(Block(batch_idx, ordinals[rows], vectors[rows]))
                    batch_idx += 1
                store.commit(blocks, token=1)

    return write


def read_store(directory: Path) -> Iterator[npt.NDArray[Any]]:
    """Verified, as all that is read from a store."""
    with CheckpointStore.open_readonly(directory / "store") as store, store.snapshot() as snapshot:
        for block in snapshot.blocks():
            yield block.embeddings


# ---- the others


def write_plain(directory: Path, commits: Iterable[Commit]) -> None:
    with (directory / "rows.bin").open("wb") as file:
        for number, (ordinals, vectors) in enumerate(commits):
            file.write(ordinals.data)
            file.write(vectors.data)
            file.flush()
            os.fsync(file.fileno())
            if number == 0:
                sync(directory)


def read_plain(directory: Path) -> Iterator[npt.NDArray[Any]]:
    yield np.fromfile(directory / "rows.bin", np.uint8)


def one_file_per_commit(
    suffix: str, save: Callable[[Path, Commit], None], *, synced: bool = True
) -> Callable[[Path, Iterable[Commit]], None]:
    def write(directory: Path, commits: Iterable[Commit]) -> None:
        for number, commit in enumerate(commits):
            path = directory / f"{number:06d}{suffix}"
            save(path, commit)
            if synced:
                sync(path)
                sync(directory)

    return write


def each_file(load: Callable[[Path], npt.NDArray[Any]]) -> Callable[[Path], Iterator[npt.NDArray[Any]]]:
    return lambda directory: (load(path) for path in sorted(directory.iterdir()))


def save_torch(path: Path, commit: Commit) -> None:
    ordinals, vectors = commit
    torch.save({"ordinals": torch.from_numpy(ordinals), "embeddings": torch.from_numpy(vectors)}, path)


def load_torch(path: Path) -> npt.NDArray[Any]:
    vectors: npt.NDArray[Any] = torch.load(path)["embeddings"].numpy()
    return vectors


def save_safetensors(path: Path, commit: Commit) -> None:
    save_file({"ordinals": commit[0], "embeddings": commit[1]}, path)


def save_npy(path: Path, commit: Commit) -> None:
    np.save(path, commit[1])


def save_arrow(path: Path, commit: Commit) -> None:
    ordinals, vectors = commit
    rows = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    batch = pa.record_batch({"ordinal": pa.array(ordinals), "embedding": rows})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def load_arrow(path: Path) -> npt.NDArray[Any]:
    with pa.memory_map(str(path)) as source:
        column = pa.ipc.open_file(source).get_batch(0).column("embedding")
        vectors: npt.NDArray[Any] = column.flatten().to_numpy(zero_copy_only=True)
        return vectors


def append_hdf5(directory: Path, commits: Iterable[Commit]) -> None:
    with h5py.File(directory / "rows.h5", "w") as file:
        for number, (ordinals, vectors) in enumerate(commits):
            if number == 0:
                width = vectors.shape[1]
                file.create_dataset("ordinals", (0,), ordinals.dtype, maxshape=(None,), chunks=(1024,))
                file.create_dataset(
                    "embeddings", (0, width), vectors.dtype, maxshape=(None, width), chunks=(256, width)
                )
            for name, rows in (("ordinals", ordinals), ("embeddings", vectors)):
                dataset = file[name]
                dataset.resize(len(dataset) + len(rows), axis=0)
                dataset[-len(rows) :] = rows
            file.flush()
            sync(directory / "rows.h5")
            if number == 0:
                sync(directory)


def read_hdf5(directory: Path) -> Iterator[npt.NDArray[Any]]:
    with h5py.File(directory / "rows.h5") as file:
        vectors = file["embeddings"]
        for first in range(0, len(vectors), 10_240):
            yield vectors[first : first + 10_240]


STORE = Way("holdfast", store_in_blocks_of(256), read_store)
TORCH = Way("torch.save", one_file_per_commit(".pt", save_torch), each_file(load_torch))
WAYS = (
    STORE,
    TORCH,
    Way(
        "torch.save, no fsync",
        one_file_per_commit(".pt", save_torch, synced=False),
        each_file(load_torch),
    ),
    Way("plain file", write_plain, read_plain),
    Way("h5py", append_hdf5, read_hdf5),
    Way(
        "safetensors",
        one_file_per_commit(".safetensors", save_safetensors),
        each_file(lambda path: load_file(path)["embeddings"]),
    ),
    Way("npy", one_file_per_commit(".npy", save_npy), each_file(np.load)),
    Way("Arrow IPC", one_file_per_commit(".arrow", save_arrow), each_file(load_arrow)),
)


def read_every_byte(way: Way, directory: Path) -> int:
    """How many bytes of vectors were read; a fast hash makes sure that they really were."""
    hashed, num_bytes = xxhash.xxh3_128(), 0
    for vectors in way.read(directory):
        hashed.update(vectors.reshape(-1).view(np.uint8).data)
        num_bytes += vectors.nbytes
    return num_bytes
