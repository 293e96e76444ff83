"""The numerics canary: does this device compute what it should?

A GPU with failing memory or a broken kernel gives vectors that look like any others. A few fixed sequences
show it before the first one is stored. A model of which the host can hold a second copy is compared with the
processor in float32, a larger one with the job's other devices, before each shard:

- Two different devices that agree within the dtype's tolerance make the golden vectors, for good. Whoever
  deviates from them ends before it takes a shard. A device never confirms itself, be it through a restarted
  worker or through a second worker on it.
- The first has nobody to be compared with, and goes on: a job with one worker must not wait. While no two
  agree, nobody can say who is wrong: all go on and say so loudly, until one more device sides with one.
- The shards that a deviating device has begun are named, by itself and by whoever made the vectors golden:
  what it committed there is suspicious.

Devices that are wrong in the same way are not found out. A server that lost its data costs nothing: the
vectors are deposited again before the next shards.
"""

import base64
import binascii
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gpu_tasks.errors import NumericsDeviate
from gpu_tasks.inference.model import Dtype, EmbeddingModel
from gpu_tasks.inference.plan_batches import plan_batches
from gpu_tasks.inference.rows import split_rows
from gpu_tasks.inference.runner import AsyncInferenceRunner

log = logging.getLogger(__name__)

_LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def _long_sequence(num_letters: int) -> str:
    """Letters of which nothing repeats soon: powers of 3, modulo a prime of which 3 is a primitive root."""
    return "".join(_LETTERS[pow(3, place, 65_537) % len(_LETTERS)] for place in range(num_letters))


SEQUENCES = (
    "M",
    "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVVHSLAKWKRQTLGQHDFSAGEGLYTHMKALRPDED",
    "GSHMASMTGGQQMGRGS",
    "ACGTTGCAACGTNNACGT",
    "A zinc-binding alcohol dehydrogenase, and what it does.",
    _long_sequence(389),
    _long_sequence(1_500),
)
"""Short and long, of every alphabet: each tokenizer makes something of each. The longest are cut off where a
model takes no more; short ones alone would meet none of the kernels that a job computes with."""

VERSION = 2
"""Raised with every change of SEQUENCES: vectors of different versions are never compared."""
COSINE_DISTANCE_MOST: dict[Dtype, float] = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 2e-2, "int8": 0.1}
TOKS_PER_BATCH = 1024

Vectors = npt.NDArray[np.float32]


class Deposits(Protocol):
    """The vectors that the devices of one job have deposited, encoded; all calls are atomic."""

    def deposit(self, device: str, vectors: str) -> str | None:
        """Put a device's vectors in the place of its earlier ones; answers the golden ones, if any."""
        ...

    def all(self) -> Mapping[str, str]:
        """What each device deposited last."""
        ...

    def agree_on(self, vectors: str) -> str:
        """Make these golden unless others are; answers those that are."""
        ...

    def begun(self, device: str) -> list[int]:
        """The shards that a device has begun."""
        ...


def embed_sequences(model: EmbeddingModel) -> Vectors:
    """The vectors of the fixed sequences, one row each; where every token has one, their mean; of contacts
    the mean of each row of the map, behind those of a short sequence zeros."""
    plan = plan_batches(
        model.tokenize(SEQUENCES),
        range(len(SEQUENCES)),
        prefix=model.prefix,
        suffix=model.suffix,
        toks_per_batch=TOKS_PER_BATCH,
        max_length=model.max_length,
        long="truncate",
        window_overlap=0,
    )
    results = list(AsyncInferenceRunner(model).run(plan))
    order = np.argsort(np.concatenate([result.ordinals for result in results]))
    rows = [row for result in results for row in split_rows(result.embeddings, result.offsets)]
    if model.readout.is_contacts:
        return _row_means([rows[place] for place in order])
    return np.stack([rows[place].mean(axis=0, dtype=np.float32) for place in order])


