"""One batch's result, and the same as bytes. Pure functions: no file, no clock, the same bytes for the same
block. The layout stands in `checkpoint.block_header`, and in words in FORMAT.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from checkpoint.block_header import (
    CHECKSUM_BYTES,
    CODES,
    HEADER_BYTES,
    RAGGED,
    SPLIT,
    BlockHeader,
    read_header,
)
from checkpoint.errors import BlockDamaged, WrongJob

Vectors = npt.NDArray[np.float32] | npt.NDArray[np.float16]
Uint64s = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The rows of one batch: `ordinals` uint64[count], `embeddings` [count, dim] of float32 or float16.

    An ordinal repeats for the windows of one long record, in their order. `split` says that the batch did
    not fit in memory and was computed in parts.

    A block with `offsets` uint64[count + 1] is ragged: `embeddings` is [vectors, dim], and the record at
    `ordinals[i]` has the vectors from `offsets[i]` up to `offsets[i + 1]`. `of_matrices` makes one.
    """

    batch_idx: int
    ordinals: Uint64s
    embeddings: Vectors
    split: bool = False
    offsets: Uint64s | None = None

    @classmethod
    def of_matrices(
        cls, batch_idx: int, ordinals: npt.ArrayLike, matrices: Sequence[Vectors], *, split: bool = False
    ) -> "Block":
        """A ragged block of one [L_i, dim] matrix per ordinal, at least one. L_i may be 0.

        Raises:
            ValueError: no matrix, or matrices that differ in dim or dtype.
        """
        if len({(matrix.shape[1:], matrix.dtype) for matrix in matrices}) != 1:
            raise ValueError("no ragged block: the matrices differ in dim or dtype, or there are none")
        embeddings = join_vectors(matrices)
        offsets = np.zeros(len(matrices) + 1, np.uint64)
        np.cumsum([len(matrix) for matrix in matrices], out=offsets[1:])
        return cls(batch_idx, np.asarray(ordinals, np.uint64), embeddings, split, offsets)

    @property
    def ragged(self) -> bool:
        return self.offsets is not None

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

    def _span(self, first: int, end: int) -> Vectors:
        if self.offsets is not None:
            first, end = int(self.offsets[first]), int(self.offsets[end])
        return self.embeddings[first:end]

    def copy(self) -> "Block":
        """The same in memory of its own: outlives the snapshot that it was a view of."""
        offsets = None if self.offsets is None else self.offsets.copy()
        return replace(
            self, ordinals=self.ordinals.copy(), embeddings=self.embeddings.copy(), offsets=offsets
        )


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
    view[:HEADER_BYTES] = header.pack()
    end = _fill(view, HEADER_BYTES, np.asarray(block.ordinals, "<u8"))
    if block.offsets is not None:
        end = _fill(view, end, np.asarray(block.offsets, "<u8"))
    view[end : header.vectors_at] = bytes(header.vectors_at - end)
    end = _fill(view, header.vectors_at, np.asarray(block.embeddings, header.dtype))
    view[end:] = xxhash.xxh3_128_digest(view[:end])
    return view


def _header_of(block: Block, job_digest: bytes) -> BlockHeader:
    embeddings, ordinals = block.embeddings, block.ordinals
    if embeddings.ndim != 2 or ordinals.ndim != 1:
        raise ValueError(f"no block: ordinals {ordinals.shape}, embeddings {embeddings.shape}")
    if len(job_digest) != 16:
        raise ValueError("a job digest has 16 bytes")
    num_vectors, dim = embeddings.shape
    if block.offsets is not None and not _are_offsets(block.offsets, len(ordinals), num_vectors):
        raise ValueError(f"no ragged block: offsets that do not cut {num_vectors} vectors in order")
    if block.offsets is None and num_vectors != len(ordinals):
        raise ValueError(f"no block: ordinals {ordinals.shape}, embeddings {embeddings.shape}")
    flags = SPLIT * block.split | RAGGED * block.ragged
    code = _code(embeddings)
    return BlockHeader(flags, code, job_digest, block.batch_idx, dim, len(ordinals), num_vectors)


def _fill(view: memoryview, at: int, array: npt.NDArray[Any]) -> int:
    """Copy the array's bytes there; answers where they end."""
    end = at + array.nbytes
    view[at:end] = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return end


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
    return _arrays(view, header)


def read_ordinals(data: bytes | memoryview) -> Uint64s:
    """The ordinals alone, as a view of `data`; nothing behind them is read, so nothing is verified.

    Raises BlockDamaged and NewerFormat as `read_header` does.
    """
    return np.frombuffer(data, "<u8", read_header(data).count, HEADER_BYTES)


def join_vectors(parts: Sequence[Any]) -> Vectors:
    """[n_i, dim] each, all of one dtype, as one [sum of n_i, dim]."""
    joined: Vectors = np.concatenate(parts)
    return joined


def _arrays(view: memoryview, header: BlockHeader) -> Block:
    ordinals = np.frombuffer(view, "<u8", header.count, HEADER_BYTES)
    vectors = np.frombuffer(view, header.dtype, header.num_vectors * header.dim, header.vectors_at)
    offsets = None
    if header.ragged:
        offsets = np.frombuffer(view, "<u8", header.count + 1, header.offsets_at)
        if not _are_offsets(offsets, header.count, header.num_vectors):
            raise BlockDamaged("the offsets do not cut the vectors in order")
    embeddings = vectors.reshape(header.num_vectors, header.dim)
    return Block(header.batch_idx, ordinals, embeddings, header.split, offsets)


def _are_offsets(offsets: Uint64s, count: int, num_vectors: int) -> bool:
    return (
        offsets.shape == (count + 1,)
        and int(offsets[0]) == 0
        and int(offsets[-1]) == num_vectors
        and bool(np.all(offsets[1:] >= offsets[:-1]))
    )


def _code(embeddings: Vectors) -> int:
    try:
        return CODES[embeddings.dtype.newbyteorder("<")]
    except KeyError:
        raise ValueError(f"no block holds {embeddings.dtype}") from None
