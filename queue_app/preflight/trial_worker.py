"""A worker's stand-in: a process on a worker's device that loads the job's model and computes a sample.

It speaks in lines of JSON (gpu_tasks.probes.calibrate), dies with this process, and is always ended.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Timer
from typing import Any

from queue_app.errors import HoldfastError
from queue_app.host import die_with_parent
from queue_app.host.processes import PYTHON, kill_session
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
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        launcher = [sys.executable, "-I", "-S", die_with_parent.__file__, str(os.getpid())]
        self._process = subprocess.Popen(
            [*launcher, *PYTHON, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=child_environment(CUDA_VISIBLE_DEVICES=device.visible),
            text=True,
            start_new_session=True,
        )

    def load(self, request: Mapping[str, Any]) -> None:
        """Returns when the model is loaded. Raises NotTimed."""
        self._ask(json.dumps(request))

    def compute(self) -> dict[str, Any]:
        """What gpu_tasks.probes.calibrate.Estimate holds. Raises NotTimed."""
        answer: dict[str, Any] = self._ask("begin")
        return answer

    def kill(self) -> None:
        kill_session(self._process.pid)

    def close(self) -> None:
        self.kill()
        self._process.communicate()
        self._said.close()

    def _ask(self, line: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline())
        except (BrokenPipeError, ValueError):
            raise NotTimed(f"{self.queue}: {self._last_words()}") from None
        if isinstance(answer, dict) and "error" in answer:
            raise NotTimed(f"{self.queue}: {answer['error']}")
        return answer

    def _last_words(self) -> str:
        """Why it died, as far as it can be told."""
        self.kill()
        code = self._process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"the process was killed or took too long (exit status {code})"
