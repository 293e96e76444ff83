"""How busy this process's GPU is, and how full its memory, as the driver tells through NVML.

Without a driver, and for a device that NVML does not show, such as a part of a partitioned GPU in some
containers, nothing is known and nothing goes wrong.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import pynvml


@dataclass(frozen=True, slots=True)
class GpuLoad:
    """`share` of the last moments (NVML: up to a second) in which a kernel ran; memory over all processes."""

    share: float | None
    memory_bytes: int
    memory_total_bytes: int


def gpu_load() -> GpuLoad | None:
    """Of the CUDA device that this process is pinned to; None where it cannot be known."""
    device = _device()
    if device is None:
        return None
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(device)
        return GpuLoad(_share(device), int(memory.used), int(memory.total))
    except pynvml.NVMLError:
        return None


def _share(device: Any) -> float | None:
    try:
        return int(pynvml.nvmlDeviceGetUtilizationRates(device).gpu) / 100
    except pynvml.NVMLError:  # a partition of a GPU has no utilisation of its own
        return None


@cache
def _device() -> Any:
    """NVML's handle, by the device's UUID: CUDA and NVML may number the devices of a host differently."""
    try:
        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetHandleByUUID(_uuid())
    except (pynvml.NVMLError, RuntimeError):
        return None


def _uuid() -> str:
    from gpu_tasks.inference.torch_device import hardware_id

    return hardware_id("cuda:0")
