"""What the fleet campaign changes inside a worker: its pace, the last bits of its vectors, and gates.

Python imports this module at its start from whatever directory of PYTHONPATH holds it, so the product
carries no hook. FLEET_TOKENS_PER_SECOND is the pace of the device that the mock model stands for: each batch
sleeps so long that this comes out, whatever the machine's own cores do. FLEET_OTHER_BITS makes every number
the next larger one, as another kind of device would. A gate is armed by a file of its name under FLEET_GATES:
the first process that reaches it renames the file to NAME.held, and waits until that is gone.
"""

import os
import time
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

from tests.support.after_import import change_after_import

TOKENS_PER_SECOND = float(os.environ.get("FLEET_TOKENS_PER_SECOND", "0"))
OTHER_BITS = "FLEET_OTHER_BITS" in os.environ
GATES = os.environ.get("FLEET_GATES", "")
POLL_SECONDS = 0.02


def reach(gate: str) -> None:
    """Wait here while the gate is held; pass where it is not armed."""
    armed, held = f"{GATES}/{gate}", f"{GATES}/{gate}.held"
    try:
        os.rename(armed, held)  # noqa: PTH104 - early and quick
    except FileNotFoundError:
        return
    while os.path.exists(held):  # noqa: PTH110
        time.sleep(POLL_SECONDS)


def put_gates(owner: Any, name: str, *, before: str, after: str = "") -> None:
    """Before and after a method."""
    function = getattr(owner, name)

    @wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        reach(before)
        answer = function(*arguments, **options)
        if after:
            reach(after)
        return answer

    setattr(owner, name, wrapped)


def change_store(module: ModuleType) -> None:
    put_gates(module.CheckpointStore, "commit", before="before-commit")
    put_gates(module.CheckpointStore, "set_done", before="before-done-record", after="after-done-record")


def change_manifest(module: ModuleType) -> None:
    put_gates(module.CheckpointManifest, "complete", before="before-completion")


def change_mock(module: ModuleType) -> None:
    launch, vectors = module.MockStaged.launch, module._vectors

    @wraps(launch)
    def paced_launch(self: Any, *arguments: Any) -> Any:
        time.sleep(len(self.batch.input_ids) / TOKENS_PER_SECOND)
        return launch(self, *arguments)

    @wraps(vectors)
    def other_vectors(*arguments: Any) -> Any:
        import numpy as np

        return np.nextafter(vectors(*arguments), np.float32(np.inf))

    if TOKENS_PER_SECOND:
        module.MockStaged.launch = paced_launch
    if OTHER_BITS:
        module._vectors = other_vectors  # type: ignore[attr-defined]


AFTER_IMPORT: dict[str, Callable[[ModuleType], None]] = {
    "checkpoint.store": change_store,
    "gpu_tasks.models.mock": change_mock,
    "queue_app.coordination.manifest": change_manifest,
}

if GATES:
    change_after_import(AFTER_IMPORT)
