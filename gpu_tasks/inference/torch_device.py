"""Torch devices: how tokens get to them, and how vectors come back.

On CUDA there are three streams: copies in, compute, copies out. All computing happens on one stream, so
that kernels run in one order and cuBLAS keeps one workspace; events tie the streams together.
Pinned memory comes from torch's caching host allocator, which hands a block out again only after the
copies that used it: with a bounded number of batches under way, that is a bounded ring of buffers.
Each of the three stations is an NVTX range, for Nsight Systems, and is timed by events.
"""

import logging
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial, wraps
from pathlib import Path
from time import perf_counter
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from gpu_tasks.errors import DeviceUnavailable, OutOfMemory
from gpu_tasks.inference.device_errors import Fault, fault_of
from gpu_tasks.inference.model import DeviceSeconds, Fetched, HostPending
from gpu_tasks.inference.numerics import fixed_numerics, refuse_environment
from gpu_tasks.inference.rows import Int64s

log = logging.getLogger(__name__)

P = ParamSpec("P")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """What a computation leaves on the device: vectors [n, dim] and bool[n]."""

    embeddings: Tensor
    finite: Tensor


Compute = Callable[[Tensor], Outputs]


def _gives_back(function: Callable[P, Answer]) -> Callable[P, Answer]:
    """Raises OutOfMemory where there is no room, once all is given back that was held until then."""

    @wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> Answer:
        try:
            return function(*arguments, **options)
        except Exception as error:
            if fault_of(error) is not Fault.NO_ROOM:
                raise
            message = str(error)
        # Only outside the handler: until then the traceback keeps the activations alive.
        torch.cuda.empty_cache()
        raise OutOfMemory(message)

    return call


def open_device(name: str, threads: int | None = None) -> "TorchDevice":
    """Open `cpu`, `cuda` or `cuda:N`; on the CPU with so many of torch's compute threads; None: all it has.

    Raises:
        DeviceUnavailable: there is no such device, or the environment would change its vectors.
    """
    if name == "cpu":
        return CpuDevice(torch.device("cpu"), threads)
    return _open_cuda(_cuda_index(name))


def _cuda_index(name: str) -> int:
    """Of `cuda` or `cuda:N`. Raises DeviceUnavailable when there is no such device."""
    kind, _, index = name.partition(":")
    if kind != "cuda" or not (index or "0").isdecimal():
        raise DeviceUnavailable(f"device {name!r}: write cpu, cuda or cuda:N")
    if not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count():
        raise DeviceUnavailable(f"device {name}: torch sees {torch.cuda.device_count()} CUDA devices")
    return int(index or 0)


def gpu_name(name: str) -> str:
    """What its maker calls `cuda` or `cuda:N`. Raises DeviceUnavailable when there is no such device."""
    return str(torch.cuda.get_device_name(_cuda_index(name)))


def instruction_set() -> str:
    """The one that torch's own kernels use on this processor, such as AVX512."""
    return str(torch.backends.cpu.get_cpu_capability())


def hardware_id(name: str) -> str:
    """The device behind `cpu`, `cuda` or `cuda:N`: the same for all workers on it, in whatever container."""
    if name == "cpu":
        boot_id = Path("/proc/sys/kernel/random/boot_id")
        return f"cpu-{boot_id.read_text().strip() if boot_id.exists() else platform.node()}"
    return f"GPU-{torch.cuda.get_device_properties(name).uuid}"


