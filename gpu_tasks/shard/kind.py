"""What kind of device computes here, and the jobs that only one kind may compute.

The first worker that begins a shard of such a job fixes its kind, by a file in the job directory that is
created and never replaced: one of all hosts succeeds, and a server that loses its data changes nothing.
"""

import logging
from importlib.metadata import version

from checkpoint import Kind
from gpu_tasks.errors import OtherKind
from gpu_tasks.shard.numerics.canary_check import device_name
from queue_app.errors import Damage
from queue_app.host.devices import processor_name
from queue_app.host.durable_files import create_durably
from queue_app.job.directory import JobDir
from queue_app.job.spec import Job

log = logging.getLogger(__name__)


def kind_here(job: Job) -> Kind:
    """What this worker computes the job with. Raises DeviceUnavailable."""
    return Kind(_device(job), _torch(job), job.options.dtype)


def _device(job: Job) -> str:
    if job.model.family == "mock":  # it computes without torch
        return processor_name()
    from gpu_tasks.inference.torch_device import gpu_name, instruction_set

    if job.options.device_class == "cuda":
        return gpu_name(device_name(job))
    return f"{processor_name()} ({instruction_set()})"


def _torch(job: Job) -> str:
    """Its version, and what computes a native family in the place of its own choice: both change bits."""
    beside = None if job.model.family in ("mock", "auto") else _beside_torch(job)
    return ", ".join(filter(None, [version("torch"), beside]))


def _beside_torch(job: Job) -> str | None:
    """What multiplies matrices on the processor in the place of torch's own library, or what compiles our
    kernels for a GPU; None: neither."""
    import torch

    from gpu_tasks.models.kernels.choose import fused_by
    from gpu_tasks.models.linears.prepacked import can_prepack

    device, options = torch.device(device_name(job)), job.options
    if options.device_class == "cpu":
        return "oneDNN" if can_prepack(device, getattr(torch, options.dtype)) else None
    return None if options.kernels == "plain" else fused_by(device)


def refuse_other_kind(job: Job, directory: JobDir) -> None:
    """Raises OtherKind where the job is for one kind, which is fixed, and not this worker's."""
    if job.run.one_kind and (fixed := _fixed_kind(directory)) is not None:
        _require_same(fixed, kind_here(job))


def fix_kind(job: Job, directory: JobDir) -> Kind:
    """Make this worker's kind the job's, unless that is fixed; answers it.

    For the holder of a lease, before it computes.

    Raises:
        OtherKind: the job's kind is not this worker's.
    """
    ours = kind_here(job)
    if create_durably(directory.kind, ours.encode()):
        log.info("kind fixed job=%s: %s", job.job_id, ours)
    _require_same(_fixed_kind(directory), ours)
    return ours


def _fixed_kind(directory: JobDir) -> Kind | None:
    try:
        return Kind.decode(directory.kind.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Damage(f"{directory.kind}: not readable ({error}); embed again with --overwrite") from None


def _require_same(fixed: Kind | None, ours: Kind) -> None:
    if fixed != ours:
        raise OtherKind(
            f"--one-kind: the job was begun on {fixed}, and this worker is {ours}; start a worker of that "
            "kind, or embed again with --overwrite"
        )
