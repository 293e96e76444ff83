"""What the processes of a run hold in memory together.

PSS counts a page that n processes share as an n-th in each, so that a sum counts it once. A sum of RSS
counts it n times; it is given beside, as most tools show it.
"""

import contextlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil  # type: ignore[import-untyped]

SAMPLE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes, of one process or of many."""

    pss: int = 0
    rss: int = 0
    anonymous: int = 0
    """Of the PSS what no file backs: the kernel cannot take it back when memory is short."""

    def __add__(self, other: "Held") -> "Held":
        return Held(self.pss + other.pss, self.rss + other.rss, self.anonymous + other.anonymous)

    def most(self, other: "Held") -> "Held":
        """Of each figure the larger one."""
        anonymous = max(self.anonymous, other.anonymous)
        return Held(max(self.pss, other.pss), max(self.rss, other.rss), anonymous)


def held_by(pid: int) -> Held:
    """What a process holds; nothing when it is gone, or not ours to look at."""
    figures = {}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, size, _ = line.split()
            figures[name] = int(size) << 10
    return Held(figures.get("Pss:", 0), figures.get("Rss:", 0), figures.get("Pss_Anon:", 0))


def held_by_all(pids: Iterable[int]) -> Held:
    return sum(map(held_by, pids), Held())


class MemorySampler:
    """Samples all descendants of this process while the `with` block runs; `peak` is the most of each sum.

    A sample walks the page tables of every process: some 40 ms for six of them. What is timed is not
    sampled.
    """

    def __init__(self, every_seconds: float = SAMPLE_SECONDS) -> None:
        self.every_seconds = every_seconds
        self.peak = Held()
        self.num_samples = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory-sampler", daemon=True)

    def __enter__(self) -> "MemorySampler":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        ourselves = psutil.Process()
        while not self._ended.wait(self.every_seconds):
            pids = [process.pid for process in ourselves.children(recursive=True)]
            self.peak = self.peak.most(held_by_all(pids))
            self.num_samples += 1
