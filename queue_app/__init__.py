"""The queue: Celery app, producer, manifest, recovery and the command line. Never imports torch.

From Python: `embed`, `start`, `submit` and `embed_async` make a job, `Job` is a handle on one.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from queue_app.api.embed import embed, embed_async, start
    from queue_app.api.job_handle import JobHandle as Job
    from queue_app.api.submit import submit
    from queue_app.celery_app import app
    from queue_app.coordination.manifest import CheckpointManifest as Manifest
    from queue_app.outputs.arrays import Result

__all__ = ["Job", "Manifest", "Result", "app", "embed", "embed_async", "start", "submit"]

_HOMES = {
    "app": ("queue_app.celery_app", "app"),
    "embed": ("queue_app.api.embed", "embed"),
    "embed_async": ("queue_app.api.embed", "embed_async"),
    "Job": ("queue_app.api.job_handle", "JobHandle"),
    "Manifest": ("queue_app.coordination.manifest", "CheckpointManifest"),
    "Result": ("queue_app.outputs.arrays", "Result"),
    "start": ("queue_app.api.embed", "start"),
    "submit": ("queue_app.api.submit", "submit"),
}


def __getattr__(name: str) -> Any:
    """Load on first use: `holdfast --help` must not pay for Celery."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
