"""How long a job will take: stand-ins of the workers it would have compute a sample for some seconds.

All compute at the same time, as the workers would: two on one processor are slower than each alone.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from queue_app.job import Job
from queue_app.sample import Sample
from queue_app.trial import Device, Trial, trials

PATIENCE_SECONDS = 600.0
"""For loading the model and for the batch under way; a stand-in that takes longer is given up."""
MARGIN = 0.15
"""What runs of the same job on the same machine differ by."""


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """What one device would take for all records alone, and what it computed to know.

    `num_tokens` and `num_long` are of all records, reckoned from the sample. See gpu_tasks.calibrate.
    """

    queue: str
    seconds: float
    relative_error: float
    num_tokens: float
    num_long: float
    measured_seconds: float
    measured_tokens: int
    measured_batches: int

    @property
    def tokens_per_second(self) -> float:
        return self.num_tokens / self.seconds


@dataclass(frozen=True, slots=True)
class Timing:
    """What all devices would take together.

    `start_seconds` pass before the first batch and after the last. `largest_share` is that of the most
    expensive shard.
    """

    devices: tuple[DeviceTime, ...]
    start_seconds: float
    largest_share: float

    @property
    def seconds(self) -> float:
        return self.start_seconds + self._computing

    @property
    def least_seconds(self) -> float:
        return self.start_seconds + self._computing / (1 + self._margin)

    @property
    def most_seconds(self) -> float:
        """At the end, the others may wait for one that has just begun the most expensive shard."""
        waiting = self.largest_share * max(each.seconds for each in self.devices)
        return self.seconds + self._computing * self._margin + (waiting if len(self.devices) > 1 else 0)

    @property
    def num_tokens(self) -> float:
        return self.devices[0].num_tokens

    @property
    def num_long(self) -> float:
        return self.devices[0].num_long

    @property
    def tokens_per_second(self) -> float:
        return sum(each.tokens_per_second for each in self.devices)

    @property
    def _computing(self) -> float:
        return 1 / sum(1 / each.seconds for each in self.devices)

    @property
    def _margin(self) -> float:
        return MARGIN + 2 * max(each.relative_error for each in self.devices)


def measure(
    devices: Sequence[Device], *, job: Job, sample: Sample, seconds: float
) -> tuple[tuple[DeviceTime, ...], float]:
    """Let all devices compute the sample, for `seconds` at most; answers also how long they took to start.

    Raises:
        NotTimed: one of them cannot; says why.
    """
    request = {**_settings(job), **asdict(sample), "seconds": seconds}
    turns = [{**request, "turn": place / len(devices)} for place in range(len(devices))]
    started = time.monotonic()
    with (
        ThreadPoolExecutor(len(devices)) as side_by_side,  # outermost: its threads end when the trials do
        trials(devices, seconds_most=PATIENCE_SECONDS + seconds) as begun,
    ):
        list(side_by_side.map(Trial.load, begun, turns))
        loading = time.monotonic() - started
        answers = list(side_by_side.map(Trial.compute, begun))
    found = zip(devices, answers, strict=True)
    return tuple(DeviceTime(queue=device.queue, **answer) for device, answer in found), loading


def _settings(job: Job) -> dict[str, Any]:
    """What a worker of the job would have, as gpu_tasks.calibrate.Request asks for it."""
    options = job.options
    return {
        "model": job.model.path,
        "device": "cuda:0" if options.device_class == "cuda" else "cpu",
        "dtype": options.dtype,
        "pool": options.pool,
        "layers": options.layers,
        "threads": job.threads,
        "store_dtype": options.store_dtype,
        "toks_per_batch": options.toks_per_batch,
        "max_length": options.max_length,
        "long": options.long,
        "window_overlap": options.window_overlap,
    }
