"""A device that is full, at loading and at running: batches in halves, or one clear error."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.common.hollow_models import hollow_esm2
from gpu_tasks import AsyncInferenceRunner, load_model
from gpu_tasks.errors import RecordTooLarge
from gpu_tasks.inference.device_errors import Fault, fault_of
from tests.campaigns.cuda_standin.standin import Finding, Standin
from tests.support.jobs_and_inputs import protein
from tests.support.model_directories import plan_for

SEQUENCES = [protein(number) * (1 + number % 5) for number in range(400)]


def check(standin: Standin) -> Iterator[Finding]:
    with tempfile.TemporaryDirectory() as folder, standin.pretending(scale=0.0):
        directory = hollow_esm2(Path(folder), "650M", num_layers=2)
        with standin.pretending(total_gb=0.05):
            yield _loading(directory)
        model = load_model(str(directory), device="cuda", dtype="bfloat16")
        plan = plan_for(model, SEQUENCES, toks_per_batch=32768)
        weights = torch.cuda.memory_allocated() / 2**30
        split = []
        for room in (4.0, 0.6, 0.3):
            torch.cuda.empty_cache()
            with standin.pretending(total_gb=weights + room):
                results = list(AsyncInferenceRunner(model).run(plan))
            split.append(sum(result.split for result in results))
            rows = sum(len(result.ordinals) for result in results)
            yield Finding(
                rows == len(SEQUENCES),
                f"{room} GiB beside the weights: {split[-1]} batches split, {rows} rows",
            )
        yield Finding(split[0] == 0 < split[-1], "batches are split where there is no room, and only there")
        torch.cuda.empty_cache()
        with standin.pretending(total_gb=weights + 0.004):
            yield _no_room_at_all(model, plan)
        with standin.pretending(hostalloc_fail=1.0):
            results = list(
                AsyncInferenceRunner(model).run(plan_for(model, SEQUENCES * 3, toks_per_batch=131072))
            )
            yield Finding(bool(results), "where pinned memory cannot be had, copies are waited for")


def _loading(directory: Path) -> Finding:
    try:
        load_model(str(directory), device="cuda", dtype="bfloat16")
    except Exception as error:
        return Finding(
            fault_of(error) is Fault.NO_ROOM, f"loading on a full device: {type(error).__name__}, no room"
        )
    return Finding(False, "a model was loaded on a device that cannot hold it")


def _no_room_at_all(model: object, plan: object) -> Finding:
    try:
        list(AsyncInferenceRunner(model).run(plan))  # type: ignore[arg-type]
    except RecordTooLarge as error:
        return Finding(True, f"where not even one record fits: {str(error)[:80]}")
    return Finding(False, "a batch was computed where nothing fits")
