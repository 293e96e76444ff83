"""What is wrong with a device, told from whatever torch raises: the one place where its errors are sorted.

By class and error code where there is one. cuBLAS, torch's allocator for the processor and safetensors have
neither: of those the beginning of the message, which has stayed the same over the versions, has to do.
"""

import errno
import sys
from enum import StrEnum

from gpu_tasks.errors import OutOfMemory

CUDA_OUT_OF_MEMORY = 2
"""cudaErrorMemoryAllocation: the one error of CUDA's that leaves the process's context as it was."""
NO_ROOM_SAYS = (
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED",
)
HOST_NO_ROOM_SAYS = ("DefaultCPUAllocator: can't allocate memory", "Cannot allocate memory (os error 12)")
LOST_SAYS = ("CUDA error", "CUDA driver error")


class Fault(StrEnum):
    """What an error says of the device."""

    NO_ROOM = "no room"
    """Its memory, or the host's, does not hold what was asked for. The process can go on."""
    LOST = "lost"
    """The process's context on it is gone: every later call fails, and only a new process helps."""


def fault_of(error: BaseException) -> Fault | None:
    """None: it says nothing of the device."""
    if _is_no_room(error):
        return Fault.NO_ROOM
    # The class has changed from version to version; what it is derived from has not.
    is_cudas = isinstance(error, RuntimeError) and str(error).startswith(LOST_SAYS)
    return Fault.LOST if is_cudas else None


def is_hosts(error: BaseException) -> bool:
    """True when it is the host whose memory does not hold what was asked for."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or any(words in str(error) for words in HOST_NO_ROOM_SAYS)


def _is_no_room(error: BaseException) -> bool:
    if isinstance(error, OutOfMemory) or is_hosts(error):
        return True
    if getattr(error, "error_code", None) == CUDA_OUT_OF_MEMORY or _is_torchs(error):
        return True
    return str(error).startswith(NO_ROOM_SAYS)


def _is_torchs(error: BaseException) -> bool:
    torch = sys.modules.get("torch")  # where it was not imported, it has raised nothing
    return torch is not None and isinstance(error, torch.OutOfMemoryError)
