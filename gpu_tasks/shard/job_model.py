"""The model of a job, loaded as its job.json says; at most one stays in the process from task to task."""

import logging
import time
from functools import partial

from gpu_tasks.inference.device_errors import Fault, fault_of
from gpu_tasks.inference.exact_shapes import ExactShapes
from gpu_tasks.inference.fitting import fit
from gpu_tasks.inference.model import Dtype, EmbeddingModel
from gpu_tasks.inference.readout import parse_pools
from gpu_tasks.models.loading import load
from gpu_tasks.shard.kind import refuse_other_kind
from gpu_tasks.shard.numerics.canary_check import device_name, watch_canary, watch_company
from queue_app.errors import Damage
from queue_app.host.devices import num_cores
from queue_app.job.directory import JobDir
from queue_app.job.spec import Job

log = logging.getLogger(__name__)

_loaded: dict[tuple[object, ...], EmbeddingModel] = {}


def load_and_check(job: Job, directory: JobDir) -> EmbeddingModel:
    """The job's model, on a device that was seen to compute what it should.

    Raises:
        ModelTooLarge: the memory does not hold it.
        OtherKind: the job is for another kind of device.
        NotCertified: its records lose more in int8 than it allows.
        Exception: whatever else keeps this worker from computing with it.
    """
    refuse_other_kind(job, directory)
    device, dtype = device_name(job), job.options.dtype

    def load_or_clear() -> EmbeddingModel:
        try:
            model = _load_once(job, directory, device)
            watch_company(job, model)
            watch_canary(job, model, partial(load_float32, job, directory))
            if dtype == "int8":
                _certify(job, directory, model)
        except Exception as error:
            if fault_of(error) is Fault.NO_ROOM:
                _loaded.clear()
            raise
        return model

    spec = job.model
    return fit(load_or_clear, spec.path, num_parameters=spec.num_parameters, dtype=dtype, device=device)


def _certify(job: Job, directory: JobDir, model: EmbeddingModel) -> None:
    # It reads shards: what that takes, a worker without a job does not import.
    from gpu_tasks.shard.numerics.certify import certify

    certify(job, directory, model, partial(load_float32, job, directory))


def _load_once(job: Job, directory: JobDir, device: str) -> EmbeddingModel:
    options, shapes = job.options, exact_shapes(job)
    computed_with = (options.device_class, options.dtype, options.kernels, job.threads, shapes)
    wanted = (job.model, computed_with, options.pool, options.layers)
    if wanted not in _loaded:
        _loaded.clear()  # first: the device's memory may not hold two
        started = time.monotonic()
        model = load_job_model(
            job, directory, device=device, dtype=options.dtype, threads=job.threads, shapes=shapes
        )
        _loaded[wanted] = model
        _tell_of_few_cores(job, device)
        seconds = time.monotonic() - started
        log.info("model loaded name=%s device=%s seconds=%.1f", job.model.name, device, seconds)
    return _loaded[wanted]


def _tell_of_few_cores(job: Job, device: str) -> None:
    """Fewer threads would be faster here, but another number could change the last bits of the job."""
    if device == "cpu" and job.threads > num_cores():
        log.warning(
            "job=%s is computed with its %d threads, though this host grants fewer cores: %d",
            job.job_id, job.threads, num_cores(),
        )  # fmt: skip


def load_job_model(
    job: Job,
    directory: JobDir,
    *,
    device: str,
    dtype: Dtype,
    threads: int | None = None,
    shapes: ExactShapes | None = None,
) -> EmbeddingModel:
    """Raises as gpu_tasks.models.load does; Damage where the tokenizer that was kept with the job is gone."""
    return load(
        job.model,
        _tokenizer(job, directory),
        device=device,
        dtype=dtype,
        pools=parse_pools(job.options.pool),
        layers=job.options.layers,
        threads=threads,
        kernels=job.options.kernels,
        shapes=shapes,
    )


def exact_shapes(job: Job) -> ExactShapes | None:
    """The shapes of a job's batches, where it is to be exact."""
    options, model = job.options, job.model
    if not options.exact:
        return None
    # With a bias among its tokens, attention would have to make one of the longest segment for every batch.
    longest = options.max_length + model.num_special if model.family in ("esm2", "bert") else None
    return ExactShapes(
        options.toks_per_batch,
        longest,
        threads=job.threads if options.device_class == "cpu" else 0,
        fills=model.family != "auto" or model.packs,
    )


def load_float32(job: Job, directory: JobDir, device: str = "cpu") -> EmbeddingModel:
    """The model in float32: on the processor what other devices and dtypes are held against, on the job's
    device what computes the records that fewer bits do not hold."""
    return load_job_model(job, directory, device=device, dtype="float32", threads=job.threads)


def _tokenizer(job: Job, directory: JobDir) -> str | None:
    if job.model.tokens.kind != "fast":
        return None
    try:
        return directory.tokenizer.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise Damage(f"{directory.tokenizer}: not readable ({error}); embed again with --overwrite") from None
