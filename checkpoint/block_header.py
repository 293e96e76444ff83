"""The header of a block, and where in the block everything stands. FORMAT.md has it in words.

    offset  size
         0     8  magic
         8     2  version
        10     2  flags: bit 0 the batch was computed in parts; bit 1 ragged
        12     2  dtype: 1 float32, 2 float16, 3 bfloat16
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

All numbers are little-endian. Version 1 had neither bfloat16 nor ragged blocks nor the zeros before the
vectors, and zero in the place of the count of vectors.
"""

import struct
from collections.abc import Sequence
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

DTYPES: dict[int, "np.dtype[Any]"] = {1: np.dtype("<f4"), 2: np.dtype("<f2"), 3: np.dtype("<u2")}
"""How numpy holds each dtype code: bfloat16 as its bits."""
NAMES = {1: "float32", 2: "float16", 3: "bfloat16"}
CODES = {dtype: code for code, dtype in DTYPES.items()}

_HEADER = struct.Struct("<8sHHHH16sQQQQ")
_FIELDS = np.dtype(
    {
        "names": ["magic", "version", "count"],
        "formats": ["S8", "<u2", "<u8"],
        "offsets": [0, 8, 48],
        "itemsize": HEADER_BYTES,
    }
)
_KNOWN_FLAGS = {1: SPLIT, 2: SPLIT | RAGGED}
_KNOWN_DTYPES = {1: {1, 2}, 2: {1, 2, 3}}


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """What stands before the rows. `count` ordinals, `num_vectors` vectors of `dim` numbers each."""

    version: int
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
        return end if self.version == 1 else -(-end // VECTORS_ALIGNED_TO) * VECTORS_ALIGNED_TO

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
            return _HEADER.pack(
                MAGIC, self.version, self.flags, self.dtype_code, 0, self.job_digest, *numbers
            )
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
    if (
        version < 1
        or code not in _KNOWN_DTYPES[version]
        or flags & ~_KNOWN_FLAGS[version]
        or zero
        or dim >= DIM_BELOW
    ):
        raise BlockDamaged("the header holds what no block can hold")
    if not flags & RAGGED and vectors != (0 if version == 1 else count):
        raise BlockDamaged(f"{vectors} vectors for {count} ordinals")
    num_vectors = vectors if flags & RAGGED else count
    header = BlockHeader(version, flags, code, job, batch_idx, dim, count, num_vectors)
    if header.size_bytes != len(data):
        raise BlockDamaged(f"{len(data)} bytes instead of {header.size_bytes}")
    return header


def count_rows(headers: Sequence[bytes | memoryview]) -> int:
    """The sum of the counts of ordinals, from the first 64 bytes of each of many blocks.

    Raises:
        BlockDamaged: one of them is no header.
        NewerFormat: one of them is of a newer version.
    """
    together = b"".join(headers)
    if len(together) != HEADER_BYTES * len(headers):
        raise BlockDamaged("a block is shorter than its header")
    fields = np.frombuffer(together, _FIELDS) if together else np.empty(0, _FIELDS)
    if np.any(fields["magic"] != MAGIC):
        raise BlockDamaged("no block starts where one should")
    if np.any(fields["version"] > VERSION):
        raise NewerFormat(f"a block version is newer than {VERSION}, the newest known here")
    return int(fields["count"].sum(dtype=np.uint64))