def _row_means(contacts: Sequence[Vectors]) -> Vectors:
    """[n, L] of the longest, from [L * L, 1] each: of one number a map the cosine would say nothing."""
    lengths = [isqrt(len(row)) for row in contacts]
    means = np.zeros((len(contacts), max(lengths)), np.float32)
    for place, (row, length) in enumerate(zip(contacts, lengths, strict=True)):
        means[place, :length] = row.reshape(length, length).mean(axis=0)
    return means


def cosine_distance(ours: Vectors, theirs: Vectors) -> float:
    """The largest of any row; NaN when one of them is not finite or zero."""
    left, right = ours.astype(np.float64), theirs.astype(np.float64)
    with np.errstate(invalid="ignore"):
        norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
        return float(np.max(1 - (left * right).sum(axis=1) / norms))


@dataclass(frozen=True, slots=True, eq=False)
class Canary:
    """The vectors of the fixed sequences as one device computed them in `dtype`, which sets the tolerance."""

    device: str
    dtype: Dtype
    vectors: Vectors

    def check_against(self, reference: Vectors) -> float:
        """Compare with the processor's vectors in float32; answers the largest cosine distance.

        Raises:
            NumericsDeviate: it is larger than the dtype explains, or a vector is not finite.
        """
        return self._check(reference, "the processor")

    def check_against_others(self, deposits: Deposits) -> None:
        """Deposit the vectors, and compare them with the golden ones as soon as there are any.

        Raises:
            NumericsDeviate: they deviate from the golden ones, or are not finite.
        """
        self._check(self.vectors, "any sound device")  # only to refuse what is not finite
        golden = deposits.deposit(self.device, encode(self.vectors)) or self._side_with_another(deposits)
        theirs = decode(golden, self.vectors.shape) if golden else None
        if theirs is None:
            return
        try:
            distance = self._check(theirs, "two other devices of the job")
        except NumericsDeviate as error:
            raise NumericsDeviate(f"{error} {suspicious(deposits.begun(self.device))}") from None
        log.info("numerics agree with the golden vectors: cosine distance %.2g", distance)

    def _side_with_another(self, deposits: Deposits) -> str | None:
        """Make our vectors golden when another device has the same; say which devices have not."""
        others = {device: text for device, text in deposits.all().items() if device != self.device}
        agreeing = {device for device, text in others.items() if self._agrees(text)}
        golden = deposits.agree_on(encode(self.vectors)) if agreeing else None
        for device in others.keys() - agreeing:
            if golden:
                log.error("%s deviates from golden vectors. %s", device, suspicious(deposits.begun(device)))
            else:
                log.error("%s and %s disagree, and only one more can tell who is wrong", self.device, device)
        return golden

    def _agrees(self, deposited: str) -> bool:
        theirs, most = decode(deposited, self.vectors.shape), COSINE_DISTANCE_MOST[self.dtype]
        return theirs is not None and cosine_distance(self.vectors, theirs) <= most

    def _check(self, theirs: Vectors, whose: str) -> float:
        distance, most = cosine_distance(self.vectors, theirs), COSINE_DISTANCE_MOST[self.dtype]
        if not distance <= most:  # a NaN is not
            raise NumericsDeviate(
                f"{self.device}: its vectors of {len(SEQUENCES)} test sequences are not those of {whose} "
                f"(cosine distance {distance:.2g}, {most:.2g} allowed in {self.dtype}): is the device broken?"
            )
        return distance


def encode(vectors: Vectors) -> str:
    """As text, for a server that keeps nothing else."""
    return base64.b64encode(vectors.astype("<f4").tobytes()).decode()


def decode(text: str, shape: tuple[int, ...]) -> Vectors | None:
    """None for what is not vectors of that shape: whoever wrote it is no witness."""
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), "<f4").reshape(shape)
    except (binascii.Error, ValueError):
        return None


def suspicious(shards: list[int]) -> str:
    """What to make of the work of a device that deviates."""
    if not shards:
        return "It has begun no shard of this job."
    return f"What it committed is suspicious: it has begun shards {', '.join(map(str, sorted(shards)))}."
