"""From what the user asked for to a job in its directory.

Idempotent: the same request on the same output finds the job that is there, and what was killed is simply run
again. job.json is put in its place last, so a directory without one holds nothing but a try.
"""

import secrets
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import xxhash

from queue_app.choices import DeviceClass
from queue_app.errors import InputError, JobChanged
from queue_app.host.durable_files import removed_on_failure, rename_durably, write_durably
from queue_app.ingest.cut_shards import shard_cost_most, shard_records_most
from queue_app.ingest.open_dataset import opened_dataset
from queue_app.ingest.readers.sources import digest_inputs
from queue_app.ingest.records import Dataset
from queue_app.ingest.records_to_shards import ingest
from queue_app.ingest.request import EmbedRequest
from queue_app.ingest.request_changes import refuse_changes
from queue_app.ingest.reuse import Previous, open_previous
from queue_app.job.directory import JOB_SCHEMA, PLANNER_VERSION, JobDir
from queue_app.job.model_place import note_place
from queue_app.job.output_place import claim
from queue_app.job.readouts import token_bytes
from queue_app.job.spec import EmbedOptions, InputFile, Job
from queue_app.model.spec import FoundModel, ModelSpec

INSTALLED = (
    "shards", "shards.table", "results", "done", "sequences.arrow", "twins.arrow", "kept.parquet",
    "tokenizer.json", "kind.json",
)  # fmt: skip
"""What moves from `incoming` to its place before job.json does."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job that stands in its directory; `created` is false when it was there already."""

    job: Job
    job_dir: JobDir
    created: bool


def prepare(
    request: EmbedRequest,
    model: FoundModel,
    *,
    device_class: DeviceClass,
    threads: int,
    forget_keys: Callable[[str], None] | None = None,
) -> Prepared:
    """Find or make the job of a request that is settled (settle.py); the caller holds the directory's lock.

    `forget_keys` takes the id of a job that is replaced, and removes what its server knows of it.
    """
    if request.directory.incoming.job_json.exists():
        _install(request.directory, forget_keys)  # a producer was killed while it did
    with opened_dataset(request, model, device_class, request.directory.piped) as (dataset, options):
        job_dir, spec = request.directory, model.spec
        inputs = digest_inputs(dataset.files)
        there = job_dir.load() if job_dir.job_json.exists() and not request.overwrite else None
        if there and not _gives_way(there, inputs, spec, options, request):
            note_place(there, job_dir, spec.path)
            return Prepared(there, job_dir, created=False)
        previous = open_previous(request.reuse, spec, options) if request.reuse else None
        kind = previous.only_kind() if previous and request.one_kind else None
        incoming = job_dir.incoming
        shutil.rmtree(incoming.path, ignore_errors=True)
        with removed_on_failure(incoming.path):
            job = _ingest(request, incoming, dataset, spec, options, inputs, threads, previous)
            if kind is not None:
                write_durably(incoming.kind, kind.encode())
            if model.tokenizer is not None:
                write_durably(incoming.tokenizer, model.tokenizer.encode())
            incoming.write(job)
    if request.overwrite or there:
        claim(job_dir, request.output)  # the next run may have to go on without being told so
    _install(job_dir, forget_keys)
    return Prepared(job, job_dir, created=True)


def _gives_way(
    there: Job, inputs: tuple[InputFile, ...], spec: ModelSpec, options: EmbedOptions, request: EmbedRequest
) -> bool:
    """Whether another job takes this one's place. Raises JobChanged where that was not asked for."""
    try:
        refuse_changes(there, inputs, spec, options, request)
    except JobChanged:
        if not request.overwrite_changed:
            raise
        return True
    return False


