"""Inference: a model, a planned set of batches, and the runner that overlaps loading, compute and copies."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpu_tasks.inference.runner import AsyncInferenceRunner
    from gpu_tasks.model_directory.load_model import load_model

__all__ = ["AsyncInferenceRunner", "load_model"]


def __getattr__(name: str) -> Any:
    # The Celery parent imports this package and must never import torch: see gpu_tasks.models.
    if name == "AsyncInferenceRunner":
        from gpu_tasks.inference.runner import AsyncInferenceRunner

        return AsyncInferenceRunner
    if name == "load_model":
        from gpu_tasks.model_directory.load_model import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
