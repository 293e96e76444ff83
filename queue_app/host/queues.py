"""Queues: each is named after the device whose one worker takes its messages, as in `gpu0` or `cpu3`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from queue_app.choices import DeviceClass
from queue_app.errors import UsageError

KEY_PATTERN = "?pu[0-9]*"
"""Fits the key of every queue on the server."""
_NAME = re.compile("(gpu|cpu)(0|[1-9][0-9]*)")


@dataclass(frozen=True, slots=True, order=True)
class Queue:
    """One device: the `number`-th of those that are granted to its host."""

    kind: Literal["cpu", "gpu"]
    number: int

    @classmethod
    def parse(cls, name: str) -> "Queue":
        """Raises UsageError for a name that says no device."""
        found = _NAME.fullmatch(name)
        if found is None:
            raise UsageError(f"queue {name!r} names no device: write gpu0, gpu1, … or cpu0, …")
        return cls(cast("Literal['cpu', 'gpu']", found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.kind}{self.number}"

    @property
    def device_class(self) -> DeviceClass:
        return "cpu" if self.kind == "cpu" else "cuda"

    def visible_device(self, granted: str | None) -> str:
        """What CUDA_VISIBLE_DEVICES must be for its worker: the N-th of those that are granted to this host.

        Raises SystemExit where there are fewer.
        """
        if self.kind == "cpu":
            return ""
        devices = granted.split(",") if granted else []
        if devices and self.number >= len(devices):
            raise SystemExit(f"{self}: CUDA_VISIBLE_DEVICES grants only {len(devices)} device(s) ({granted})")
        return devices[self.number] if devices else str(self.number)


def check_queues(names: Sequence[str]) -> None:
    """Raises UsageError for a queue whose name says no device, or that is named twice."""
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"queue {name!r} is named twice; a device has one worker")
        Queue.parse(name)


def device_class_of(name: str) -> DeviceClass | None:
    """The kind of device of a queue that a server tells of; None for a name that says none."""
    return Queue.parse(name).device_class if _NAME.fullmatch(name) else None


def device_class(names: Sequence[str]) -> DeviceClass:
    """What a job is planned for whose shards go to these queues.

    Raises UsageError where both are named: a job is planned for one kind, whose workers alone can compute it.
    """
    kinds = {Queue.parse(name).device_class for name in names}
    if len(kinds) > 1:
        raise UsageError(f"queues {', '.join(names)}: a job runs on GPUs or on CPUs; name one kind")
    return kinds.pop() if kinds else "cpu"
