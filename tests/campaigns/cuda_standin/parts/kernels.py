"""Which kernels a layer is made of, what the loop waits for, and what a batch costs the host."""

import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.common.hollow_models import hollow_esm2
from gpu_tasks import AsyncInferenceRunner, load_model
from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.model import Dtype, EmbeddingModel, KernelChoice
from gpu_tasks.inference.plan_batches import plan_batches
from tests.campaigns.cuda_standin.standin import Finding, Standin

SHAPES = {"8M": 65536, "150M": 32768, "650M": 32768}
"""With the tokens of a batch."""
WAITS = ("cudaDeviceSynchronize", "cudaStreamSynchronize", "cudaMemcpy (sync)")


@dataclass(frozen=True, slots=True)
class Case:
    """Of a layer at most so many kernels are promised, of which so many are FlashAttention's."""

    kernels: KernelChoice
    dtype: Dtype
    kernels_most: int
    num_flash: int

    def __str__(self) -> str:
        return f"{self.kernels} kernels in {self.dtype}"


# Plain torch in float32 calls its attention for each length of a batch: there is no number to promise.
PLAIN = Case("plain", "bfloat16", kernels_most=15, num_flash=1)
FUSED = Case("fused", "bfloat16", kernels_most=9, num_flash=1)
FUSED_EXACT = Case("fused", "float32", kernels_most=9, num_flash=0)


def check(standin: Standin) -> Iterator[Finding]:
    cases = [PLAIN, FUSED, FUSED_EXACT]
    if not find_spec("triton"):
        yield Finding(None, "fused kernels: there is no Triton beside torch in the site")
        cases = [PLAIN]
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            for shape, budget in SHAPES.items():
                few, more = (_load(Path(folder), shape, layers, case) for layers in (1, 2))
                yield from _of_a_layer(
                    case, shape, _kernels(standin, few, budget), _kernels(standin, more, budget)
                )
            model = _load(Path(folder), "650M", 33, case)
            yield _loop(standin, case, model)
            with standin.pretending(scale=0.0):
                yield _host_time(case, model)


def _load(folder: Path, shape: str, layers: int, case: Case) -> EmbeddingModel:
    directory = hollow_esm2(folder, shape, num_layers=layers)
    return load_model(str(directory), device="cuda", dtype=case.dtype, kernels=case.kernels)


def _plan(model: EmbeddingModel, budget: int, num_batches: int) -> BatchPlan:
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(250) - 0.18, 0.6, num_batches * budget // 250), 4, 1022).astype(
        int
    )
    tokens = [rng.integers(4, 24, length, dtype=np.int32) for length in lengths]
    return plan_batches(
        tokens, range(len(tokens)), prefix=model.prefix, suffix=model.suffix, toks_per_batch=budget,
        max_length=model.max_length, long="window", window_overlap=0,
    )  # fmt: skip


def _kernels(standin: Standin, model: EmbeddingModel, budget: int) -> dict[str, int]:
    batch = _plan(model, budget, 2).batch(0)
    model.stage(batch).launch("float32").wait()  # what is done once is done
    with standin.recording() as recorded:
        model.stage(batch).launch("float32").wait()
    return recorded.kernels


def _of_a_layer(case: Case, shape: str, one: dict[str, int], two: dict[str, int]) -> Iterator[Finding]:
    """By the difference between models of one and of two layers."""
    layer = {name: count - one.get(name, 0) for name, count in two.items() if count > one.get(name, 0)}
    total, most = sum(layer.values()), case.kernels_most
    yield Finding(0 < total <= most, f"{shape}, {case}: {total} a layer, {most} at most")
    for name, count in layer.items():
        yield Finding(True, f"    {count} x {re.sub(r'<.*', '', name)[:100]}")
    attention = [name for name in layer if "flash" in name.lower() or name == "attend"]
    num_flash = sum("flash" in name.lower() for name in attention)
    yield Finding(
        sum(layer[name] for name in attention) == 1 and num_flash == case.num_flash,
        f"{shape}, {case}: attention of a layer is one kernel, {'FlashAttention' if num_flash else 'ours'}",
    )


def _loop(standin: Standin, case: Case, model: EmbeddingModel) -> Finding:
    """Only the events of what is handed over are waited for."""
    plan = _plan(model, 32768, 8)
    list(AsyncInferenceRunner(model).run(plan))
    with standin.recording() as recorded:
        list(AsyncInferenceRunner(model).run(plan))
    waited = {name: count for name, count in recorded.calls.items() if name in WAITS or "pageable" in name}
    # The one of `recording` itself.
    waited["cudaDeviceSynchronize"] = waited.get("cudaDeviceSynchronize", 0) - 1
    waited = {name: count for name, count in waited.items() if count > 0}
    return Finding(
        not waited,
        f"650M, {case}: the loop of {plan.num_batches} batches synchronises nowhere {waited or ''}".strip(),
    )


def _host_time(case: Case, model: EmbeddingModel) -> Finding:
    """A figure, not a promise: the machine may be busy."""
    plan, seconds = _plan(model, 32768, 14), []
    for index in range(plan.num_batches):
        staged = model.stage(plan.batch(index))
        started = time.thread_time()
        pending = staged.launch("float32")
        seconds.append(time.thread_time() - started)
        pending.wait()
    least, usual = 1000 * min(seconds[2:]), 1000 * statistics.median(seconds[2:])
    return Finding(
        True,
        f"650M, {case}: launching a batch costs the host {least:.2f} ms at least, {usual:.2f} ms mostly",
    )
