"""`holdfast plan`: what a job would be, without making it. Nothing is written that stays.

Everything is settled as `embed` settles it and cut as `embed` cuts it; only the time is an estimate.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from queue_app.errors import UsageError
from queue_app.host.devices import visible_device
from queue_app.ingest.gather import gather, refuse_replacing
from queue_app.ingest.prepare import dataset_of
from queue_app.ingest.request import EmbedRequest, device_class, refuse_impossible, resolve_options
from queue_app.ingest.reuse import open_previous
from queue_app.ingest.unknown_tokens import refuse_alphabet
from queue_app.job.directory import JobDir
from queue_app.job.disk_space import Room, require_local_disk, rooms
from queue_app.job.output_names import check_format, output_format, refuse_unheeded
from queue_app.job.output_ownership import check_output
from queue_app.job.spec import DeviceClass, EmbedOptions, Job
from queue_app.model.reader import FoundModel
from queue_app.preflight.planned_job import draft, draft_sizes
from queue_app.preflight.sizes import Sizes
from queue_app.preflight.stratified_sample import StratifiedSample
from queue_app.preflight.survey import Survey, survey
from queue_app.preflight.time_estimate import Timing, measure
from queue_app.preflight.trial_worker import Device, NotTimed
from queue_app.settings import RuntimeConfig

CUT_CHARACTERS = 16
"""Of a sampled text, for each token of the longest segment: more than tokenizers make one token of."""
SAMPLE_CHARACTERS = {"cpu": 400_000, "cuda": 8_000_000}
"""What keeps a fast device busy for some seconds."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a job, in whatever the price of an hour is in."""

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
        """Each shard has its own, and the last of them is not full."""
        if self.num_tokens is None:
            return None
        costs = np.array([shard.num_tokens for shard in self.job.shards if not shard.reused])
        batches = self.num_tokens * costs / costs.sum() / self.job.options.toks_per_batch
        return int(np.ceil(batches).sum())

    @property
    def output_bytes(self) -> int:
        return self.sizes.outputs[output_format(Path(self.job.output))]

    def cost(self, timing: Timing, hour_cost: float) -> Cost:
        """Of all GPUs together; a processor is one device, however many workers it has."""
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
    """Read the inputs as `embed` would, and compute a sample of them for `seconds`; for 0, nothing.

    Raises:
        UsageError: a bad input, model, option or output, which `embed` would refuse.
    """
    options, found, sample = _look(request, model, device_class(queues), say)
    job = draft(request, model.spec, options, threads, found)
    plan = Plan(
        job=job,
        queues=tuple(queues),
        survey=found,
        sizes=draft_sizes(job, found),
        rooms=tuple(rooms(job, _new_directory(request), config, num_workers=len(queues))),
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
) -> tuple[EmbedOptions, Survey, StratifiedSample]:
    """Settle what embed would settle, in its order, and read the inputs to their end."""
    spec = model.spec
    check_output(request.output)
    refuse_unheeded(request.output, request.pool, request.run.h5_layout)
    refuse_impossible(request, spec)
    refuse_alphabet(request.alphabet, model)
    with tempfile.TemporaryDirectory() as spool, gather(request.inputs, Path(spool)) as files:
        refuse_replacing(files, request.output)
        dataset = dataset_of(request, model, files)
        dataset.check()
        options = resolve_options(request, spec, kind, dataset.alphabet)
        check_format(request.output, options, request.run.h5_layout)
        previous = open_previous(request.reuse, spec, options) if request.reuse else None
        say("reading the inputs")
        sample = StratifiedSample(cut_characters=CUT_CHARACTERS * options.max_length)
        found = survey(dataset, sample, dedup=options.dedup, previous=previous)
    return options, found, sample


def _new_directory(request: EmbedRequest) -> JobDir:
    """Where the producer puts a job together: nothing of an earlier one counts as done there."""
    return JobDir(request.directory.path / "incoming")


def _problems_of_disks(request: EmbedRequest, config: RuntimeConfig, found: Sequence[Room]) -> Iterator[str]:
    try:
        require_local_disk(config.scratch or request.directory.path)
    except UsageError as error:
        yield str(error)
    for room in found:
        if not room.is_enough:
            yield f"{room}; make room, or choose another -o or --job-dir"


def _time(
    plan: Plan, tokenizer: str | None, config: RuntimeConfig, sample: StratifiedSample, seconds: float
) -> Timing:
    """Raises NotTimed."""
    drawn = sample.draw(SAMPLE_CHARACTERS[plan.job.options.device_class]).scaled(plan.survey.share)
    return measure(
        [Device(queue, visible_device(queue, config)) for queue in plan.queues],
        job=plan.job,
        tokenizer=tokenizer,
        sample=drawn,
        seconds=seconds,
        reading_seconds=plan.survey.seconds,
        output_bytes=plan.output_bytes,
    )
