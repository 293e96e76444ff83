"""What the NVIDIA driver says of a worker's GPU: memory and utilisation.

It is asked by nvidia-smi, in a process of its own: the driver's library in the worker's parent would be
forked into the child with its locks, and a driver that hangs would hang the parent.
"""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

ASK_SECONDS = 3.0
KEPT_SECONDS = 5.0
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class GpuFigures:
    """One GPU at one moment; None is what the driver does not tell of this model."""

    memory_used_bytes: float | None
    memory_total_bytes: float | None
    utilization_ratio: float | None


class GpuGauge:
    """Asks about one device, by number or UUID, at most every few seconds."""

    def __init__(self, device: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.device = device
        self._clock = clock
        self._kept: GpuFigures | None = None
        self._asked = float("-inf")

    def read(self) -> GpuFigures | None:
        """None without a driver, or when it does not answer."""
        if self._clock() - self._asked >= KEPT_SECONDS:
            self._asked = self._clock()
            self._kept = ask(self.device)
        return self._kept


def ask(device: str) -> GpuFigures | None:
    fields = "memory.used,memory.total,utilization.gpu"
    command = ["nvidia-smi", f"--id={device}", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS, check=True).stdout
        used, total, percent = (_number(part) for part in told.strip().split(","))
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return GpuFigures(_times(used, MIB), _times(total, MIB), _times(percent, 0.01))


def _number(text: str) -> float | None:
    """`[N/A]` stands where a device does not know."""
    return None if text.strip().startswith("[") else float(text)


def _times(number: float | None, unit: float) -> float | None:
    return None if number is None else number * unit
