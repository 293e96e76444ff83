"""How long a job will take: stand-ins of the workers it would have compute a sample for some seconds.

All compute at the same time, as the workers would: two on one processor are slower than each alone.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any

from queue_app.host.queues import device_class
from queue_app.job.spec import Job
from queue_app.preflight.stratified_sample import StratifiedSample
from queue_app.preflight.trial_worker import Trial, TrialDevice, trials

OPTIONS = (
    "dtype", "pool", "layers", "store_dtype", "toks_per_batch", "max_length", "long", "window_overlap",
    "kernels",
)  # fmt: skip
"""What a worker's stand-in is told of the job's options."""
PATIENCE_SECONDS = 600.0
"""For loading the model and for the batch under way; a stand-in that takes longer is given up."""
MARGIN = 0.15
BUSY_MARGIN = 0.25
"""What runs of the same job on the same machine differ by; and more where others come and go."""
START_SECONDS = 2.5
SHARD_SECONDS = 0.03
OUTPUT_BYTES_PER_SECOND = 150e6
"""On a free processor: server and workers come up and end; a shard is opened and published; the output is
written."""
READINGS = 2
"""A job writes what it reads: that takes as long again."""


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """What one device would take for all records alone, and what it computed to know.

    `num_tokens` and `num_long` are of all records, reckoned from the sample. `waited_share` is what it waited
    for a processor, of the time in which it wanted one. See gpu_tasks.probes.calibrate.
    """

    queue: str
    seconds: float
    relative_error: float
    num_tokens: float
    num_long: float
    measured_seconds: float
    measured_tokens: int
    measured_batches: int
    waited_share: float

    @property
    def tokens_per_second(self) -> float:
        return self.num_tokens / self.seconds


@dataclass(frozen=True, slots=True)
class Timing:
    """What all devices would take together, while the machine is as busy as it was.

    `loading_seconds` pass until the models are loaded and the input is read; `fixed_seconds` is what else a
    job does beside computing, on a free processor. `largest_share` is that of the most expensive shard.
    """

    devices: tuple[DeviceTime, ...]
    loading_seconds: float
    fixed_seconds: float
    largest_share: float

    @property
    def seconds(self) -> float:
        return self.beside_seconds + self._computing

    @property
    def beside_seconds(self) -> float:
        """The part of `seconds` in which no device computes."""
        return self.loading_seconds + self.fixed_seconds / self.free_share

    @property
    def least_seconds(self) -> float:
        """Should nobody else want the processors."""
        computing = self._computing * (self.free_share if self._on_processors else 1)
        beside = self.loading_seconds * self.free_share + self.fixed_seconds
        return (beside + computing) / (1 + self._margin)

    @property
    def most_seconds(self) -> float:
        """At the end, the others may wait for one that has just begun the most expensive shard."""
        waiting = self.largest_share * max(each.seconds for each in self.devices)
        busier = BUSY_MARGIN * (1 - self.free_share)
        return self.seconds * (1 + self._margin + busier) + (waiting if len(self.devices) > 1 else 0)

    @property
    def free_share(self) -> float:
        """How fast the processors were, for all that others had of them; 1 is as fast as can be."""
        return 1 - mean(each.waited_share for each in self.devices)

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
    def _on_processors(self) -> bool:
        return device_class([each.queue for each in self.devices]) == "cpu"

    @property
    def _margin(self) -> float:
        return MARGIN + 2 * max(each.relative_error for each in self.devices)


def measure(
    devices: Sequence[TrialDevice],
    *,
    job: Job,
    tokenizer: str | None,
    sample: StratifiedSample,
    seconds: float,
    reading_seconds: float,
    output_bytes: int,
) -> Timing:
    """Let all devices compute the sample, for `seconds` at most, and reckon from it to the job.

    Reading the input took `reading_seconds`; `output_bytes` will be written.

    Raises:
        NotTimed: one of them cannot; says why.
    """
    request = {**_settings(job, tokenizer), **asdict(sample), "seconds": seconds}
    turns = [{**request, "turn": place / len(devices)} for place in range(len(devices))]
    started = time.monotonic()
    with (
        ThreadPoolExecutor(len(devices)) as side_by_side,  # outermost: its threads end when the trials do
        trials(devices, seconds_most=PATIENCE_SECONDS + seconds) as begun,
    ):
        list(side_by_side.map(Trial.load, begun, turns))
        loading = time.monotonic() - started
        answers = list(side_by_side.map(Trial.compute, begun))
    costs = job.shards.costs_to_compute
    output_seconds = output_bytes / OUTPUT_BYTES_PER_SECOND
    publishing = (SHARD_SECONDS * len(costs) + output_seconds) / len(devices)
    return Timing(
        devices=tuple(
            DeviceTime(queue=device.queue, **answer) for device, answer in zip(devices, answers, strict=True)
        ),
        loading_seconds=max(loading, READINGS * reading_seconds),  # workers come up while the input is read
        fixed_seconds=START_SECONDS + publishing + output_seconds,
        largest_share=float(costs.max() / costs.sum()),
    )


def _settings(job: Job, tokenizer: str | None) -> dict[str, Any]:
    """What a worker of the job would have, as gpu_tasks.probes.calibrate.Request asks for it."""
    options = job.options
    return {
        "model": asdict(job.model),
        "tokenizer": tokenizer,
        "device": "cuda:0" if options.device_class == "cuda" else "cpu",
        "threads": job.threads,
        **{name: getattr(options, name) for name in OPTIONS},
    }
