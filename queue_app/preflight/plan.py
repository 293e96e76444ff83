"""`holdfast plan`: what a job would be, without making it. Nothing is written that stays.

Everything is settled as `embed` settles it and cut as `embed` cuts it; only the time is an estimate.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from queue_app.choices import DeviceClass
from queue_app.errors import UsageError
from queue_app.host.devices import granted_devices
from queue_app.host.queues import Queue, device_class
from queue_app.ingest.open_dataset import opened_dataset
from queue_app.ingest.request import EmbedRequest
from queue_app.ingest.reuse import open_previous
from queue_app.job.disk_space import Room, require_local_disk, rooms
from queue_app.job.output_names import output_format
from queue_app.job.spec import EmbedOptions, Job
from queue_app.model.spec import FoundModel
from queue_app.preflight.planned_job import Sizes, planned_job, planned_sizes
from queue_app.preflight.stratified_sample import StratifiedSampler
from queue_app.preflight.survey import Survey, survey
from queue_app.preflight.time_estimate import Timing, measure
from queue_app.preflight.trial_worker import NotTimed, TrialDevice
from queue_app.settings import RuntimeConfig

CUT_CHARACTERS = 16
"""What is kept of a sampled text for each token of a segment: more than tokenizers make one token of."""
SAMPLE_CHARACTERS = {"cpu": 400_000, "cuda": 8_000_000}
"""What keeps a fast device busy for some seconds."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a job costs, in whatever the price of an hour is in."""

    least: float
    usual: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A job that was not made. `timing` is None where none was asked for, or it failed.

    `begun` says that its job directory holds a job. `problems` are the reasons for which `embed` would fail.
    """

    job: Job
    queues: tuple[str, ...]
    survey: Survey
    sizes: Sizes
    rooms: tuple[Room, ...]
    timing: Timing | None
    begun: bool
    problems: tuple[str, ...]

    @property
    def num_good(self) -> int:
        return len(self.survey.lengths)

    @property
    def num_long(self) -> int | None:
        """Records over the limit; None where their tokens were not counted."""
        if self.job.model.is_read_by_letters:
            return int((self.survey.lengths > self.job.options.max_length).sum())
        return round(self.timing.num_long / self.survey.share) if self.timing else None

    @property
    def num_tokens(self) -> int | None:
        """Special tokens and all windows included; None where they were not counted."""
        return round(self.timing.num_tokens) if self.timing else None

    @property
    def num_batches(self) -> int | None:
        """Every shard has batches of its own, and the last of them is not full."""
        if self.num_tokens is None:
            return None
        costs = self.job.shards.costs_to_compute
        batches = self.num_tokens * costs / costs.sum() / self.job.options.toks_per_batch
        return int(np.ceil(batches).sum())

    @property
    def output_bytes(self) -> int:
        return self.sizes.outputs[output_format(Path(self.job.output))]

    def cost(self, timing: Timing, hour_cost: float) -> Cost:
        """All GPUs together; a processor is one device, however many workers it has."""
        num_devices = len(self.queues) if self.job.options.device_class == "cuda" else 1
        price = hour_cost * num_devices / 3600
        return Cost(timing.least_seconds * price, timing.seconds * price, timing.most_seconds * price)


def make_plan(
    request: EmbedRequest,
    model: FoundModel,
    *,
    queues: Sequence[str],
    threads: int,
    config: RuntimeConfig,
    seconds: float,
    say: Callable[[str], None],
) -> Plan:
    """Read the inputs of a settled request as `embed` would, and compute a sample of them for `seconds`.

    Raises:
        UsageError: a bad input, or an output that cannot hold what is asked for, which `embed` would refuse.
    """
    options, found, sample = _look(request, model, device_class(queues), say)
    job = planned_job(request, model.spec, options, threads, found)
    new = request.directory.incoming  # where a job is put together: nothing of an earlier one is done there
    plan = Plan(
        job=job,
        queues=tuple(queues),
        survey=found,
        sizes=planned_sizes(job, found),
        rooms=tuple(rooms(job, new, config, num_workers=len(queues))),
        timing=None,
        begun=request.directory.job_json.exists(),
        problems=(),
    )
    plan = replace(plan, problems=tuple(_problems_of_disks(request, config, plan.rooms)))
    if not seconds or not found.share:
        return plan
    say(f"computing a sample on {', '.join(queues)}, for {seconds:g} seconds at most")
    try:
        return replace(plan, timing=_time(plan, model.tokenizer, config, sample, seconds))
    except NotTimed as error:
        return replace(plan, problems=(*plan.problems, str(error)))


def _look(
    request: EmbedRequest, model: FoundModel, kind: DeviceClass, say: Callable[[str], None]
) -> tuple[EmbedOptions, Survey, StratifiedSampler]:
    """Choose what embed would choose, in its order, and read the inputs to their end."""
    with (
        tempfile.TemporaryDirectory() as piped,
        opened_dataset(request, model, kind, Path(piped)) as (dataset, options),
    ):
        previous = open_previous(request.reuse, model.spec, options) if request.reuse else None
        say("reading the inputs")
        sample = StratifiedSampler(cut_characters=CUT_CHARACTERS * options.max_length)
        found = survey(dataset, sample, dedup=options.dedup, previous=previous)
    return options, found, sample


def _problems_of_disks(request: EmbedRequest, config: RuntimeConfig, found: Sequence[Room]) -> Iterator[str]:
    try:
        require_local_disk(config.scratch or request.directory.path)
    except UsageError as error:
        yield str(error)
    for room in found:
        if not room.is_enough:
            yield f"{room}; make room, or choose another -o or --job-dir"


def _time(
    plan: Plan, tokenizer: str | None, config: RuntimeConfig, sample: StratifiedSampler, seconds: float
) -> Timing:
    """Raises NotTimed."""
    drawn = sample.draw(SAMPLE_CHARACTERS[plan.job.options.device_class]).scaled(plan.survey.share)
    return measure(
        [
            TrialDevice(each, Queue.parse(each).visible_device(granted_devices(config)))
            for each in plan.queues
        ],
        job=plan.job,
        tokenizer=tokenizer,
        sample=drawn,
        seconds=seconds,
        reading_seconds=plan.survey.seconds,
        output_bytes=plan.output_bytes,
    )
