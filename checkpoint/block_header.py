"""The header of a block, and where in the block everything stands. FORMAT.md has it in words.

    offset  size
         0     8  magic
         8     2  version
        10     2  flags: bit 0 the batch was computed in parts; bit 1 ragged
        12     2  dtype: 1 float32, 2 float16
        14     2  zero
        16    16  job digest
        32     8  batch index
        40     8  dim, below 2^32
        48     8  count of ordinals
        56     8  count of vectors: that of the ordinals, unless the block is ragged
        64     8 x count                 ordinals
         …     8 x (count + 1)           offsets, in a ragged block only
         …     0 to 63                   zeros, up to a multiple of 64
         …     item x vectors x dim      vectors
         …    16                         xxh3-128 over everything before it

All numbers are little-endian.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from checkpoint.errors import BlockDamaged, NewerFormat

MAGIC = b"HFBLOCK\n"
VERSION = 2
SPLIT, RAGGED = 1, 2
CHECKSUM_BYTES = 16
HEADER_BYTES = 64
VECTORS_ALIGNED_TO = 64
DIM_BELOW = 1 << 32
"""A block without vectors may name any dim and take no room for it, but no array can have it."""

DTYPES: dict[int, "np.dtype[Any]"] = {1: np.dtype("<f4"), 2: np.dtype("<f2")}
CODES = {dtype: code for code, dtype in DTYPES.items()}

_HEADER = struct.Struct("<8sHHHH16sQQQQ")


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """What stands before the rows. `count` ordinals, `num_vectors` vectors of `dim` numbers each."""

    flags: int
    dtype_code: int
    job_digest: bytes
    batch_idx: int
    dim: int
    count: int
    num_vectors: int

    @property
    def dtype(self) -> "np.dtype[Any]":
        return DTYPES[self.dtype_code]

    @property
    def split(self) -> bool:
        return bool(self.flags & SPLIT)

    @property
    def ragged(self) -> bool:
        return bool(self.flags & RAGGED)

    @property
    def offsets_at(self) -> int:
        """Where the offsets begin, or would begin."""
        return HEADER_BYTES + 8 * self.count

    @property
    def vectors_at(self) -> int:
        end = self.offsets_at + (8 * (self.count + 1) if self.ragged else 0)
        return -(-end // VECTORS_ALIGNED_TO) * VECTORS_ALIGNED_TO

    @property
    def size_bytes(self) -> int:
        """Of the whole block, checksum included."""
        return self.vectors_at + self.num_vectors * self.dim * self.dtype.itemsize + CHECKSUM_BYTES

    def pack(self) -> bytes:
        """Its 64 bytes. Raises ValueError for numbers that do not fit."""
        if self.dim >= DIM_BELOW:
            raise ValueError(f"no block: dim {self.dim}")
        numbers = (self.batch_idx, self.dim, self.count, self.num_vectors)
        try:
            return _HEADER.pack(MAGIC, VERSION, self.flags, self.dtype_code, 0, self.job_digest, *numbers)
        except struct.error as error:
            raise ValueError(f"no block: {error}") from None


def read_header(data: bytes | memoryview) -> BlockHeader:
    """Read a block's header, and hold it against the block's length. The checksum is not looked at.

    Raises:
        BlockDamaged: too short, no magic, or fields that no block can have.
        NewerFormat: written by a newer version.
    """
    if len(data) < HEADER_BYTES + CHECKSUM_BYTES:
        raise BlockDamaged(f"{len(data)} bytes are too few for a block")
    magic, version, flags, code, zero, job, batch_idx, dim, count, vectors = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise BlockDamaged("no block starts here")
    if version > VERSION:
        raise NewerFormat(f"block version {version} is newer than {VERSION}, the newest known here")
    if version < VERSION or code not in DTYPES or flags & ~(SPLIT | RAGGED) or zero or dim >= DIM_BELOW:
        raise BlockDamaged("the header holds what no block can hold")
    if not flags & RAGGED and vectors != count:
        raise BlockDamaged(f"{vectors} vectors for {count} ordinals")
    header = BlockHeader(flags, code, job, batch_idx, dim, count, vectors)
    if header.size_bytes != len(data):
        raise BlockDamaged(f"{len(data)} bytes instead of {header.size_bytes}")
    return header
