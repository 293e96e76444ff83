"""Whose a failure is: the host's, the shard's or the job's. The one place where that is told.

A host's failure costs a shard no attempt: another host may do it as it stands. Where a kind of failure can be
both, it counts as the host's: when no host can, all of them say so, and the job ends with their reason.
"""

from enum import StrEnum

from checkpoint import (
    AlreadyOpen,
    DiskFailed,
    NetworkFileSystem,
    NewerFormat,
    OwnerAlive,
    WrongJob,
)
from checkpoint import DiskFull as StoreFull
from gpu_tasks.errors import (
    DeviceUnavailable,
    JobHopeless,
    ModelLoadError,
    ModelTooLarge,
    NotCertified,
    NumericsDeviate,
    OtherKind,
)
from gpu_tasks.inference.device_errors import fault_of
from queue_app.errors import Damage, DiskFull, JobNotFound, ModelError, OtherVersion
from queue_app.host.limits import LimitTooLow, is_thread_refused
from queue_app.host.own_files import NotOurs

NO_ROOM_ON_DISK = (StoreFull, DiskFull)
STORE_NOT_HERE = (DiskFailed, NetworkFileSystem, OwnerAlive, AlreadyOpen)
OTHER_SOFTWARE = (WrongJob, NewerFormat, OtherVersion, ImportError)
"""A store that another version, or another plan of the same shard, has left on this host's scratch."""
MODEL_OR_DEVICE = (
    ModelError,
    ModelLoadError,
    ModelTooLarge,
    DeviceUnavailable,
    NumericsDeviate,
    OtherKind,
    NotCertified,
)
OF_THE_HOST = (
    *NO_ROOM_ON_DISK, *STORE_NOT_HERE, *OTHER_SOFTWARE, *MODEL_OR_DEVICE, JobNotFound, NotOurs, LimitTooLow
)  # fmt: skip


class Whose(StrEnum):
    """Who is to blame, and so what an attempt costs."""

    HOST = "host"
    """Its disk, rights, limits, memory, device, model or view of the job: the shard goes back unspent."""
    SHARD = "shard"
    """Nothing of the host explains it: the shard has spent an attempt."""
    JOB = "job"
    """No other attempt would find better data."""


def whose(error: BaseException) -> Whose:
    """Whose failure an error is that was raised while a shard was computed."""
    if isinstance(error, Damage | JobHopeless):
        return Whose.JOB
    is_hosts = isinstance(error, OF_THE_HOST) or fault_of(error) is not None or _is_systems(error)
    return Whose.HOST if is_hosts else Whose.SHARD


def may_pass(error: BaseException) -> bool:
    """True of what often mends itself: a disk that is full, a file system that is away."""
    return isinstance(error, (*NO_ROOM_ON_DISK, DiskFailed, JobNotFound)) or _is_systems(error)


def _is_systems(error: BaseException) -> bool:
    """What the operating system refused. Libraries raise OSError of broken content too, without a number."""
    if isinstance(error, OSError):
        return error.errno is not None
    return isinstance(error, RuntimeError) and is_thread_refused(error)
