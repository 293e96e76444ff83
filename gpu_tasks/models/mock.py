"""`mock:DIM[,OPTION...]`: vectors that depend on the sequence alone, without torch.

Every number comes from integer arithmetic on the sequence's bytes, so it is the same on every machine
and in whatever batch, and two different sequences have different vectors.

Options are `delay_ms=N`, the time that each batch takes, and ways to be harmed by a sequence that
holds a motif: `kill=MOTIF` ends the process by SIGKILL, `hang=MOTIF` never returns, `raise=MOTIF` fails,
`lost=MOTIF` fails as CUDA does when its context is lost, `nan=MOTIF` gives NaN.
"""

import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.inference.batch_plan import TokenBatch
from gpu_tasks.inference.model import HostPending, StoreDtype, host_pending
from gpu_tasks.inference.readout import Left, Readout, check_layers, joined_pools
from gpu_tasks.inference.rows import offsets_of
from queue_app.model.spec import MOCK, MOCK_LAYERS, MOCK_MAX_LENGTH

_CLS, _EOS = 256, 257
_HASH_BASE = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class MockModel:
    """A stand-in for a model: bytes are its tokens. `harm` maps kill, hang, … to their motifs.

    The vectors of several pools or layers are different ones; the first of them is that of one alone.
    """

    name: str
    hidden_size: int
    delay_ms: int = 0
    harm: Mapping[str, str] = field(default_factory=dict)
    readout: Readout = field(default_factory=Readout)
    max_length: int = MOCK_MAX_LENGTH
    prefix: tuple[int, ...] = (_CLS,)
    suffix: tuple[int, ...] = (_EOS,)
    lookahead: int = 0

    @property
    def dim(self) -> int:
        joined = sum(len(joined_pools(pool)) for pool in self.readout.side_by_side)
        return self.hidden_size * (joined or self.readout.num_vectors)

    def tokenize(self, sequences: Sequence[str]) -> list[npt.NDArray[np.int32]]:
        return [np.frombuffer(sequence.encode(), np.uint8).astype(np.int32) for sequence in sequences]

    @property
    def left(self) -> Left:
        return Left(len(self.prefix), len(self.suffix), len(self.prefix), 0)

    def count_unknown(self, ids: npt.NDArray[np.int32]) -> int:
        return 0

    def finish(self, pooled: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return pooled

    def stage(self, batch: TokenBatch) -> "MockStaged":
        return MockStaged(self, batch)


@dataclass(frozen=True, slots=True)
class MockStaged:
    model: MockModel
    batch: TokenBatch

    def launch(self, store_dtype: StoreDtype) -> HostPending:
        time.sleep(self.model.delay_ms / 1000)
        if self._rows_with("kill").any():
            os.kill(os.getpid(), signal.SIGKILL)
        while self._rows_with("hang").any():
            time.sleep(3600)
        if self._rows_with("raise").any():
            raise ValueError(f"a sequence holds {self.model.harm['raise']}")
        if self._rows_with("lost").any():
            raise RuntimeError(f"CUDA error: a sequence holds {self.model.harm['lost']}")
        if self.model.readout.is_ragged:
            return self._every_token(store_dtype)
        vectors = _vectors(_hashes(self.batch), self.model.dim)
        vectors[self._rows_with("nan")] = np.nan
        return host_pending(vectors, store_dtype)

    def _every_token(self, store_dtype: StoreDtype) -> HostPending:
        """A vector by the row and the token's place in it, of every token that the row owns."""
        batch, num_tokens = self.batch, np.diff(self.batch.cu_seqlens)
        firsts, ends = self.model.left.pooled(batch.owned_starts, batch.owned_ends, num_tokens)
        lengths = ends - firsts
        offsets = offsets_of(lengths)
        before = offsets[:-1].astype(np.int64) - firsts + len(self.model.prefix)
        places = np.arange(lengths.sum()) - np.repeat(before, lengths)
        hashes = np.repeat(_hashes(self.batch), lengths) + places.astype(np.uint64)
        vectors = _vectors(_splitmix64(hashes), self.model.dim)
        vectors[np.repeat(self._rows_with("nan"), lengths)] = np.nan
        return host_pending(vectors, store_dtype, offsets)

    def _rows_with(self, harm: str) -> npt.NDArray[np.bool_]:
        """bool[n]: the rows whose sequence holds the motif of this harm."""
        rows = np.zeros(self.batch.num_rows, np.bool_)
        if motif := self.model.harm.get(harm):
            text = np.where(self.batch.input_ids < _CLS, self.batch.input_ids, 0).astype(np.uint8).tobytes()
            found = [match.start() for match in re.finditer(motif.encode(), text)]
            rows[np.searchsorted(self.batch.cu_seqlens, found, side="right") - 1] = True
        return rows


def load_mock(
    ref: str, *, pools: tuple[str, ...] | None = None, layers: tuple[int, ...] = (-1,)
) -> MockModel:
    """Raises ModelLoadError when `ref` is not `mock:DIM` with its options, UnsupportedModel for contacts."""
    match = MOCK.fullmatch(ref)
    if match is None or not int(match["dim"]):
        raise ModelLoadError(f"{ref!r}: write mock:DIM or mock:DIM,delay_ms=N, as in mock:16,delay_ms=20")
    options = dict(option.split("=") for option in match["options"].split(",")[1:])
    delay_ms = int(options.pop("delay_ms", 0))
    found = check_layers(layers, MOCK_LAYERS)
    readout = Readout(found, Readout().pools if pools is None else pools)
    if readout.is_contacts:
        raise UnsupportedModel(f"{ref}: a stand-in has no attention, of which contacts could be predicted")
    return MockModel(ref, int(match["dim"]), delay_ms, options, readout)


def _hashes(batch: TokenBatch) -> npt.NDArray[np.uint64]:
    """Polynomial hash of each row modulo 2^64. Rows are never empty: they have their special tokens."""
    if batch.num_rows == 0:
        return np.empty(0, np.uint64)
    starts = batch.cu_seqlens[:-1].astype(np.int64)
    position = np.arange(len(batch.input_ids)) - np.repeat(starts, np.diff(batch.cu_seqlens))
    powers = np.cumprod(np.full(batch.max_seqlen, _HASH_BASE, np.uint64))
    terms = (batch.input_ids.astype(np.uint64) + np.uint64(1)) * powers[position]
    return np.add.reduceat(terms, starts)


def _vectors(hashes: npt.NDArray[np.uint64], dim: int) -> npt.NDArray[np.float32]:
    """Uniform numbers in [-1, 1) with 24 random bits each, so that float32 holds them exactly."""
    columns = (np.arange(dim, dtype=np.uint64) + np.uint64(1)) * _HASH_BASE
    bits = _splitmix64(hashes[:, None] + columns[None, :]) >> np.uint64(40)
    return bits.astype(np.float32) * np.float32(2**-23) - np.float32(1)


def _splitmix64(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of https://prng.di.unimi.it/splitmix64.c."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
