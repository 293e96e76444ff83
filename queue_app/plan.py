"""`holdfast plan`: what a job would be, without making it. Nothing is written that stays.

Everything is settled as `embed` settles it and cut as `embed` cuts it; only the time is an estimate.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from queue_app.errors import UsageError
from queue_app.export import check_output
from queue_app.job import JOB_SCHEMA, PLANNER_VERSION, EmbedOptions, Job, JobDir, ModelCard, Shard
from queue_app.model_card import describe_model
from queue_app.producer import dataset_of
from queue_app.request import EmbedRequest, device_class, resolve_options
from queue_app.sample import StratifiedSample
from queue_app.settings import RuntimeConfig
from queue_app.shards import RECORD_COST, cut, default_num_shards, shard_cost_most
from queue_app.sizes import Sizes, sizes_of
from queue_app.space import Room, require_local_disk, rooms
from queue_app.survey import Int64s, Survey, survey
from queue_app.timing import Timing, measure
from queue_app.trial import Device, NotTimed
from queue_app.worker import visible_device

LETTER_TOKENS = ("esm2", "mock")
"""Families of which a token is a letter: what is too long is counted without their tokenizer."""
CUT_CHARACTERS = 16
"""Of a sampled text, for each token of the longest segment: more than tokenizers make one token of."""
SAMPLE_CHARACTERS = {"cpu": 400_000, "cuda": 8_000_000}
"""What keeps a fast device busy for some seconds."""
START_SECONDS = 3.0
"""What server and workers take to start and to end, beside loading the model."""


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
        if self.job.model.family in LETTER_TOKENS:
            return int((self.survey.lengths > self.job.options.max_length).sum())
        return round(self.timing.num_long) if self.timing else None

    @property
    def num_tokens(self) -> int | None:
        """Special tokens and all windows included; None where they were not counted."""
        return round(self.timing.num_tokens) if self.timing else None

    @property
    def num_batches(self) -> int | None:
        """Each shard has its own, and the last of them is not full."""
        if self.num_tokens is None:
            return None
        costs = np.array([shard.num_tokens for shard in self.job.shards])
        batches = self.num_tokens * costs / costs.sum() / self.job.options.toks_per_batch
        return int(np.ceil(batches).sum())

    def cost(self, timing: Timing, hour_cost: float) -> Cost:
        """Of all GPUs together; a processor is one device, however many workers it has."""
        num_devices = len(self.queues) if self.job.options.device_class == "cuda" else 1
        price = hour_cost * num_devices / 3600
        return Cost(timing.least_seconds * price, timing.seconds * price, timing.most_seconds * price)


def make_plan(
    request: EmbedRequest,
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
    check_output(request.output)
    say("reading the model's files")
    card = describe_model(request.model)
    dataset = dataset_of(request, card)
    dataset.check()
    options = resolve_options(request, card, device_class(queues), dataset.alphabet)
    say("reading the inputs")
    sample = StratifiedSample(cut_characters=CUT_CHARACTERS * options.max_length)
    found = survey(dataset, sample)
    job = _draft(request, card, options, threads, found)
    full = rooms(job, _new_directory(request), config, num_workers=len(queues))
    problems = [*_problems_of_disks(request, config, full)]
    timing = None
    if seconds and len(found.lengths):
        say(f"computing a sample on {', '.join(queues)}, for {seconds:g} seconds at most")
        try:
            timing = _time(job, queues, config, found, sample, seconds)
        except NotTimed as error:
            problems.append(str(error))
    return Plan(
        job=job,
        queues=tuple(queues),
        survey=found,
        sizes=_sizes(job, found),
        rooms=tuple(full),
        timing=timing,
        begun=request.directory.job_json.exists(),
        problems=tuple(problems),
    )


def _draft(request: EmbedRequest, card: ModelCard, options: EmbedOptions, threads: int, found: Survey) -> Job:
    """The job as it would be, with an id and digests that stand for nothing."""
    return Job(
        schema_version=JOB_SCHEMA,
        planner_version=PLANNER_VERSION,
        job_id="plan",
        digest="",
        output=str(request.output.absolute()),
        inputs=found.inputs,
        model=card,
        options=options,
        threads=threads,
        run=request.run,
        counts=found.counts,
        shards=tuple(_shards(request, card, options, found.costs)),
    )


def _shards(request: EmbedRequest, card: ModelCard, options: EmbedOptions, costs: Int64s) -> Iterator[Shard]:
    cost_most = shard_cost_most(options.device_class, card.num_parameters)
    bounds = cut(costs, request.num_shards or default_num_shards(costs, cost_most))
    for index, (first, last) in enumerate(pairwise(bounds)):
        yield Shard("plan", index, last - first, int(costs[first:last].sum()), first, "")


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


def _sizes(job: Job, found: Survey) -> Sizes:
    return sizes_of(
        num_records=job.counts.num_records,
        num_good=len(found.lengths),
        num_shards=len(job.shards),
        num_sequence_bytes=int((found.costs - RECORD_COST).sum()),
        num_id_bytes=found.num_id_bytes,
        dim=job.model.dim,
        store_dtype=job.options.store_dtype,
    )


def _time(
    job: Job,
    queues: Sequence[str],
    config: RuntimeConfig,
    found: Survey,
    sample: StratifiedSample,
    seconds: float,
) -> Timing:
    """Raises NotTimed."""
    devices = [Device(queue, visible_device(queue, config)) for queue in queues]
    drawn = sample.draw(SAMPLE_CHARACTERS[job.options.device_class])
    times, loading = measure(devices, job=job, sample=drawn, seconds=seconds)
    costs = [shard.num_tokens for shard in job.shards]
    start_seconds = START_SECONDS + max(loading, found.seconds)  # the workers come up while the input is read
    return Timing(times, start_seconds, max(costs) / sum(costs))
