"""A worker's stand-in: a process on a worker's device that loads the job's model and computes a sample.

It speaks in lines of JSON (gpu_tasks.probes.calibrate), dies with this process, and is always ended.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Timer
from typing import Any

from queue_app.errors import HoldfastError
from queue_app.host.child_processes.json_child import ChildFailed, JsonChild
from queue_app.host.devices import BUS_ORDER
from queue_app.host.processes import PYTHON
from queue_app.host.surroundings import child_environment

MODULE = "gpu_tasks.probes.calibrate"


class NotTimed(HoldfastError):
    """Raised when a device cannot compute the sample: the job would fail there, too."""


@dataclass(frozen=True, slots=True)
class TrialDevice:
    """Where a worker computes. `visible` is what CUDA_VISIBLE_DEVICES is for it."""

    queue: str
    visible: str


@contextlib.contextmanager
def trials(devices: Sequence[TrialDevice], *, seconds_most: float) -> Iterator[list["Trial"]]:
    """One for each device. Those that take longer than `seconds_most` in all are killed."""
    started: list[Trial] = []
    patience = Timer(seconds_most, _kill_all, [started])
    patience.daemon = True
    try:
        started.extend(map(Trial, devices))
        patience.start()
        yield started
    finally:
        patience.cancel()
        for trial in started:
            trial.close()


def _kill_all(started: Sequence["Trial"]) -> None:
    for trial in started:
        trial.kill()


class Trial:
    """One such process."""

    def __init__(self, device: TrialDevice) -> None:
        self.queue = device.queue
        env = child_environment(CUDA_VISIBLE_DEVICES=device.visible, CUDA_DEVICE_ORDER=BUS_ORDER)
        self._child = JsonChild([*PYTHON, "-m", MODULE], env=env, listens=True)
        self.kill = self._child.kill
        self.close = self._child.close

    def load(self, request: Mapping[str, Any]) -> None:
        """Returns when the model is loaded. Raises NotTimed."""
        self._ask(json.dumps(request))

    def compute(self) -> dict[str, Any]:
        """What gpu_tasks.probes.calibrate.Estimate holds. Raises NotTimed."""
        answer: dict[str, Any] = self._ask("begin")
        return answer

    def _ask(self, line: str) -> Any:
        try:
            answer = self._child.ask(line)
        except ChildFailed as error:
            killed = f"the process was killed or took too long (exit status {error.exit_status})"
            raise NotTimed(f"{self.queue}: {error.last_line or killed}") from None
        if isinstance(answer, dict) and "error" in answer:
            raise NotTimed(f"{self.queue}: {answer['error']}")
        return answer
