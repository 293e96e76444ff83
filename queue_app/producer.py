"""The producer: from what the user asked for to a job directory, a manifest and a message per shard.

Idempotent at every step: the same request on the same output finds the job that is there, and a
producer that was killed is simply run again. job.json is written last, so a directory without one
holds nothing but a try.
"""

import contextlib
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import redis
import xxhash
from celery import Celery

from queue_app.broker import check, connect
from queue_app.celery_app import EMBED_SHARD, make_app
from queue_app.dataset import Dataset, digest_inputs, looks_like_fasta
from queue_app.done import finished_shards
from queue_app.durable import removed_on_failure
from queue_app.errors import Damage, InputError, JobChanged, UsageError
from queue_app.job import (
    JOB_SCHEMA,
    PLANNER_VERSION,
    Alphabet,
    DeviceClass,
    EmbedOptions,
    InputFile,
    Job,
    JobDir,
    ModelCard,
    Shard,
)
from queue_app.lock import job_directory
from queue_app.manifest import CheckpointManifest
from queue_app.model_card import describe_model
from queue_app.request import EmbedRequest, device_class, resolve_options
from queue_app.settings import runtime_config
from queue_app.shards import shard_cost_most, write_shards
from queue_app.space import require_room
from queue_app.states import Progress, ShardState


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job that stands in its directory; `created` is false when it was there already."""

    job: Job
    job_dir: JobDir
    created: bool


def submit(request: EmbedRequest, *, broker_url: str, queues: Sequence[str], threads: int = 1) -> Prepared:
    """Prepare the job, make it known to the server and send one message per unfinished shard.

    Run twice, or by two producers at once, it makes one job.

    Raises:
        UsageError: bad input, model or option; nothing is left behind.
        JobChanged: the output belongs to a job with other inputs, model or options.
        JobBusy: another process is working on the job.
        BrokerUnreachable: no server.
        DiskFull: not enough room for what is left to compute.
    """
    client = connect(broker_url)
    check(client, broker_url)
    with job_directory(request.directory, wait=True):
        prepared = prepare(request, client=client, device_class=device_class(queues), threads=threads)
        _require_room(prepared, num_workers=len(queues))
        announce(client, make_app(broker_url), prepared, queues, resend_all=prepared.created)
    return prepared


def _require_room(prepared: Prepared, *, num_workers: int) -> None:
    """A scratch directory is each worker's own, and may be large where this host's is small."""
    config = runtime_config()
    num_here = num_workers if config.scratch is None else 0
    require_room(prepared.job, prepared.job_dir, config, num_workers=num_here)


# ---- the job directory


def prepare(
    request: EmbedRequest, *, client: redis.Redis | None, device_class: DeviceClass, threads: int
) -> Prepared:
    """Find or make the job; the caller holds the directory's lock. `client` forgets a replaced job."""
    job_dir = request.directory
    card = describe_model(request.model)
    dataset = dataset_of(request, card)
    dataset.check()
    options = resolve_options(request, card, device_class, dataset.alphabet)
    inputs = digest_inputs(request.inputs)
    if job_dir.job_json.exists() and not request.overwrite:
        job = job_dir.load()
        refuse_changes(job, inputs, card, options, request)
        return Prepared(job, job_dir, created=False)
    incoming = JobDir(job_dir.path / "incoming")
    shutil.rmtree(incoming.path, ignore_errors=True)
    with removed_on_failure(incoming.path):
        job = _ingest(request, incoming, dataset, card, options, inputs, threads)
    if job_dir.job_json.exists():
        forget(job_dir, client)
    _install(job, incoming, job_dir)
    return Prepared(job, job_dir, created=True)


def dataset_of(request: EmbedRequest, card: ModelCard) -> Dataset:
    """The records that were asked for, judged as the model wants them."""
    return Dataset(
        request.inputs,
        alphabet=_alphabet(request, card),
        id_column=request.id_column,
        sequence_column=request.sequence_column,
    )


def _alphabet(request: EmbedRequest, card: ModelCard) -> Alphabet:
    if request.alphabet != "auto":
        return request.alphabet
    if card.family == "mock" and looks_like_fasta(request.inputs):
        return "protein"
    return card.alphabet


def refuse_changes(
    job: Job, inputs: Sequence[InputFile], card: ModelCard, options: EmbedOptions, request: EmbedRequest
) -> None:
    """Raises JobChanged, naming every difference, when the request is not the job that is there."""
    changes = [*_changed_inputs(job.inputs, inputs), *_changed_model(job.model, card)]
    changes += _changed_options(job.options, options)
    if request.num_shards is not None and request.num_shards != len(job.shards):
        changes.append(f"shards: {len(job.shards)} -> {request.num_shards}")
    if changes:
        raise JobChanged(
            f"{job.output} belongs to another job ({'; '.join(changes)}); "
            "use --overwrite to forget its work, or another -o"
        )


def _changed_inputs(old: Sequence[InputFile], new: Sequence[InputFile]) -> list[str]:
    if len(old) != len(new):
        return [f"inputs: {len(old)} files -> {len(new)}"]
    return [
        f"input {after.name}: content differs from {before.name} as first read"
        for before, after in zip(old, new, strict=True)
        if before.digest != after.digest
    ]


def _changed_model(old: ModelCard, new: ModelCard) -> list[str]:
    return [] if old.digest == new.digest else [f"model: {old.name} -> {new.name} (other weights)"]


