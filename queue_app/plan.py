"""`holdfast plan`: what a job would be, without making it. Nothing is written that stays.

Everything is settled as `embed` settles it and cut as `embed` cuts it; only the time is an estimate.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from queue_app.errors import UsageError
from queue_app.export import check_output
from queue_app.inputs import gather, refuse_replacing
from queue_app.job import (
    JOB_SCHEMA,
    PLANNER_VERSION,
    EmbedOptions,
    Job,
    JobDir,
    ModelCard,
    Shard,
    TwinsFile,
)
from queue_app.model_card import describe_model
from queue_app.outputs import check_format
from queue_app.producer import dataset_of
from queue_app.readouts import is_ragged, vector_bytes
from queue_app.request import EmbedRequest, device_class, resolve_options
from queue_app.reuse import open_previous
from queue_app.sample import StratifiedSample
from queue_app.settings import RuntimeConfig
from queue_app.shards import cut, default_num_shards, shard_cost_most
from queue_app.sizes import Sizes, sizes_of
from queue_app.space import Room, require_local_disk, rooms
from queue_app.spool import RECORD_COST
from queue_app.survey import Survey, survey
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
    with tempfile.TemporaryDirectory() as spool, gather(request.inputs, Path(spool)) as files:
        refuse_replacing(files, request.output)
        dataset = dataset_of(request, card, files)
        dataset.check()
        options = resolve_options(request, card, device_class(queues), dataset.alphabet)
        check_format(request.output, options, request.run.h5_layout)
        previous = open_previous(request.reuse, card, options) if request.reuse else None
        say("reading the inputs")
        sample = StratifiedSample(cut_characters=CUT_CHARACTERS * options.max_length)
        found = survey(dataset, sample, dedup=options.dedup, previous=previous)
    job = _draft(request, card, options, threads, found)
    full = rooms(job, _new_directory(request), config, num_workers=len(queues))
    problems = [*_problems_of_disks(request, config, full)]
    timing = None
    if seconds and found.share:
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
        shards=tuple(_shards(request, card, options, found)),
        twins=TwinsFile("", found.num_twins, found.num_firsts) if found.num_twins else None,
    )


def _shards(request: EmbedRequest, card: ModelCard, options: EmbedOptions, found: Survey) -> Iterator[Shard]:
    """Those that are computed, then one of all vectors that are reused. The first answers for all twins."""
    token_bytes = vector_bytes(card, options) if is_ragged(options) else 0
    cost_most = shard_cost_most(options.device_class, card.num_parameters, token_bytes)
    twins, bounds = found.num_twins, [0]
    if len(found.costs):
        bounds = cut(found.costs, request.num_shards or default_num_shards(found.costs, cost_most))
    for index, (first, last) in enumerate(pairwise(bounds)):
        cost = int(found.costs[first:last].sum())
        yield Shard("plan", index, last - first + twins, cost, first, "", num_twins=twins)
        twins = 0
    if num_reused := len(found.reused_costs):
        cost = int(found.reused_costs.sum())
        yield Shard("plan", len(bounds) - 1, num_reused + twins, cost, 0, "", num_twins=twins, reused=True)


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
        num_rows=len(found.costs) + len(found.reused_costs),
        num_good=len(found.lengths),
        num_shards=len(job.shards),
        num_sequence_bytes=int((found.costs - RECORD_COST).sum()),
        num_id_bytes=found.num_id_bytes,
        num_vectors=int(found.lengths.sum()) if is_ragged(job.options) else len(found.lengths),
        vector_bytes=vector_bytes(job.model, job.options),
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
    drawn = sample.draw(SAMPLE_CHARACTERS[job.options.device_class]).scaled(found.share)
    times, loading = measure(devices, job=job, sample=drawn, seconds=seconds)
    costs = [shard.num_tokens for shard in job.shards if not shard.reused]
    start_seconds = START_SECONDS + max(loading, found.seconds)  # the workers come up while the input is read
    return Timing(times, start_seconds, max(costs) / sum(costs))
