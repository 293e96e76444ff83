"""How long one device takes for a job, measured on a sample of its records: the child of `holdfast plan`.

    python -m gpu_tasks.probes.calibrate

On standard input it gets one line of JSON, a Request. It answers `ready` once the model is loaded, waits
for another line, so that all workers of a host can compute at the same time, and answers an Estimate as
JSON. What goes wrong is answered as `{"error": ...}`.

The sample is planned as a shard is, and each of its batches stands for tokens of the whole.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from gpu_tasks.errors import InferenceError, OutOfMemory
from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.model import Dtype, EmbeddingModel, KernelChoice, StoreDtype
from gpu_tasks.inference.plan_batches import plan_batches
from gpu_tasks.inference.readout import parse_pools
from gpu_tasks.inference.rows import Int64s
from gpu_tasks.inference.runner import AsyncInferenceRunner
from gpu_tasks.inference.segments import LongRule
from gpu_tasks.models.loading import load
from gpu_tasks.probes.batch_timing import relative_error, seconds_per_token, time_batches
from queue_app.model.spec import parse_spec

NO_ROOM = (
    "a batch does not fit in the device's memory; the job would compute it in halves, "
    "and be faster with a smaller --toks-per-batch"
)

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Request:
    """What to compute, as the job would, and for how long at most; the batch under way still ends.

    `model` holds the fields of a ModelSpec, `tokenizer` the text that goes with it.

    `texts`, `lengths` and `weights` are columns: a text may be cut, its length is that of the whole, its
    weight how many records it stands for. `turn`, from 0 to 1, is where in the plan to begin.
    """

    model: Mapping[str, Any]
    tokenizer: str | None
    device: str
    dtype: Dtype
    pool: str
    layers: list[int]
    threads: int
    store_dtype: StoreDtype
    toks_per_batch: int
    max_length: int
    long: LongRule
    window_overlap: int
    kernels: KernelChoice
    seconds: float
    turn: float
    texts: list[str]
    lengths: list[int]
    weights: list[float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What all the records would take on this device alone, and what was measured to know it.

    `relative_error` is the standard error of `seconds`, as a share of it. `num_tokens` counts special
    tokens and all windows. `waited_share` is what the function of that name answers.
    """

    seconds: float
    relative_error: float
    num_tokens: float
    num_long: float
    measured_seconds: float
    measured_tokens: int
    measured_batches: int
    waited_share: float


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
    return load(
        parse_spec(request.model),
        request.tokenizer,
        device=request.device,
        dtype=request.dtype,
        pools=parse_pools(request.pool),
        layers=request.layers,
        threads=request.threads,
        kernels=request.kernels,
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
    plan = plan_batches(
        [tokens[row] for row in kept],
        range(len(kept)),
        prefix=model.prefix,
        suffix=model.suffix,
        toks_per_batch=request.toks_per_batch,
        max_length=request.max_length,
        long="truncate",  # of a long record one window is enough: the others are of the same length
        window_overlap=0,
    )
    tokens_of_segment = np.minimum(lengths[kept], request.max_length) + len(plan.prefix) + len(plan.suffix)
    stand_for = _per_batch(plan, segments[kept] * tokens_of_segment)
    runner = AsyncInferenceRunner(model, store_dtype=request.store_dtype)
    found = time_batches(runner, plan, seconds=request.seconds, turn=request.turn)
    computing = float(seconds_per_token(found, plan.num_batches) @ stand_for) if found else 0.0
    return Estimate(
        seconds=computing + tokenizing * shares,
        relative_error=relative_error(found, plan.num_batches) if found else 0.0,
        num_tokens=float(stand_for.sum()),
        num_long=float(np.array(request.weights)[lengths > request.max_length].sum()),
        measured_seconds=sum(timed.seconds for timed in found.values()),
        measured_tokens=sum(timed.num_tokens for timed in found.values()),
        measured_batches=len(found),
        waited_share=waited_share(),
    )


def waited_share(tasks: Path = Path("/proc/self/task")) -> float:
    """How long this process's threads have waited for a processor, of all the time they wanted one.

    0 where the kernel does not tell: see `schedstat` in proc(5).
    """
    try:
        times = [(task / "schedstat").read_text().split() for task in tasks.iterdir()]
    except OSError:
        return 0.0
    ran, waited = (sum(int(each[place]) for each in times) for place in (0, 1))
    return waited / max(1, ran + waited)


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
    """What becomes of each record: one segment, some windows, or, quarantined, none. As in window_starts."""
    over = lengths - request.max_length
    if request.long == "error":
        return (over <= 0).astype(np.int64)
    if request.long == "truncate":
        return np.ones(len(lengths), np.int64)
    return 1 + np.maximum(0, -(-over // (request.max_length - request.window_overlap)))


def _per_batch(plan: BatchPlan, tokens: Float64s) -> Float64s:
    """How many of all records' tokens each batch stands for, from those that each record stands for."""
    rows = (plan.ordinals(index).astype(np.int64) for index in range(plan.num_batches))
    return np.array([tokens[batch].sum() for batch in rows])


if __name__ == "__main__":
    main()
