"""The stand-in as the parts see it: what was queued on it since the last reset, and what it pretends."""

import ctypes
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a part saw, and whether it is as promised; None: it was not looked at."""

    holds: bool | None
    text: str


@dataclass(slots=True)
class Recorded:
    """`kernels` and `calls` by name, and how often; `log` is both in their order, with bytes of copies."""

    kernels: dict[str, int] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    @property
    def num_kernels(self) -> int:
        return sum(self.kernels.values())


class Standin:
    """The one pretended device of this process."""

    def __init__(self) -> None:
        self._runtime = ctypes.CDLL(f"libcudart.so.{(torch.version.cuda or '').partition('.')[0]}")

    @contextmanager
    def pretending(self, **settings: float) -> Iterator[None]:
        """`total_gb` of memory, `copy_delay_us`, `kernel_us`, `scale` of all times; `hostalloc_fail` 1: no
        pinned memory."""
        usual = {
            "total_gb": 139.7,
            "copy_delay_us": 8.0,
            "kernel_us": 3.0,
            "scale": 1.0,
            "hostalloc_fail": 0.0,
        }
        for name, value in settings.items():
            self._runtime.standin_set(name.encode(), ctypes.c_double(value))
        try:
            yield
        finally:
            for name in settings:
                self._runtime.standin_set(name.encode(), ctypes.c_double(usual[name]))

    @contextmanager
    def recording(self) -> Iterator[Recorded]:
        """What is queued within the block; filled when it ends."""
        torch.cuda.synchronize()
        self._runtime.standin_reset()
        self._runtime.standin_record(1)
        recorded = Recorded()
        yield recorded
        self._runtime.standin_record(0)
        torch.cuda.synchronize()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "dump"
            self._runtime.standin_dump(str(path).encode())
            self._read(path.read_text().splitlines(), recorded)

    def _read(self, lines: list[str], recorded: Recorded) -> None:
        kernels = {}
        for line in lines:
            kind, *fields = line.split("\t")
            if kind == "K":
                kernels[fields[2]] = int(fields[0])
            elif kind == "C":
                recorded.calls[fields[1]] = int(fields[0])
            elif kind == "L":
                recorded.log.append(fields[0])
        for name, count in zip(_readable(list(kernels)), kernels.values(), strict=True):
            recorded.kernels[name] = recorded.kernels.get(name, 0) + count


def _readable(names: list[str]) -> list[str]:
    """As C++ writes them."""
    told = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return told.stdout.splitlines()
