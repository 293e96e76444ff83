"""What a token costs in each batch of a plan: some batches are timed, the others lie between them.

A plan runs from long rows to short ones, and a token of a long row costs more. So batches from all over the
plan are computed, and those in between are taken for like their neighbours.
"""

from collections import deque
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import numpy.typing as npt

from gpu_tasks.inference.batch_plan import BatchPlan, TokenBatch
from gpu_tasks.inference.device import Pending, StoreDtype
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.inference.prefetch import Loader

LOADED_AHEAD = 3
GOLDEN = 0.618
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
    model: EmbeddingModel, plan: BatchPlan, *, store_dtype: StoreDtype, seconds: float, turn: float = 0.0
) -> dict[int, TimedBatch]:
    """Those that there was time for, by index, each timed from the end of the one before.

    At least one, and the one under way when the time is over. `turn`, from 0 to 1, says where to begin.
    """
    found: dict[int, TimedBatch] = {}
    waiting: deque[tuple[TokenBatch, Pending]] = deque()
    ended = started = perf_counter()
    with Loader(scattered(plan.num_batches, turn), plan.batch, model.stage, LOADED_AHEAD) as loader:
        for loaded in loader:
            waiting.append((loaded.batch, loaded.staged.launch(store_dtype)))
            if len(waiting) > model.lookahead:
                ended = _land(waiting, found, ended)
            if perf_counter() - started > seconds:
                break
    while waiting:
        ended = _land(waiting, found, ended)
    return found


def _land(waiting: deque[tuple[TokenBatch, Pending]], found: dict[int, TimedBatch], before: float) -> float:
    batch, pending = waiting.popleft()
    pending.wait()
    now = perf_counter()
    found[batch.batch_idx] = TimedBatch(len(batch.input_ids), now - before)
    return now


def scattered(num_batches: int, turn: float) -> list[int]:
    """All indices, those of long and short rows alike from the start, by steps of about the golden section.

    The first stands there twice: its second time, which counts, finds the kernels warm.
    """
    if not num_batches:
        return []
    step = max(1, round(num_batches * GOLDEN))
    while np.gcd(step, num_batches) != 1:
        step += 1
    first = int(num_batches * (0.5 + turn)) % num_batches
    return [first, *((first + number * step) % num_batches for number in range(num_batches))]


def seconds_per_token(found: dict[int, TimedBatch], num_batches: int) -> Float64s:
    """Of every batch of the plan, float64[num_batches]; `found` has at least one of them."""
    measured = sorted(found)
    return np.interp(np.arange(num_batches), measured, _rates(found))


def relative_error(found: dict[int, TimedBatch], num_batches: int) -> float:
    """The standard error of their mean, by the differences of neighbours: those are noise, not length."""
    rates = _rates(found)
    if len(rates) < min(FEW_BATCHES, num_batches):
        return FEW_ERROR
    noise = np.sqrt(np.mean(np.diff(rates) ** 2) / 2) if len(rates) > 1 else 0.0
    return float(noise / rates.mean() / np.sqrt(len(rates)))


def _rates(found: dict[int, TimedBatch]) -> Float64s:
    return np.array([found[index].seconds / found[index].num_tokens for index in sorted(found)])
