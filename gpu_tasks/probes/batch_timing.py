"""What a token costs in each batch of a plan: some batches are timed, the others lie between them.

A plan runs from long rows to short ones, and a token of a long row costs more. So batches from all over the
plan are computed, and those in between are taken for like their neighbours.
"""

from dataclasses import dataclass
from time import perf_counter

import numpy as np
import numpy.typing as npt

from gpu_tasks.errors import OutOfMemory
from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.runner import AsyncInferenceRunner

GOLDEN_SECTION = 0.618
FEW_BATCHES = 4
FEW_ERROR = 0.25
"""What the error is taken for when it was too few batches to tell."""

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TimedBatch:
    """A batch that was computed."""

    num_tokens: int
    seconds: float


def time_batches(
    runner: AsyncInferenceRunner, plan: BatchPlan, *, seconds: float, turn: float = 0.0
) -> dict[int, TimedBatch]:
    """Those that there was time for, by index, each timed from the end of the one before.

    At least one, and the one under way when the time is over. `turn`, from 0 to 1, says where to begin.

    Raises:
        OutOfMemory: a batch does not fit: its time in halves is not that of its tokens.
    """
    found: dict[int, TimedBatch] = {}
    ended = started = perf_counter()
    order = scattered(plan.num_batches, turn)
    results = runner.run(
        plan, order=order, should_stop=lambda: bool(found) and perf_counter() - started > seconds
    )
    for result in results:
        if result.split:
            raise OutOfMemory(f"batch {result.batch_idx} was computed in halves")
        before, ended = ended, perf_counter()
        found[result.batch_idx] = TimedBatch(plan.tokens_of(result.batch_idx), ended - before)
    return found


def scattered(num_batches: int, turn: float) -> list[int]:
    """All indices, those of long and short rows alike from the start, by steps of about the golden section.

    The first stands there twice: its second time, which counts, finds the kernels warm.
    """
    if not num_batches:
        return []
    step = max(1, round(num_batches * GOLDEN_SECTION))
    while np.gcd(step, num_batches) != 1:
        step += 1
    first = int(num_batches * (0.5 + turn)) % num_batches
    return [first, *((first + number * step) % num_batches for number in range(num_batches))]


def seconds_per_token(found: dict[int, TimedBatch], num_batches: int) -> Float64s:
    """Of every batch of the plan, float64[num_batches]; `found` has at least one of them."""
    return np.interp(np.arange(num_batches), sorted(found), _rates(found))


def relative_error(found: dict[int, TimedBatch], num_batches: int) -> float:
    """The standard error of their mean, by the differences of neighbours: those are noise, not length."""
    rates = _rates(found)
    if len(rates) < min(FEW_BATCHES, num_batches):
        return FEW_ERROR
    noise = np.sqrt(np.mean(np.diff(rates) ** 2) / 2) if len(rates) > 1 else 0.0
    return float(noise / rates.mean() / np.sqrt(len(rates)))


def _rates(found: dict[int, TimedBatch]) -> Float64s:
    return np.array([found[index].seconds / found[index].num_tokens for index in sorted(found)])
