"""No buffer is used again before the copies of it are done, however late these are.

The one thing that the stand-in computes is a copy: a model that only copies its tokens gives them back.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from gpu_tasks.inference.batch_plan import BatchPlan, TokenBatch
from gpu_tasks.inference.model import Pending
from gpu_tasks.inference.plan_batches import plan_batches
from gpu_tasks.inference.runner import AsyncInferenceRunner
from gpu_tasks.inference.torch_device import CudaDevice, CudaUpload, Outputs, open_device
from tests.campaigns.cuda_standin.standin import Finding, Standin

LATE = {
    "late copies": (4000.0, 5.0),
    "late kernels": (5.0, 1500.0),
    "both late": (2500.0, 800.0),
    "nothing late": (1.0, 1.0),
}
"""Microseconds of each copy and of each kernel."""
NUM_BATCHES = 40


@dataclass(frozen=True, slots=True)
class CopyStaged:
    upload: CudaUpload

    def launch(self, store_dtype: str) -> Pending:
        def copy(flat: torch.Tensor) -> Outputs:
            flat + flat  # a kernel, so that there is something to wait for
            for _ in range(5):
                flat = flat.clone()
            rows = flat.view(torch.float32).view(-1, 2)
            return Outputs(rows, flat.view(torch.bool)[: len(rows)])

        return self.upload.compute(copy)


class Copier:
    """As little of an EmbeddingModel as the runner asks for."""

    def __init__(self, on: CudaDevice) -> None:
        self.on, self.dim, self.lookahead = on, 2, on.lookahead

    def stage(self, batch: TokenBatch) -> CopyStaged:
        return CopyStaged(self.on.upload(np.ascontiguousarray(batch.input_ids)))


def check(standin: Standin) -> Iterator[Finding]:
    on, plan = open_device("cuda"), _plan()
    assert isinstance(on, CudaDevice)
    for name, (copy_us, kernel_us) in LATE.items():
        with standin.pretending(copy_delay_us=copy_us, kernel_us=kernel_us):
            wrong = _wrong(on, plan)
        yield Finding(not wrong, f"{name}: {wrong} of {NUM_BATCHES} batches came back changed")
    record_stream, torch.Tensor.record_stream = torch.Tensor.record_stream, lambda tensor, stream: None  # type: ignore[method-assign]
    try:
        with standin.pretending(copy_delay_us=4000.0, kernel_us=5.0):
            wrong = _wrong(on, plan)
    finally:
        torch.Tensor.record_stream = record_stream  # type: ignore[method-assign]
    yield Finding(wrong > 0, f"without record_stream it is seen: {wrong} batches came back changed")


def _plan() -> BatchPlan:
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 900, 3000).tolist()
    tokens = [rng.integers(0, 2**30, length, dtype=np.int32) for length in lengths]
    return plan_batches(
        tokens, range(len(tokens)), prefix=(1,), suffix=(2,), toks_per_batch=20_000, max_length=1000,
        long="window", window_overlap=0,
    )  # fmt: skip


def _wrong(on: CudaDevice, plan: BatchPlan) -> int:
    """Seen at once, and again when all the others have come."""
    runner = AsyncInferenceRunner(Copier(on))  # type: ignore[arg-type]
    results = runner.run(plan)
    found = []
    for result in itertools.islice(results, NUM_BATCHES):
        tokens = plan.batch(result.batch_idx).input_ids
        found.append((result, tokens, _is_same(result.embeddings, tokens)))
    results.close()  # type: ignore[attr-defined]
    return sum(not (at_once and _is_same(result.embeddings, tokens)) for result, tokens, at_once in found)


def _is_same(rows: np.ndarray, tokens: np.ndarray) -> bool:
    return np.array_equal(rows.view(np.int64).ravel(), tokens)
