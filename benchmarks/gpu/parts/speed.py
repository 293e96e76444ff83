"""Tokens per second of each shape, with a job's token budget."""

from collections.abc import Iterator
from time import perf_counter

import numpy as np
import torch

from benchmarks.common.esm2_shapes import SHAPES, Arithmetic
from benchmarks.gpu.check import Check, Found, Value
from gpu_tasks import AsyncInferenceRunner
from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.models.packed import PackedModel

WARM = 3
"""Batches."""


def run(check: Check) -> Iterator[Found]:
    for shape in check.shapes:
        model, budget = check.load(shape), check.budget(shape)
        plan = check.plan(model, budget, check.size(SHAPES[shape].num_tokens * 4, 12 * budget))
        values = watched(check, model, plan)
        of = SHAPES[shape]
        lengths = np.concatenate([np.diff(plan.batch(index).cu_seqlens) for index in range(plan.num_batches)])
        flops = Arithmetic(of.num_layers, of.dim, of.inner).flops(lengths.tolist()) / lengths.sum()
        values["TFLOP/s"] = float(values["tokens/s"]) * flops / 1e12
        yield Found(f"{shape} bfloat16, batches of {budget:,} tokens", values)
        del model
        release(check)


def watched(
    check: Check, model: PackedModel, plan: BatchPlan, seconds: float | None = None
) -> dict[str, Value]:
    """Tokens per second, where the caller's time went and how busy the device was, in percent; its peak."""
    if check.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    runner = AsyncInferenceRunner(model)
    results = runner.run(plan)
    tokens, started, before = 0, perf_counter(), {}
    for number, result in enumerate(results):
        tokens += plan.tokens_of(result.batch_idx)
        if number == WARM:
            tokens, started, before = 0, perf_counter(), _times(runner)
        elif number > WARM and perf_counter() - started > (seconds or check.seconds):
            break
    took = perf_counter() - started
    results.close()  # type: ignore[attr-defined]
    spent = {f"{name} %": round(100 * (now - before[name]) / took) for name, now in _times(runner).items()}
    peak = 0.0 if check.device == "cpu" else torch.cuda.max_memory_allocated() / 2**30
    return {"tokens/s": tokens / took, **spent, "peak GiB": peak}


def release(check: Check) -> None:
    if check.device != "cpu":
        torch.cuda.empty_cache()


def _times(runner: AsyncInferenceRunner) -> dict[str, float]:
    return {name: getattr(runner.timings, name) for name in ("wait", "launch", "fetch", "compute")}