def _changed_options(old: EmbedOptions, new: EmbedOptions) -> list[str]:
    return [
        f"{field.name}: {getattr(old, field.name)} -> {getattr(new, field.name)}"
        for field in fields(EmbedOptions)
        if getattr(old, field.name) != getattr(new, field.name)
    ]


def forget(job_dir: JobDir, client: redis.Redis | None) -> None:
    """Remove a job's work: job.json first, so that what is left of it is never taken for a job."""
    job_dir.hold("cancelled")  # or the reconciler would take what is forgotten for lost, and rebuild it
    # Of a job that cannot be read, keys that nobody looks at are left to the server.
    with contextlib.suppress(Damage, UsageError):
        if client is not None:
            CheckpointManifest(client, job_dir.load().job_id).forget()
    job_dir.job_json.unlink()
    shutil.rmtree(job_dir.path / "checkpoints", ignore_errors=True)


def _install(job: Job, incoming: JobDir, job_dir: JobDir) -> None:
    """Put what was read in its place; it is a job once job.json stands."""
    for path in (job_dir.shards, job_dir.results, job_dir.path / "done"):
        shutil.rmtree(path, ignore_errors=True)
    incoming.shards.rename(job_dir.shards)
    job_dir.held.unlink(missing_ok=True)
    incoming.path.rmdir()
    job_dir.results.mkdir()
    (job_dir.path / "done").mkdir()
    job_dir.write(job)


def _ingest(
    request: EmbedRequest,
    incoming: JobDir,
    dataset: Dataset,
    card: ModelCard,
    options: EmbedOptions,
    inputs: tuple[InputFile, ...],
    threads: int,
) -> Job:
    """Read the inputs to their end and write the shards aside: an earlier job stays until they stand."""
    incoming.shards.mkdir(parents=True)
    digest = job_digest(inputs, card, options)
    # The random generation keeps two outputs of one input apart, and a job from the one it replaces.
    job_id = f"{digest[:12]}-{secrets.token_hex(4)}"
    cost_most = shard_cost_most(options.device_class, card.num_parameters)
    shards = write_shards(dataset, incoming, job_id, num_shards=request.num_shards, cost_most=cost_most)
    if [file.digest for file in dataset.inputs] != [file.digest for file in inputs]:
        raise InputError("an input changed while it was read; run again when it is complete")
    return Job(
        schema_version=JOB_SCHEMA,
        planner_version=PLANNER_VERSION,
        job_id=job_id,
        digest=digest,
        output=str(request.output.absolute()),
        inputs=dataset.inputs,
        model=card,
        options=options,
        threads=threads,
        run=request.run,
        counts=dataset.counts,
        shards=shards,
    )


def job_digest(inputs: Iterable[InputFile], card: ModelCard, options: EmbedOptions) -> str:
    """xxh3-128 (hex) over the content of the inputs, the model's files and every option that counts."""
    state = xxhash.xxh3_128()
    for part in (*(file.digest for file in inputs), card.digest, *sorted(asdict(options).items())):
        state.update(f"{part}\n".encode())
    return state.hexdigest()


# ---- the server


def announce(
    client: redis.Redis, app: Celery, prepared: Prepared, queues: Sequence[str], *, resend_all: bool
) -> int:
    """Fill the manifest from the job directory and wake workers for what is left.

    A job that was cancelled, paused or given up goes on. `resend_all` sends every pending shard again,
    whatever was sent before (the queues may have changed or be lost); otherwise only those that no message
    is under way for. Answers how many messages were sent.
    """
    job, job_dir = prepared.job, prepared.job_dir
    manifest = CheckpointManifest(client, job.job_id)
    routes = route(job.shards, queues)
    done = finished_shards(job, job_dir)
    manifest.initialize(job, str(job_dir.path), routes, done)
    correct(manifest, job, done)
    job_dir.held.unlink(missing_ok=True)
    manifest.revive()
    pending = [
        status.index
        for status in manifest.shard_statuses(shard.index for shard in job.shards)
        if status.state is ShardState.PENDING and (resend_all or status.sent_at == 0)
    ]
    send_shards(app, manifest, str(job_dir.path), {index: routes[index] for index in pending})
    return len(pending)


def correct(manifest: CheckpointManifest, job: Job, done: Mapping[int, Progress]) -> None:
    """Where manifest and job directory disagree on what is done, the directory is right."""
    for status in manifest.shard_statuses(shard.index for shard in job.shards):
        if status.index in done and status.state is not ShardState.DONE:
            manifest.restore(status.index, done[status.index])
        elif status.index not in done and status.state is ShardState.DONE:
            manifest.reopen(status.index)


def route(shards: Sequence[Shard], queues: Sequence[str]) -> dict[int, str]:
    """Deal the shards out in order, each to the queue with the least cost so far."""
    load = dict.fromkeys(queues, 0)
    routes: dict[int, str] = {}
    for shard in shards:
        queue = min(load, key=lambda name: load[name])
        load[queue] += shard.num_tokens
        routes[shard.index] = queue
    return routes


def send_shards(app: Celery, manifest: CheckpointManifest, job_dir: str, routes: Mapping[int, str]) -> None:
    """Send one message per shard, then note it: a crash between the two costs a second message."""
    with app.producer_or_acquire() as producer:
        for index, queue in routes.items():
            app.send_task(EMBED_SHARD, args=[manifest.job_id, job_dir, index], queue=queue, producer=producer)
    manifest.mark_sent(routes)
