"""How busy a GPU is, and how full its memory, as the driver tells through NVML; without torch.

Without a driver, and for a device that NVML does not show, such as a part of a partitioned GPU in some
containers, nothing is known and nothing goes wrong. For processes that do not fork: a child would get the
driver's library with its locks as they are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any


@dataclass(frozen=True, slots=True)
class GpuLoad:
    """`share` of the last moments (NVML: up to a second) in which a kernel ran; memory over all processes.

    None is what the driver does not tell of this device: a part of a GPU has no utilisation of its own.
    """

    share: float | None
    memory_bytes: int | None
    memory_total_bytes: int | None


def gpu_load(device: str) -> GpuLoad | None:
    """What is known of a device by its UUID, or by its number, which CUDA may count differently."""
    import pynvml  # a tenth of a second, which no worker on a processor needs to spend

    handle = _handle(device)
    rates = _told(pynvml.nvmlDeviceGetUtilizationRates, handle)
    memory = _told(pynvml.nvmlDeviceGetMemoryInfo, handle)
    if rates is None and memory is None:
        return None
    return GpuLoad(
        share=rates and int(rates.gpu) / 100,
        memory_bytes=memory and int(memory.used),
        memory_total_bytes=memory and int(memory.total),
    )


def gpu_uuid(device: str) -> str | None:
    """The whole UUID of a device by its number, or by the beginning of its UUID, as CUDA takes both."""
    import pynvml

    if (handle := _handle(device)) is not None:
        uuid = _told(pynvml.nvmlDeviceGetUUID, _first_part(handle))
        return uuid and str(uuid)
    known = (gpu_uuid(str(number)) for number in range(_told(lambda _: pynvml.nvmlDeviceGetCount(), 0) or 0))
    found = [uuid for uuid in known if uuid and uuid.startswith(device)]
    return found[0] if len(found) == 1 and not device.isdecimal() else None


def _first_part(handle: Any) -> Any:
    """Of a partitioned GPU (MIG), as that is what CUDA gives to whoever is granted it whole."""
    import pynvml

    mode = _told(pynvml.nvmlDeviceGetMigMode, handle)
    if not mode or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
        return handle
    part = _told(lambda whole: pynvml.nvmlDeviceGetMigDeviceHandleByIndex(whole, 0), handle)
    return handle if part is None else part


def _told(ask: Callable[[Any], Any], about: Any) -> Any:
    import pynvml

    try:
        return None if about is None else ask(about)
    except pynvml.NVMLError:
        return None


@cache
def _handle(device: str) -> Any:
    import pynvml

    try:
        pynvml.nvmlInit()
        if device.isdecimal():
            return pynvml.nvmlDeviceGetHandleByIndex(int(device))
        return pynvml.nvmlDeviceGetHandleByUUID(device)
    except pynvml.NVMLError:
        # torch does not say whether the UUID that it tells is that of a part of a GPU.
        return _handle(f"MIG-{device[4:]}") if device.startswith("GPU-") else None
