"""A device that computes nonsense, and a process on one. Imports little: each process pays for it."""

from pathlib import Path
from typing import Any

from gpu_tasks.errors import NumericsDeviate
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.model_directory.load_model import load_model
from gpu_tasks.shard.numerics import canary_check
from queue_app.coordination.redis_client import connect
from queue_app.job.directory import JobDir


def harm(model: Any) -> EmbeddingModel:
    """One number of one weight, as a flipped bit in its exponent leaves it."""
    import torch

    with torch.inference_mode():
        model.encoder.layers[-1].mlp_norm.weight[0] = 1e4
    return model  # type: ignore[no-any-return]


def no_second_copy() -> EmbeddingModel:
    raise AssertionError("a second copy of a large model was loaded")


def be_a_worker(device: str, job_dir: Path, url: str, shards: int, start: Any, ends: Any) -> None:
    """Check the device before each shard, as `embed_shard` does; says how it ended."""
    from gpu_tasks.inference import torch_device

    canary_check.CANARY_PARAMETERS_MOST = 0
    canary_check.client = lambda: connect(url)  # type: ignore[assignment]
    torch_device.hardware_id = lambda name: device
    directory = JobDir(job_dir)
    job = directory.load()
    model = load_model(job.model.path, dtype="bfloat16", threads=1)
    if "broken" in device:
        harm(model)
    start.wait(60)
    try:
        for _ in range(shards):
            canary_check.watch_canary(job, model, no_second_copy)
        ends.put((device, ""))
    except NumericsDeviate as error:
        ends.put((device, str(error)))
