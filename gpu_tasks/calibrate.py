"""How long one device takes for a job, measured on a sample of its records: the child of `holdfast plan`.

    python -m gpu_tasks.calibrate

On standard input it gets one line of JSON, a Request. It answers `ready` once the model is loaded, waits
for another line, so that all workers of a host can compute at the same time, and answers an Estimate as
JSON. What goes wrong is answered as `{"error": ...}`.

The sample is planned as a shard is. Batches from all over the plan are computed, and what a token costs in
those between is read off their neighbours, which have about the same length.
"""

import json
import os
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TextIO

import numpy as np
import numpy.typing as npt

from gpu_tasks.batching import BatchPlan, LongRule, TokenBatch, plan_batches
from gpu_tasks.device import Pending, StoreDtype
from gpu_tasks.errors import InferenceError, OutOfMemory
from gpu_tasks.loader import Loader
from gpu_tasks.models import EmbeddingModel, load_model

LOADED_AHEAD = 3
GOLDEN = 0.618
FEW_BATCHES = 4
FEW_ERROR = 0.25
"""What the error is taken for when it was too few batches to tell."""

NO_ROOM = (
    "a batch does not fit in the device's memory; the job would compute it in halves, "
    "and be faster with a smaller --toks-per-batch"
)

Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Request:
    """What to compute, as the job would, and for how long at most; the batch under way still ends.

    `texts`, `lengths` and `weights` are columns: a text may be cut, its length is that of the whole, its
    weight how many records it stands for. `turn`, from 0 to 1, is where in the plan to begin.
    """

    model: str
    device: str
    dtype: str
    pool: str
    threads: int
    store_dtype: StoreDtype
    toks_per_batch: int
    max_length: int
    long: LongRule
    window_overlap: int
    seconds: float
    turn: float
    texts: list[str]
    lengths: list[int]
    weights: list[float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What all the records would take on this device alone, and what was measured to know it.

    `relative_error` is the standard error of `seconds`, as a share of it. `num_tokens` counts special
    tokens and all windows.
    """

    seconds: float
    relative_error: float
    num_tokens: float
    num_long: float
    measured_seconds: float
    measured_tokens: int
    measured_batches: int


@dataclass(frozen=True, slots=True)
class _Timed:
    """One batch of the sample, computed."""

    num_tokens: int
    seconds: float


def main() -> None:
    # What a library prints must not get between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    request = Request(**json.loads(sys.stdin.readline()))
    try:
        model = _load(request)
        _answer(answers, "ready")
        sys.stdin.readline()
        _answer(answers, asdict(estimate(model, request)))
    except OutOfMemory:
        _answer(answers, {"error": NO_ROOM})
    except InferenceError as error:
        _answer(answers, {"error": str(error)})


def _answer(answers: TextIO, answer: object) -> None:
    print(json.dumps(answer), file=answers, flush=True)


def _load(request: Request) -> EmbeddingModel:
    return load_model(
        request.model,
        device=request.device,
        dtype=request.dtype,
        pool=request.pool,
        threads=request.threads,
    )


def estimate(model: EmbeddingModel, request: Request) -> Estimate:
    """Tokenize and compute the sample, and reckon from it to all records."""
    started = perf_counter()
    tokens = model.tokenize(request.texts)
    tokenizing = perf_counter() - started
    shares = _shares(request)
    lengths = _whole_lengths(tokens, request)
    segments = _num_segments(lengths, request) * np.array(request.weights)
    kept = np.flatnonzero(segments)
    plan = _plan(model, [tokens[row] for row in kept], request)
    stand_for = _tokens_stood_for(model, plan, lengths[kept], segments[kept], request)
    found = _time_batches(model, plan, request)
    computing, error = _whole_seconds(plan, found, stand_for)
    return Estimate(
        seconds=computing + tokenizing * shares,
        relative_error=error,
        num_tokens=float(stand_for.sum()),
        num_long=float(np.array(request.weights)[lengths > request.max_length].sum()),
        measured_seconds=sum(timed.seconds for timed in found.values()),
        measured_tokens=sum(timed.num_tokens for timed in found.values()),
        measured_batches=len(found),
    )


# ---- from the sample to all records


def _shares(request: Request) -> float:
    """How many times as many characters all records have as the sample."""
    sampled = sum(map(len, request.texts))
    return float(np.dot(request.lengths, request.weights)) / max(1, sampled)


def _whole_lengths(tokens: Sequence[npt.NDArray[np.int32]], request: Request) -> Int64s:
    """Tokens of each record; those of a cut text by its share of the characters."""
    pairs = zip(tokens, request.texts, request.lengths, strict=True)
    return np.array([round(len(row) * length / len(text)) for row, text, length in pairs], np.int64)


def _num_segments(lengths: Int64s, request: Request) -> Int64s:
    """What becomes of each record: one segment, some windows, or, set aside, none. As in window_starts."""
    over = lengths - request.max_length
    if request.long == "error":
        return (over <= 0).astype(np.int64)
    if request.long == "truncate":
        return np.ones(len(lengths), np.int64)
    return 1 + np.maximum(0, -(-over // (request.max_length - request.window_overlap)))


def _plan(model: EmbeddingModel, tokens: Sequence[npt.NDArray[np.int32]], request: Request) -> BatchPlan:
    """Of a long record one window is enough: the others are of the same length."""
    return plan_batches(
        tokens,
        range(len(tokens)),
        prefix=model.prefix,
        suffix=model.suffix,
        toks_per_batch=request.toks_per_batch,
        max_length=request.max_length,
        long="truncate",
        window_overlap=0,
    )


def _tokens_stood_for(
    model: EmbeddingModel, plan: BatchPlan, lengths: Int64s, segments: Float64s, request: Request
) -> Float64s:
    """Of all records' tokens, how many each batch of the sample stands for."""
    num_special = len(model.prefix) + len(model.suffix)
    tokens = segments * (np.minimum(lengths, request.max_length) + num_special)
    rows = [plan.ordinals(index).astype(np.int64) for index in range(plan.num_batches)]
    return np.array([tokens[batch].sum() for batch in rows])


def _whole_seconds(plan: BatchPlan, found: dict[int, _Timed], stand_for: Float64s) -> tuple[float, float]:
    """Of all records, and its relative standard error."""
    if not found:
        return 0.0, 0.0
    measured = sorted(found)
    rates = np.array([found[index].seconds / found[index].num_tokens for index in measured])
    per_token = np.interp(np.arange(plan.num_batches), measured, rates)
    return float(per_token @ stand_for), _relative_error(rates, plan.num_batches)


def _relative_error(rates: Float64s, num_batches: int) -> float:
    """By the differences of neighbours: what is left of them is noise, not length."""
    if len(rates) < min(FEW_BATCHES, num_batches):
        return FEW_ERROR
    noise = float(np.sqrt(np.mean(np.diff(rates) ** 2) / 2)) if len(rates) > 1 else 0.0
    return noise / float(rates.mean()) / float(np.sqrt(len(rates)))


# ---- measuring


def _time_batches(model: EmbeddingModel, plan: BatchPlan, request: Request) -> dict[int, _Timed]:
    """Those that there was time for, each timed from the end of the one before."""
    found: dict[int, _Timed] = {}
    waiting: deque[tuple[TokenBatch, Pending]] = deque()
    ended = started = perf_counter()
    with Loader(_order(plan.num_batches, request.turn), plan.batch, model.stage, LOADED_AHEAD) as loader:
        for loaded in loader:
            waiting.append((loaded.batch, loaded.staged.launch(request.store_dtype)))
            if len(waiting) > model.lookahead:
                ended = _land(waiting, found, ended)
            if perf_counter() - started > request.seconds:
                break
    while waiting:
        ended = _land(waiting, found, ended)
    return found


def _land(waiting: "deque[tuple[TokenBatch, Pending]]", found: dict[int, _Timed], before: float) -> float:
    batch, pending = waiting.popleft()
    pending.wait()
    now = perf_counter()
    found[batch.batch_idx] = _Timed(len(batch.input_ids), now - before)
    return now


def _order(num_batches: int, turn: float) -> list[int]:
    """All batches, long and short ones alike from the start, by steps of about the golden section.

    The first stands there twice: the second time takes the place of the first, which warmed the kernels.
    """
    if not num_batches:
        return []
    step = max(1, round(num_batches * GOLDEN))
    while np.gcd(step, num_batches) != 1:
        step += 1
    first = int(num_batches * (0.5 + turn)) % num_batches
    return [first, *((first + number * step) % num_batches for number in range(num_batches))]


if __name__ == "__main__":
    main()
