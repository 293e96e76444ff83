"""Kill points: a worker that reaches an armed one kills itself there, at a place no outside kill would hit.

Python imports this module at its start from whatever directory of PYTHONPATH holds it, so the product
carries no hook. A point is armed by a file of its name under CHAOS_KILL_POINTS; whoever renames that file
has the point to himself, so it kills once. CHAOS_HOST makes the process believe that it runs on another
host (as in a container of its own), so that nobody can prove its death or end it by its pid.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

ARMED = os.environ.get("CHAOS_KILL_POINTS", "")
WORKER = os.environ.get("CHAOS_WORKER", "")
HOST = os.environ.get("CHAOS_HOST", "")


def die_if_armed(point: str) -> None:
    try:
        os.rename(f"{ARMED}/{point}", f"{ARMED}/{point}.{WORKER}.fired")  # noqa: PTH104 - early and quick
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def wrap(owner: Any, name: str, *, before: str = "", after: str = "", last: str = "") -> None:
    """Put kill points before and after a function of a class or module.

    `last` is reached after a call that ended the job: `complete` then answers with its state.
    """
    function = getattr(owner, name)

    @wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        if before:
            die_if_armed(before)
        answer = function(*arguments, **options)
        if after:
            die_if_armed(after)
        if last and isinstance(answer, tuple) and answer[0] == "done":
            die_if_armed(last)
        return answer

    setattr(owner, name, wrapped)


def wrap_store(module: ModuleType) -> None:
    wrap(module.CheckpointStore, "commit", before="before-commit", after="after-commit")
    wrap(module.CheckpointStore, "set_done", before="before-done-record", after="after-done-record")


def wrap_manifest(module: ModuleType) -> None:
    complete = {"before": "before-completion", "after": "after-completion", "last": "after-last-completion"}
    wrap(module.CheckpointManifest, "complete", **complete)


def wrap_export(module: ModuleType) -> None:
    wrap(module, "export", before="before-export")
    wrap(module, "write_durably", before="before-meta")


def move_host(module: ModuleType) -> None:
    if HOST:
        module.host_key = lambda: HOST  # type: ignore[attr-defined]


AFTER_IMPORT: dict[str, Callable[[ModuleType], None]] = {
    "checkpoint.owner": move_host,
    "checkpoint.store": wrap_store,
    "queue_app.manifest": wrap_manifest,
    "queue_app.export": wrap_export,
}


class AfterImport(MetaPathFinder):
    """Finds the product's modules as ever, and changes them once they were executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        change = AFTER_IMPORT.get(fullname)
        spec = PathFinder.find_spec(fullname, path, target) if change else None
        if change is None or spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_change(module: ModuleType) -> None:
            execute(module)
            change(module)

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec


if ARMED:
    sys.meta_path.insert(0, AfterImport())