def _forget(job_dir: JobDir, forget_keys: Callable[[str], None] | None) -> None:
    """Remove a job's work: job.json first, so that what is left of it is never taken for a job."""
    job_dir.hold("cancelled")  # or the reconciler would take what is forgotten for lost, and rebuild it
    # Of a job that cannot be read, keys that nobody looks at are left to the server.
    job = job_dir.load_or_none()
    if forget_keys is not None and job is not None:
        forget_keys(job.job_id)
    job_dir.kind.unlink(missing_ok=True)
    job_dir.certificate.unlink(missing_ok=True)
    job_dir.job_json.unlink()
    shutil.rmtree(job_dir.path / "checkpoints", ignore_errors=True)


def _install(job_dir: JobDir, forget_keys: Callable[[str], None] | None) -> None:
    """Put what was read in the place of what is there; it is a job once its job.json stands.

    Killed in between, the next producer goes on here: vectors that were copied from the job that is
    replaced are nowhere else any more.
    """
    incoming = job_dir.incoming
    if job_dir.job_json.exists():
        _forget(job_dir, forget_keys)
    shutil.rmtree(job_dir.history, ignore_errors=True)
    for name in INSTALLED:
        if (incoming.path / name).exists():
            if (job_dir.path / name).is_dir():
                shutil.rmtree(job_dir.path / name)  # a file is replaced in one step
            (incoming.path / name).rename(job_dir.path / name)
    job = incoming.load()
    for path, written in ((job_dir.twins, job.twins), (job_dir.kept, job.kept)):
        if written is None:
            path.unlink(missing_ok=True)
    job_dir.held.unlink(missing_ok=True)
    job_dir.fleet_json.unlink(missing_ok=True)  # the new job is nobody's before it is announced
    rename_durably(incoming.job_json, job_dir.job_json)
    incoming.path.rmdir()


def _ingest(
    request: EmbedRequest,
    incoming: JobDir,
    dataset: Dataset,
    spec: ModelSpec,
    options: EmbedOptions,
    inputs: tuple[InputFile, ...],
    threads: int,
    previous: Previous | None,
) -> Job:
    """Read the inputs to their end and write the shards aside: an earlier job stays until they stand.

    What is read must be what `inputs` says of a reading before: the times and sizes that file systems tell
    are no proof of it, least of all those across a network.
    """
    digest = job_digest(inputs, spec, options, previous.digest if previous else None)
    # The random generation keeps two outputs of one input apart, and a job from the one it replaces.
    job_id = f"{digest[:12]}-{secrets.token_hex(4)}"
    ingested = ingest(
        dataset,
        incoming,
        job_id,
        num_shards=request.num_shards,
        cost_most=shard_cost_most(options.device_class, spec.num_parameters, token_bytes(spec, options)),
        records_most=shard_records_most(options.device_class),
        dedup=options.dedup,
        previous=previous,
        keep=dataset.columns.keep.asked,
    )
    for before, after in zip(inputs, dataset.inputs, strict=True):
        if before.digest != after.digest:
            raise InputError(f"{after.path}: changed while it was read; run again when it is complete")
    return Job(
        schema_version=JOB_SCHEMA,
        planner_version=PLANNER_VERSION,
        job_id=job_id,
        digest=digest,
        output=str(request.output.absolute()),
        inputs=dataset.inputs,
        model=spec,
        options=options,
        threads=threads,
        run=request.run,
        counts=ingested.counts,
        shards=ingested.shards,
        sequences_digest=ingested.sequences_digest,
        twins=ingested.twins,
        reuse=ingested.reuse,
        notes=dataset.notes,
        kept=ingested.kept,
    )


def job_digest(
    inputs: Iterable[InputFile], spec: ModelSpec, options: EmbedOptions, reused: str | None = None
) -> str:
    """xxh3-128 (hex) over the inputs, the model, every option that counts, and what is reused."""
    state = xxhash.xxh3_128()
    parts = [*(file.digest for file in inputs), *spec.identity(), *sorted(asdict(options).items())]
    for part in (*parts, *([reused] if reused else [])):
        state.update(f"{part}\n".encode())
    return state.hexdigest()
