"""One batch's result, and the same as bytes: FORMAT.md has the layout. Pure functions: no file, no clock, the
same bytes for the same block.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from checkpoint.errors import BlockDamaged, NewerFormat, WrongJob

Vectors = npt.NDArray[np.float32] | npt.NDArray[np.float16]
Uint64s = npt.NDArray[np.uint64]

MAGIC = b"HFBLOCK\n"
VERSION = 2
SPLIT, RAGGED = 1, 2
DTYPES: dict[int, "np.dtype[Any]"] = {1: np.dtype("<f4"), 2: np.dtype("<f2")}
CODES = {dtype: code for code, dtype in DTYPES.items()}
CHECKSUM_BYTES = 16
VECTORS_ALIGNED_TO = 64
DIM_BELOW = 1 << 32
"""A block without vectors may name any dim and take no room for it, but no array can have it."""

_HEADER = struct.Struct("<8sHHHH16sQQQQ")


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The rows of one batch: `ordinals` uint64[count], `embeddings` [count, dim] of float32 or float16.

    An ordinal repeats for the windows of one long record, in their order. `split` says that the batch did
    not fit in memory and was computed in parts.

    A block with `offsets` uint64[count + 1] is ragged: `embeddings` is [vectors, dim], and the record at
    `ordinals[i]` has the vectors from `offsets[i]` up to `offsets[i + 1]`.
    """

    batch_idx: int
    ordinals: Uint64s
    embeddings: Vectors
    split: bool = False
    offsets: Uint64s | None = None

    @property
    def nbytes(self) -> int:
        """Of its arrays."""
        offsets = 0 if self.offsets is None else self.offsets.nbytes
        return int(self.ordinals.nbytes + self.embeddings.nbytes + offsets)

    def rows(self, ordinal: int) -> Vectors:
        """The vectors of one record: [1, dim], [k, dim] for k windows, [L, dim] in a ragged block.

        A view, unless the record's windows do not stand together. Raises KeyError when it has none here.
        """
        places = np.flatnonzero(self.ordinals == np.uint64(ordinal)).tolist()
        if not places:
            raise KeyError(ordinal)
        if places[-1] - places[0] + 1 == len(places):
            return self._span(places[0], places[-1] + 1)
        return join_vectors([self._span(place, place + 1) for place in places])

    def matrices(self) -> Iterator[tuple[int, Vectors]]:
        """Every ordinal, in block order, with its vectors: [L_i, dim] when ragged, [1, dim] when not."""
        for place, ordinal in enumerate(self.ordinals.tolist()):
            yield ordinal, self._span(place, place + 1)

    def copy(self) -> "Block":
        """The same in memory of its own: outlives the snapshot that it was a view of."""
        offsets = None if self.offsets is None else self.offsets.copy()
        return replace(
            self, ordinals=self.ordinals.copy(), embeddings=self.embeddings.copy(), offsets=offsets
        )

    def _span(self, first: int, end: int) -> Vectors:
        if self.offsets is not None:
            first, end = int(self.offsets[first]), int(self.offsets[end])
        return self.embeddings[first:end]


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """What stands before `count` ordinals and `num_vectors` vectors of `dim` numbers each."""

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
    def ragged(self) -> bool:
        return bool(self.flags & RAGGED)

    @property
    def offsets_at(self) -> int:
        """Where the offsets begin, or would begin."""
        return _HEADER.size + 8 * self.count

    @property
    def vectors_at(self) -> int:
        end = self.offsets_at + (8 * (self.count + 1) if self.ragged else 0)
        return -(-end // VECTORS_ALIGNED_TO) * VECTORS_ALIGNED_TO

    @property
    def size_bytes(self) -> int:
        """Of the whole block, checksum included."""
        return self.vectors_at + self.num_vectors * self.dim * self.dtype.itemsize + CHECKSUM_BYTES

    def pack(self) -> bytes:
        """Raises ValueError for numbers that do not fit."""
        numbers = (self.batch_idx, self.dim, self.count, self.num_vectors)
        try:
            return _HEADER.pack(MAGIC, VERSION, self.flags, self.dtype_code, 0, self.job_digest, *numbers)
        except struct.error as error:
            raise ValueError(f"no block: {error}") from None


# ---- writing


def encode(block: Block, job_digest: bytes) -> bytes:
    """The block's bytes. Raises ValueError for what no block can hold."""
    return bytes(encode_into(bytearray(encoded_bytes(block)), block, job_digest))


def encoded_bytes(block: Block) -> int:
    """How many bytes `encode` makes of it. Raises ValueError as that does."""
    return _header_of(block, bytes(16)).size_bytes


def encode_into(buffer: bytearray, block: Block, job_digest: bytes) -> memoryview:
    """As `encode`, at the beginning of a buffer that has room for it: answers a view of that part.

    One buffer for many blocks saves memory, and the time it takes to be given fresh memory.
    """
    header = _header_of(block, job_digest)
    view = memoryview(buffer)[: header.size_bytes]
    view[: _HEADER.size] = header.pack()
    end = _fill(view, _HEADER.size, np.asarray(block.ordinals, "<u8"))
    if block.offsets is not None:
        end = _fill(view, end, np.asarray(block.offsets, "<u8"))
    view[end : header.vectors_at] = bytes(header.vectors_at - end)
    end = _fill(view, header.vectors_at, np.asarray(block.embeddings, header.dtype))
    view[end:] = xxhash.xxh3_128_digest(view[:end])
    return view


def _header_of(block: Block, job_digest: bytes) -> BlockHeader:
    embeddings, ordinals, offsets = block.embeddings, block.ordinals, block.offsets
    if embeddings.ndim != 2 or ordinals.ndim != 1:
        raise ValueError(f"no block: ordinals {ordinals.shape}, embeddings {embeddings.shape}")
    if len(job_digest) != 16:
        raise ValueError("a job digest has 16 bytes")
    num_vectors, dim = embeddings.shape
    if offsets is not None and not _are_offsets(offsets, len(ordinals), num_vectors):
        raise ValueError(f"no ragged block: offsets that do not cut {num_vectors} vectors in order")
    if (offsets is None and num_vectors != len(ordinals)) or dim >= DIM_BELOW:
        raise ValueError(f"no block: ordinals {ordinals.shape}, embeddings {embeddings.shape}")
    code = CODES.get(embeddings.dtype.newbyteorder("<"))
    if code is None:
        raise ValueError(f"no block holds {embeddings.dtype}")
    flags = SPLIT * block.split | RAGGED * (offsets is not None)
    return BlockHeader(flags, code, job_digest, block.batch_idx, dim, len(ordinals), num_vectors)


def _fill(view: memoryview, at: int, array: npt.NDArray[Any]) -> int:
    """Copy the array's bytes there; answers where they end."""
    end = at + array.nbytes
    view[at:end] = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return end


# ---- reading


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
    vectors = np.frombuffer(view, header.dtype, header.num_vectors * header.dim, header.vectors_at)
    offsets = None
    if header.ragged:
        offsets = np.frombuffer(view, "<u8", header.count + 1, header.offsets_at)
        if not _are_offsets(offsets, header.count, header.num_vectors):
            raise BlockDamaged("the offsets do not cut the vectors in order")
    embeddings = vectors.reshape(header.num_vectors, header.dim)
    return Block(header.batch_idx, ordinals, embeddings, bool(header.flags & SPLIT), offsets)


def read_header(data: bytes | memoryview) -> BlockHeader:
    """Read a block's header, and hold it against the block's length. The checksum is not looked at.

    Raises:
        BlockDamaged: too short, no magic, or fields that no block can have.
        NewerFormat: written by a newer version.
    """
    if len(data) < _HEADER.size + CHECKSUM_BYTES:
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


def read_ordinals(data: bytes | memoryview) -> Uint64s:
    """The ordinals alone, as a view of `data`; nothing behind them is read, so nothing is verified.

    Raises BlockDamaged and NewerFormat as `read_header` does.
    """
    return np.frombuffer(data, "<u8", read_header(data).count, _HEADER.size)


def join_vectors(parts: Sequence[Any]) -> Vectors:
    """[n_i, dim] each, all of one dtype, as one [sum of n_i, dim]."""
    joined: Vectors = np.concatenate(parts)
    return joined


def _are_offsets(offsets: Uint64s, count: int, num_vectors: int) -> bool:
    return (
        offsets.shape == (count + 1,)
        and int(offsets[0]) == 0
        and int(offsets[-1]) == num_vectors
        and bool(np.all(offsets[1:] >= offsets[:-1]))
    )
