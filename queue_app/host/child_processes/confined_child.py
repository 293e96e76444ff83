"""What a child process that reads a stranger's bytes may use: so much memory, and so long without a step.

Data, not address space, is limited: a file that is mapped costs nothing, and libraries reserve far more
addresses than they ever use.
"""

import contextlib
import os
import resource
import sys
import time
from pathlib import Path

POOL_OF_MALLOC = {"ARROW_DEFAULT_MEMORY_POOL": "system"}
"""Arrow's other pools keep what was freed, which would count."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}
"""Each thread of a library counts with its stack and its heap, whether it ever runs or not."""


def confine(most_bytes: int, pid: int = 0) -> None:
    """From now on this process, or that of `pid`, gets no more memory than that, and leaves no core behind.

    An allocation beyond it fails, as MemoryError does, where the code that asks can say so. Linux only.
    """
    if sys.platform != "linux":
        return
    for limit, most in ((resource.RLIMIT_DATA, most_bytes), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ProcessLookupError):
            _, hard = resource.prlimit(pid, limit)
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.prlimit(pid, limit, (most, most))


def memory_most() -> int:
    """What this process was confined to."""
    return resource.getrlimit(resource.RLIMIT_DATA)[0]


class Standstill:
    """For how long a process has been computing without reading a byte, or giving a sign.

    Waiting does not count: on a slow disk, or a host with much else to do, a process is slow and not stuck.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.moved()

    def moved(self) -> None:
        """It gave a sign."""
        self._bytes_read, self._cpu_seconds = self._now()
        self._since = time.monotonic()

    def seconds(self) -> float:
        """Of computing, and of the clock: the shorter, as several threads compute more than one second in
        one."""
        bytes_read, cpu_seconds = self._now()
        if bytes_read != self._bytes_read:
            self.moved()
        return min(cpu_seconds - self._cpu_seconds, time.monotonic() - self._since)

    def _now(self) -> tuple[int, float]:
        """Bytes that it has read, and its processor time; by the clock where there is no /proc."""
        home = Path(f"/proc/{self._pid}")
        try:
            fields = (home / "stat").read_text().rsplit(")", 1)[1].split()
            seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            return int((home / "io").read_text().split()[1]), seconds
        except (OSError, IndexError, ValueError):
            return 0, time.monotonic()
