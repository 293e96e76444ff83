"""Vectors beside those of the processor; the same bytes twice; alone the bytes that they have in company."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.gpu.check import Check, Found, Value
from gpu_tasks import AsyncInferenceRunner
from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.models.packed import PackedModel

DTYPES = ("float32", "bfloat16", "float16")
LAYERS = 2
NUM_ALONE = 40
Vectors = dict[int, npt.NDArray[np.float32]]


def run(check: Check) -> Iterator[Found]:
    for shape in check.shapes[:4]:
        # Random numbers are not the same on two devices: the processor gets those of the device.
        plan, reference = None, None
        for dtype in DTYPES:
            model = check.load(shape, dtype=dtype, num_layers=LAYERS)
            plan = plan or check.plan(model, 2048, 6000)
            if reference is None:
                reference = vectors(_on_processor(check, shape, model), plan)
            found, again = vectors(model, plan), vectors(model, plan)
            same = all(found[ordinal].tobytes() == again[ordinal].tobytes() for ordinal in found)
            values = {**_beside(found, reference), "same bytes twice": same}
            yield Found(f"{shape} {dtype}", {**values, "alone as in company": _alone(model, plan, found)})


def vectors(model: PackedModel, plan: BatchPlan) -> Vectors:
    """By ordinal."""
    return {
        int(ordinal): vector
        for result in AsyncInferenceRunner(model).run(plan)
        for ordinal, vector in zip(result.ordinals, result.embeddings, strict=True)
    }


def _on_processor(check: Check, shape: str, model: PackedModel) -> PackedModel:
    """The same weights in float32, computed by the processor."""
    return moved(check.load(shape, dtype="float32", num_layers=LAYERS, device="cpu"), model)


def moved(target: PackedModel, source: PackedModel) -> PackedModel:
    """Every weight of the one becomes that of the other; both have the same parts."""
    for into, out_of in zip(_tensors(target.encoder), _tensors(source.encoder), strict=True):
        into.copy_(out_of)
    return target


def _tensors(part: object) -> Iterator[object]:
    if isinstance(part, torch.Tensor):
        yield part
    elif isinstance(part, (tuple, list)):
        for each in part:
            yield from _tensors(each)
    else:
        for name in getattr(type(part), "__dataclass_fields__", {}):
            yield from _tensors(getattr(part, name))


def _beside(found: Vectors, reference: Vectors) -> dict[str, Value]:
    ours, theirs = (
        np.stack([each[ordinal] for ordinal in sorted(each)]).astype(float) for each in (found, reference)
    )
    cosines = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    off = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
    return {"1 - least cosine": float(1 - cosines.min()), "relative difference": float(off)}


def _alone(model: PackedModel, plan: BatchPlan, found: Vectors) -> str:
    """How many of some records, of the shortest and the longest too, have the same bytes alone."""
    runner, same, looked_at = AsyncInferenceRunner(model), 0, 0
    for index in range(plan.num_batches):
        batch = plan.batch(index)
        for ordinal in np.unique(batch.ordinals)[: max(1, NUM_ALONE // plan.num_batches)].tolist():
            alone = runner.compute(batch.select(batch.ordinals == ordinal)).embeddings[0]
            same += alone.tobytes() == found[ordinal].tobytes()
            looked_at += 1
    return f"{same} of {looked_at}"
