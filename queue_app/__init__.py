"""The queue: Celery app, producer, manifest, recovery and the command line. Never imports torch.

What of it is for programs, `import holdfast` hands on.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from queue_app.api.embed import embed, embed_async, start
    from queue_app.api.job_handle import JobHandle as Job
    from queue_app.api.options import Options
    from queue_app.api.submit import submit
    from queue_app.celery_app import app
    from queue_app.coordination.manifest import CheckpointManifest as Manifest
    from queue_app.outputs.ragged import Ragged
    from queue_app.outputs.result import Result
    from queue_app.status.job_snapshot import JobSnapshot

__all__ = [
    "Job", "JobSnapshot", "Manifest", "Options", "Ragged", "Result", "app", "embed", "embed_async", "start",
    "submit",
]  # fmt: skip

_HOMES = {
    "app": ("queue_app.celery_app", "app"),
    "embed": ("queue_app.api.embed", "embed"),
    "embed_async": ("queue_app.api.embed", "embed_async"),
    "Job": ("queue_app.api.job_handle", "JobHandle"),
    "JobSnapshot": ("queue_app.status.job_snapshot", "JobSnapshot"),
    "Manifest": ("queue_app.coordination.manifest", "CheckpointManifest"),
    "Options": ("queue_app.api.options", "Options"),
    "Ragged": ("queue_app.outputs.ragged", "Ragged"),
    "Result": ("queue_app.outputs.result", "Result"),
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
