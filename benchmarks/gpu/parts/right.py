"""Vectors beside those of the processor in float32, by our own kernels and by torch's, in every dtype.

The same bytes twice; alone the bytes that they have in company. ESM-2 in its shapes, and every other family
that has kernels of its own at a small one, with rows of lengths at which no block of a kernel ends.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.gpu.check import Check, Found, Value
from gpu_tasks import AsyncInferenceRunner, load_model
from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.model import Dtype
from gpu_tasks.models.packed import PackedModel
from tests.support.families import save_t5
from tests.support.model_directories import plan_for, save_bert, save_mosaic, save_mpnet

DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16", "float16")
LAYERS = 2
NUM_ALONE = 40
LENGTHS = (1, 2, 3, 15, 17, 31, 33, 63, 65, 65, 127, 129, 301)
"""Of words, of which each is one token or a few."""
FAMILIES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "BERT": (save_bert, "the "),
    "MPNet": (save_mpnet, "the "),
    "DNABERT-2": (save_mosaic, "ACGTTGCAAC"),
    "T5": (save_t5, "M"),
}
"""How a model of each is made, and a word that it knows."""
Vectors = dict[int, npt.NDArray[np.float32]]


def run(check: Check) -> Iterator[Found]:
    if not check.compiler:
        yield Found(f"fused kernels: none on {check.device}")
    for shape in check.shapes[:4]:
        yield from _of_a_shape(check, shape)
    for family, (save, word) in FAMILIES.items():
        yield from _of_a_family(check, family, save(check.home / f"right-{family}"), word)


def _of_a_shape(check: Check, shape: str) -> Iterator[Found]:
    # Random numbers are not the same on two devices: the processor gets those of the device.
    plan, reference = None, None
    for dtype in DTYPES:
        for kernels in check.kernels:
            model = check.load(shape, dtype=dtype, num_layers=LAYERS, kernels=kernels)
            plan = plan or check.plan(model, 2048, 6000)
            reference = reference or vectors(_on_processor(check, shape, model), plan)
            yield Found(f"{shape} {dtype}, {kernels} kernels", _looked_at(model, plan, reference))


def _of_a_family(check: Check, family: str, directory: Path, word: str) -> Iterator[Found]:
    exact = load_model(str(directory))
    assert isinstance(exact, PackedModel)
    plan = plan_for(exact, [word * length for length in LENGTHS], toks_per_batch=1000)
    reference = vectors(exact, plan)
    for dtype in DTYPES:
        for kernels in check.kernels:
            model = load_model(str(directory), device=check.device, dtype=dtype, kernels=kernels)
            assert isinstance(model, PackedModel)
            yield Found(f"{family} {dtype}, {kernels} kernels", _looked_at(model, plan, reference))


def _looked_at(model: PackedModel, plan: BatchPlan, reference: Vectors) -> dict[str, Value]:
    found, again = vectors(model, plan), vectors(model, plan)
    same = all(found[ordinal].tobytes() == again[ordinal].tobytes() for ordinal in found)
    values = {**_beside(found, reference), "same bytes twice": same}
    return {**values, "alone as in company": _alone(model, plan, found)}


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
