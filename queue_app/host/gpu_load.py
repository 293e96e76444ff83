"""How busy a GPU is, and how full its memory, as the driver tells through NVML.

Without a driver, and for a device that NVML does not show, such as a part of a partitioned GPU in some
containers, nothing is known and nothing goes wrong.
"""

import contextlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


@dataclass(frozen=True, slots=True)
class GpuLoad:
    """`share` of the last moments (NVML: up to a second) in which a kernel ran; memory over all processes."""

    share: float | None
    memory_bytes: int
    memory_total_bytes: int


def gpu_load(device: str) -> GpuLoad | None:
    """The load of a GPU by its UUID, or by NVML's own number, which may not be CUDA's; None where unknown."""
    import pynvml  # a tenth of a second, which no worker on a processor needs to spend

    share = None
    try:
        handle = _handle(device)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        with contextlib.suppress(pynvml.NVMLError):  # a partition of a GPU has no utilisation of its own
            share = int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100
        return GpuLoad(share, int(memory.used), int(memory.total))
    except pynvml.NVMLError:
        return None


@lru_cache(maxsize=1)
def _handle(device: str) -> Any:
    import pynvml

    pynvml.nvmlInit()
    if device.isdecimal():
        return pynvml.nvmlDeviceGetHandleByIndex(int(device))
    return pynvml.nvmlDeviceGetHandleByUUID(device)
