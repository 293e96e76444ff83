"""Whether a model fits: what its weights need, and what memory there is, named where they do not."""

import contextlib
import logging
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gpu_tasks.errors import ModelTooLarge
from gpu_tasks.inference.device_errors import Fault, fault_of, is_hosts

log = logging.getLogger(__name__)

ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
MIB, GIB = 1 << 20, 1 << 30

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Room:
    """Memory in bytes. `of` says whose it is."""

    of: str
    total: int
    free: int

    def __str__(self) -> str:
        return f"{self.of} {_size(self.total)}, of which {_size(self.free)} are free"


def fit(load: Callable[[], Answer], model: str, *, num_parameters: int, dtype: str, device: str) -> Answer:
    """Call `load`, which brings a model's weights to a device, or tries it there.

    Raises:
        ModelTooLarge: the memory of the device, or of the host, does not hold it; names the sizes.
        Exception: whatever else `load` raises.
    """
    try:
        return load()
    except Exception as error:
        if fault_of(error) is not Fault.NO_ROOM:
            raise
        log.warning("no room model=%s: %s: %s", model, type(error).__name__, error)
        on_host = device == "cpu" or is_hosts(error)
    # Outside the handler, whose traceback keeps what was loaded.
    room = min(host_rooms() if on_host else _cuda(device), key=lambda room: room.free, default="it is full")
    raise ModelTooLarge(
        f"{model}: does not fit into the memory: {_needed(num_parameters, dtype)}{room}; "
        + ("give it more, or run fewer workers" if on_host else "use a larger device, or free this one")
        + (", or use --dtype bfloat16" if dtype == "float32" else "")
    )


def _needed(num_parameters: int, dtype: str) -> str:
    if not num_parameters:
        return ""
    needed = _size(num_parameters * ITEM_BYTES[dtype])
    return f"its {num_parameters:,} parameters take {needed} in {dtype}, and batches more; "


def _size(size_bytes: int) -> str:
    return f"{size_bytes / GIB:.1f} GiB" if size_bytes >= GIB else f"{size_bytes / MIB:.1f} MiB"


def host_rooms() -> Iterator[Room]:
    """The host's memory, and what limits set this process there."""
    with contextlib.suppress(OSError, KeyError, ValueError):
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        total, free = (int(lines[name].split()[0]) << 10 for name in ("MemTotal", "MemAvailable"))
        yield Room("this host has", total, free)
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        used = 0
        with contextlib.suppress(OSError, ValueError):
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        yield Room("a process may have (ulimit -v)", limit, max(0, limit - used))
    yield from _cgroups()


def _cgroups() -> Iterator[Room]:
    """That of this process and those that it lies in, of version 2."""
    root = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        here = root / next(line[3:] for line in lines if line.startswith("0::")).strip("/")
        for folder in (here, *here.parents):
            if not folder.is_relative_to(root):
                return
            with contextlib.suppress(OSError, ValueError):  # "max": no limit
                limit = int((folder / "memory.max").read_text())
                used = int((folder / "memory.current").read_text())
                yield Room(f"its cgroup {folder.relative_to(root)} may have", limit, max(0, limit - used))


def _cuda(device: str) -> Iterator[Room]:
    with contextlib.suppress(Exception):  # a device that cannot even say this
        import torch

        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info(device)
        yield Room(f"{device} has", total, free)
