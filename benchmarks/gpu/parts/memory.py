"""A device that is nearly full: batches are computed in halves, and the vectors stay what they are."""

from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.gpu.check import Check, Found
from benchmarks.gpu.parts.right import vectors
from gpu_tasks import AsyncInferenceRunner

ROOM_BYTES = 400_000_000


def run(check: Check) -> Iterator[Found]:
    if check.device == "cpu":
        yield Found("left out: a host's memory is not bounded so")
        return
    model = check.load("tiny" if check.is_rehearsal else "650M", num_layers=2)
    plan = check.plan(model, 32768, 150_000)
    expected = vectors(model, plan)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + ROOM_BYTES) / total)
    try:
        results = list(AsyncInferenceRunner(model).run(plan))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    off = [
        float(np.abs(vector - expected[int(ordinal)]).max())
        for result in results
        for ordinal, vector in zip(result.ordinals, result.embeddings, strict=True)
    ]
    split = sum(result.split for result in results)
    yield Found("in halves", {"batches": len(results), "split": split, "largest difference": max(off)})
