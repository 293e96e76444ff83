"""The queue: Celery app, producer, manifest, recovery and the command line. Never imports torch."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from queue_app.celery_app import app
    from queue_app.manifest import CheckpointManifest as Manifest
    from queue_app.producer import submit

__all__ = ["Manifest", "app", "submit"]

_HOMES = {
    "app": ("queue_app.celery_app", "app"),
    "Manifest": ("queue_app.manifest", "CheckpointManifest"),
    "submit": ("queue_app.producer", "submit"),
}


def __getattr__(name: str) -> Any:
    """Load on first use: `holdfast --help` must not pay for Celery."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
