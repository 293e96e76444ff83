"""Holds a worker's device against the processor, or against the job's other devices, before it computes."""

import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from gpu_tasks.errors import NumericsDeviate
from gpu_tasks.inference.model import EmbeddingModel
from queue_app.coordination.canary_exchange import CanaryDeposits
from queue_app.coordination.redis_client import TRANSIENT, client
from queue_app.coordination.states import Lease
from queue_app.job.spec import Job

if TYPE_CHECKING:
    from gpu_tasks.inference.canary import Canary, Vectors

log = logging.getLogger(__name__)

CANARY_PARAMETERS_MOST = 1_000_000_000

_references: dict[tuple[object, ...], "Vectors"] = {}
"""Those of the model at hand."""
_canaries: dict[str, "Canary"] = {}
"""What this process's device computed for the job at hand, by its id."""


_holding: dict[str, bool] = {}
"""Whether vectors were seen to depend on no company, of the job at hand, by its id."""


def watch_company(job: Job, model: EmbeddingModel) -> None:
    """See whether `--exact` holds here, in the job's own shapes; once per process and job.

    Raises NumericsDeviate where it does not and was asked for; else it is said.
    """
    if not job.options.exact or job.model.family == "mock" or job.job_id in _holding:
        return
    from gpu_tasks.inference.company import dependent_lengths

    options = job.options
    found = dependent_lengths(model, budget=options.toks_per_batch, max_length=options.max_length)
    if found:
        told = (
            f"--exact does not hold on this worker: in {options.dtype} on {device_name(job)} the vectors of "
            f"test sequences of {', '.join(map(str, found))} tokens depend on what is computed beside them"
        )
        if job.run.must_be_exact:
            raise NumericsDeviate(f"{told}; leave --exact away, or ask for another --dtype or device")
        log.warning("%s; the run card says so", told)
    _holding.clear()
    _holding[job.job_id] = not found


def holds_exact(job: Job) -> bool | None:
    """What `watch_company` found; None where it did not look."""
    return _holding.get(job.job_id)


def watch_canary(job: Job, model: EmbeddingModel, load_float32: Callable[[], EmbeddingModel]) -> None:
    """Hold the device against the processor, or against the job's other devices. Raises NumericsDeviate.

    With the processor once per process and job; with the others before each shard, as there may be more of
    them by then. Left out where a thing would be compared with itself. `load_float32` loads the model on the
    processor in float32.
    """
    if is_own_reference(job):
        return
    from gpu_tasks.inference.canary import Canary, embed_sequences
    from gpu_tasks.inference.torch_device import hardware_id

    canary = _canaries.get(job.job_id)
    if canary is None:
        canary = Canary(hardware_id(device_name(job)), job.options.dtype, embed_sequences(model))
        if not is_large(job):
            distance = canary.check_against(reference_vectors(job, load_float32))
            log.info("numerics agree with the processor's: cosine distance %.2g", distance)
        _canaries.clear()
        _canaries[job.job_id] = canary
    if is_large(job):
        canary.check_against_others(canary_deposits(job))


def reference_vectors(job: Job, load_float32: Callable[[], EmbeddingModel]) -> "Vectors":
    """The canary's vectors as the processor computes them in float32; kept for the model's next job."""
    from gpu_tasks.inference.canary import embed_sequences

    wanted = (job.model.identity(), job.options.pool, job.options.layers)
    if wanted not in _references:
        _references.clear()
        _references[wanted] = embed_sequences(load_float32())
    return _references[wanted]


def note_begun(job: Job, lease: Lease) -> None:
    """What a device began is named when it turns out to deviate. Only the name is lost with the server."""
    if is_large(job) and (canary := _canaries.get(job.job_id)):
        with contextlib.suppress(*TRANSIENT):
            canary_deposits(job).begin(canary.device, lease.shard.index)


def canary_deposits(job: Job) -> CanaryDeposits:
    """Where the job's devices see each other's vectors of the canary."""
    from gpu_tasks.inference.canary import VERSION

    return CanaryDeposits(client(), job.job_id, f"{VERSION}:{job.model.digest}:{job.options.dtype}")


def is_own_reference(job: Job) -> bool:
    """True when the job computes on the processor in float32: there is nothing better to hold it against. Or
    in int8, which is held against float32 on the job's own records (certify.py)."""
    on_cpu, dtype = job.options.device_class == "cpu", job.options.dtype
    return job.model.family == "mock" or (on_cpu and dtype in ("float32", "int8"))


def is_large(job: Job) -> bool:
    """True when a second copy of the model, to hold the device against, is too much for the host."""
    return job.model.num_parameters > CANARY_PARAMETERS_MOST


def device_name(job: Job) -> str:
    return "cuda:0" if job.options.device_class == "cuda" else "cpu"
