"""What a worker's GPU is at, read by a thread of its child into memory that the parent shares.

The parent never asks: the driver's library would be forked with its locks, and a driver that hangs would hang
whoever waits for it. Nothing waits for this thread.
"""

import math
import mmap
import struct
import threading
import time
from collections.abc import Callable

from queue_app.host.gpu_load import GpuLoad, gpu_load

READ_SECONDS = 3.0
STALE_SECONDS = 15.0
"""What was read so long ago is not told any more."""
_READING = struct.Struct("<dddd")  # when (monotonic), share, memory taken, memory; NaN: not known


class GpuGauge:
    """Make it before the fork; the child reads, and whoever shares the memory is told."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory = mmap.mmap(-1, _READING.size)
        self._clock = clock
        self._device = ""
        self._is_other = threading.Event()
        self.note(None)

    def start(self, device: str) -> None:
        """Read from now on, every few seconds. `device` as CUDA_VISIBLE_DEVICES names it."""
        self._device = device
        threading.Thread(target=self._read_on, name="gpu gauge", daemon=True).start()

    def identify(self, uuid: str) -> None:
        """Read the device that CUDA computes on: the driver may number those of a host otherwise."""
        if uuid != self._device:
            self._device = uuid
            self.note(None)
            self._is_other.set()

    def _read_on(self) -> None:
        while True:
            self.note(gpu_load(self._device))
            self._is_other.wait(READ_SECONDS)
            self._is_other.clear()

    def note(self, load: GpuLoad | None) -> None:
        """The child's last reading; None: it could read nothing."""
        read_at = -math.inf if load is None else self._clock()
        told = (load.share, load.memory_bytes, load.memory_total_bytes) if load else (None, None, None)
        _READING.pack_into(self._memory, 0, read_at, *(math.nan if each is None else each for each in told))

    def load(self) -> GpuLoad | None:
        """None without a driver, without a child, and while the driver does not answer."""
        read_at, share, used, total = _READING.unpack_from(self._memory)
        if self._clock() - read_at > STALE_SECONDS:
            return None
        return GpuLoad(
            share=None if math.isnan(share) else share,
            memory_bytes=None if math.isnan(used) else int(used),
            memory_total_bytes=None if math.isnan(total) else int(total),
        )
