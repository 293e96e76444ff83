"""One batch's result as bytes. Pure functions: no file, no clock, the same bytes for the same block.

    offset  size
         0     8  magic
         8     2  version
        10     2  flags: bit 0 the batch was computed in parts; bit 1 ragged (not written yet)
        12     2  dtype: 1 float32, 2 float16 (3 bfloat16, not written yet)
        14     2  zero
        16    16  job digest
        32     8  batch index
        40     8  dim
        48     8  count of rows
        56     8  zero: the vectors of a block without rows and the ordinals start on a cache line
        64     8 x count           ordinals
         …     item x count x dim  vectors
         …    16                   xxh3-128 over everything before it

All numbers are little-endian.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from checkpoint.errors import BlockDamaged, NewerFormat, WrongJob

MAGIC = b"HFBLOCK\n"
VERSION = 1
SPLIT = 1
CHECKSUM_BYTES = 16
KNOWN_FLAGS = SPLIT

_HEADER = struct.Struct("<8sHHHH16sQQQQ")
_DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 2: np.dtype("<f2")}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}

Vectors = npt.NDArray[np.float32] | npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The rows of one batch: `ordinals` uint64[count], `embeddings` float32 or float16 [count, dim].

    An ordinal repeats for the windows of one long record, in their order. `split` says that the batch
    did not fit in memory and was computed in parts.
    """

    batch_idx: int
    ordinals: npt.NDArray[np.uint64]
    embeddings: Vectors
    split: bool = False


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """What stands before the rows."""

    version: int
    flags: int
    dtype_code: int
    job_digest: bytes
    batch_idx: int
    dim: int
    count: int

    @property
    def dtype(self) -> "np.dtype[Any]":
        return _DTYPES[self.dtype_code]

    @property
    def size_bytes(self) -> int:
        """Of the whole block, checksum included."""
        rows = self.count * (8 + self.dim * self.dtype.itemsize)
        return _HEADER.size + rows + CHECKSUM_BYTES


def encode(block: Block, job_digest: bytes) -> bytes:
    """The block's bytes. Raises ValueError for shapes or dtypes that no block can have."""
    embeddings = np.ascontiguousarray(block.embeddings)
    dtype = embeddings.dtype.newbyteorder("<")
    ordinals = np.ascontiguousarray(block.ordinals, dtype="<u8")
    if embeddings.ndim != 2 or ordinals.shape != embeddings.shape[:1] or dtype not in _CODES:
        raise ValueError(
            f"no block: ordinals {ordinals.shape}, embeddings {embeddings.shape} {embeddings.dtype}"
        )
    if len(job_digest) != 16:
        raise ValueError("a job digest has 16 bytes")
    count, dim = embeddings.shape
    flags = SPLIT if block.split else 0
    header = _HEADER.pack(MAGIC, VERSION, flags, _CODES[dtype], 0, job_digest, block.batch_idx, dim, count, 0)
    content = b"".join((header, ordinals.tobytes(), embeddings.astype(dtype, copy=False).tobytes()))
    return content + xxhash.xxh3_128_digest(content)


def read_header(data: bytes | memoryview) -> BlockHeader:
    """Read a block's header without verifying its rows.

    Raises:
        BlockDamaged: too short, no magic, or fields that no block can have.
        NewerFormat: written by a newer version.
    """
    if len(data) < _HEADER.size + CHECKSUM_BYTES:
        raise BlockDamaged(f"{len(data)} bytes are too few for a block")
    magic, version, flags, code, zero, job, batch_idx, dim, count, pad = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise BlockDamaged("no block starts here")
    if version > VERSION:
        raise NewerFormat(f"block version {version} is newer than {VERSION}, the newest known here")
    header = BlockHeader(version, flags, code, job, batch_idx, dim, count)
    if code not in _DTYPES or flags & ~KNOWN_FLAGS or zero or pad or version < 1:
        raise BlockDamaged("the header holds what no block can hold")
    if header.size_bytes != len(data):
        raise BlockDamaged(f"{len(data)} bytes instead of {header.size_bytes}")
    return header


def decode(
    data: bytes | memoryview, *, job_digest: bytes | None = None, batch_idx: int | None = None
) -> Block:
    """Verify and read a block. The arrays are views of `data`: valid as long as it is.

    Raises:
        BlockDamaged: the bytes are not those that `encode` made, or those of another batch.
        WrongJob: a sound block of another job.
        NewerFormat: written by a newer version.
    """
    # The checksum comes first: a flipped bit in the version must read as damage, not as a newer format.
    view = memoryview(data)
    sound = (
        len(view) >= CHECKSUM_BYTES
        and xxhash.xxh3_128_digest(view[:-CHECKSUM_BYTES]) == view[-CHECKSUM_BYTES:]
    )
    if not sound:
        raise BlockDamaged("the checksum does not match")
    header = read_header(view)
    if job_digest is not None and header.job_digest != job_digest:
        raise WrongJob(f"a block of job {header.job_digest.hex()}, not {job_digest.hex()}")
    if batch_idx is not None and header.batch_idx != batch_idx:
        raise BlockDamaged(f"the block of batch {header.batch_idx} stands in the place of batch {batch_idx}")
    ordinals = np.frombuffer(view, "<u8", header.count, _HEADER.size)
    start = _HEADER.size + 8 * header.count
    vectors = np.frombuffer(view, header.dtype, header.count * header.dim, start)
    return Block(
        header.batch_idx,
        ordinals,
        vectors.reshape(header.count, header.dim),
        bool(header.flags & SPLIT),
    )