@dataclass(frozen=True, slots=True, eq=False)
class CpuDevice:
    """The host: copies are free and nothing overlaps. `threads` None: as many as torch has."""

    device: torch.device
    threads: int | None = None
    lookahead: int = 0

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Whoever computes here does so within this, and leaves the process as it was."""
        with fixed_numerics(self.device), _compute_threads(self.threads):
            yield

    def upload(self, array: Int64s) -> "CpuUpload":
        return CpuUpload(self, torch.from_numpy(array))

    def settle(self) -> None:
        """Nothing is ever under way."""


@dataclass(frozen=True, slots=True, eq=False)
class CpuUpload:
    on: CpuDevice
    tensor: Tensor

    @_gives_back
    def compute(self, function: Compute) -> HostPending:
        started = perf_counter()
        with self.on.computing(), torch.inference_mode():
            outputs = function(self.tensor)
        seconds = DeviceSeconds(compute=perf_counter() - started)
        return HostPending(Fetched(outputs.embeddings.numpy(), outputs.finite.numpy(), seconds))


@dataclass(frozen=True, slots=True, eq=False)
class CudaDevice:
    """One CUDA device and its three streams. `lookahead` as in EmbeddingModel."""

    device: torch.device
    copy_in: torch.cuda.Stream
    compute: torch.cuda.Stream
    copy_out: torch.cuda.Stream
    lookahead: int = 1

    @contextmanager
    def computing(self) -> Iterator[None]:
        """As on the host; and this device is the current one."""
        with fixed_numerics(self.device):
            yield

    @_gives_back
    def upload(self, array: Int64s) -> "CudaUpload":
        with torch.cuda.device(self.device):
            host = _pinned(torch.from_numpy(array).pin_memory, lambda: torch.from_numpy(array))
            with _station("copy in", self.copy_in) as span:
                tensor = host.to(self.device, non_blocking=True)
        return CudaUpload(self, tensor, span)

    def settle(self) -> None:
        """Wait until all that was copied while loading a model has arrived."""
        torch.cuda.synchronize(self.device)


@dataclass(frozen=True, slots=True, eq=False)
class CudaUpload:
    """An int64 array on its way to the device."""

    on: CudaDevice
    tensor: Tensor
    copy_in: "Span"

    @_gives_back
    def compute(self, function: Compute) -> "CudaPending":
        """Start `function` on the array, and the copy of its outputs back to the host."""
        with self.on.computing():
            return self._copy_out(*self._compute(function))

    def _compute(self, function: Compute) -> tuple[Outputs, "Span"]:
        self.on.compute.wait_event(self.copy_in.end)
        with torch.inference_mode(), _station("compute", self.on.compute) as span:
            # The allocator must not reuse memory of one stream while another still reads it.
            self.tensor.record_stream(self.on.compute)
            outputs = function(self.tensor)
        return outputs, span

    def _copy_out(self, outputs: Outputs, compute: "Span") -> "CudaPending":
        self.on.copy_out.wait_event(compute.end)
        with torch.inference_mode(), _station("copy out", self.on.copy_out) as span:
            embeddings, finite = (_to_host(part) for part in (outputs.embeddings, outputs.finite))
        outputs.embeddings.record_stream(self.on.copy_out)
        outputs.finite.record_stream(self.on.copy_out)
        return CudaPending(embeddings, finite, (self.copy_in, compute, span))


@dataclass(frozen=True, slots=True, eq=False)
class CudaPending:
    embeddings: Tensor
    finite: Tensor
    spans: tuple["Span", "Span", "Span"]

    def wait(self) -> Fetched:
        *_, copy_out = self.spans
        copy_out.end.synchronize()
        seconds = DeviceSeconds(*(span.seconds for span in self.spans))
        # Copied, so that the pinned blocks go back to the ring however long the caller keeps its result.
        return Fetched(self.embeddings.numpy().copy(), self.finite.numpy().copy(), seconds)


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """A stretch of one stream's work."""

    start: torch.cuda.Event
    end: torch.cuda.Event

    @property
    def seconds(self) -> float:
        """Only once `end` has been reached."""
        milliseconds: float = self.start.elapsed_time(self.end)
        return milliseconds / 1000


TorchDevice = CpuDevice | CudaDevice
"""Where a model lives."""
Upload = CpuUpload | CudaUpload


@contextmanager
def _station(name: str, stream: torch.cuda.Stream) -> Iterator[Span]:
    """Queue work on a stream, between two events."""
    span = Span(_event(), _event())
    with torch.cuda.nvtx.range(f"holdfast {name}"), torch.cuda.stream(stream):
        span.start.record(stream)
        yield span
        span.end.record(stream)


def _event() -> torch.cuda.Event:
    # A blocking event sleeps where the default one spins: the core belongs to the writer.
    return torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]


def _open_cuda(index: int) -> CudaDevice:
    refuse_environment()
    device = torch.device("cuda", index)
    copy_in, compute, copy_out = (torch.cuda.Stream(device) for _ in range(3))  # type: ignore[no-untyped-call]
    return CudaDevice(device, copy_in=copy_in, compute=compute, copy_out=copy_out)


@contextmanager
def _compute_threads(number: int | None) -> Iterator[None]:
    """The number belongs to the calling thread as well as to the process: it is set by whoever computes."""
    before = torch.get_num_threads()
    if number in (None, before):
        yield
        return
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _to_host(tensor: Tensor) -> Tensor:
    empty = partial(torch.empty, tensor.shape, dtype=tensor.dtype)
    return _pinned(partial(empty, pin_memory=True), empty).copy_(tensor, non_blocking=True)


def _pinned(pin: Callable[[], Tensor], do_without: Callable[[], Tensor]) -> Tensor:
    """Host memory that copies need not wait for. Where the system gives none, that which they wait for: no
    batch is too large for it, and no record is to blame."""
    try:
        return pin()
    except Exception as error:
        if fault_of(error) is not Fault.NO_ROOM:
            raise
        _warn_unpinned(str(error).splitlines()[0])
        return do_without()


@cache
def _warn_unpinned(why: str) -> None:
    log.warning("no pinned memory, so that copies are waited for: %s", why)
