"""A Triton kernel compiled for one device, and launched without Triton's runtime.

Triton's own launcher is a C module that it compiles where it runs, with the user's compiler and Python's
headers; a server or a slim container has neither. What `torch.compile` launches its kernels by (since torch
2.8) needs neither, and takes the host under a microsecond, where an operation of torch's takes several.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import torch
from torch import Tensor

from gpu_tasks.errors import DeviceUnavailable, first_line

log = logging.getLogger(__name__)

Grid = tuple[int, int, int]
Launch = Callable[..., None]
"""Is given a grid and the kernel's arguments, tensors and integers, in their order; waits for nothing."""
Types: TypeAlias = Mapping[str, torch.dtype | type[int]]
"""Of each argument that is no constant: int, or a dtype for a tensor at a multiple of 16 bytes."""

_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.int32: "i32"}
_STAGES, _WARP = 1, 32
_NO_SCRATCH = (None, None)
"""Stands behind the arguments of every kernel of Triton's: pointers to memory that ours never want."""
_ALIGNED = [["tt.divisibility", 16]]


def compiled(
    kernel: Any, types: Types, constants: Mapping[str, object], num_warps: int, device: torch.device
) -> Launch:
    """Compile a function of `jitted` and load it onto the device.

    Raises DeviceUnavailable, which says why, where this torch, Triton or device cannot.
    """
    try:
        from torch._C import _StaticCudaLauncher as launcher
    except ImportError as error:
        raise DeviceUnavailable(f"no fused kernels before torch 2.8: {error}") from None
    index, stream_of = device.index or 0, torch._C._cuda_getCurrentRawStream
    try:
        # Code is loaded into the context of the current device, whatever the index says.
        with somewhere_to_write(), torch.cuda.device(index):
            binary = compile_for(
                torch.cuda.get_device_capability(device), kernel, types, constants, num_warps
            )
            path, shared = cubin_of(binary), binary.metadata.shared
            *_, function, _, _ = launcher._load_kernel(path, kernel.__name__, shared, index)
    except Exception as error:  # Triton's, its assembler's or the driver's: of whatever class
        why = first_line(error)
        raise DeviceUnavailable(
            f"the kernel {kernel.__name__} cannot be had ({why}); [kernels plain]"
        ) from None
    letters = "".join("i" if kind is int else "O" for kind in types.values()) + "OO"

    def launch(grid: Grid, *arguments: Tensor | int) -> None:
        values = [each if isinstance(each, int) else each.data_ptr() for each in arguments]
        packed = (*values, *_NO_SCRATCH)
        launcher._launch_kernel(function, *grid, num_warps, shared, letters, packed, stream_of(index))

    return launch


def compile_for(
    capability: tuple[int, int], kernel: Any, types: Types, constants: Mapping[str, object], num_warps: int
) -> Any:
    """Compile for a device of this compute capability; needs none. Answers Triton's CompiledKernel."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.compiler import compile as compile_source

    signature = {name: _name(types[name]) if name in types else "constexpr" for name in kernel.arg_names}
    aligned = {(at,): _ALIGNED for at, kind in enumerate(signature.values()) if kind.startswith("*")}
    # Fusing is Triton's default, and will not be: what it does to a bit is not to change with its version.
    options = {"num_warps": num_warps, "num_stages": _STAGES, "enable_fp_fusion": True}
    target = GPUTarget("cuda", 10 * capability[0] + capability[1], _WARP)
    return compile_source(ASTSource(kernel, signature, constants, aligned), target=target, options=options)


@contextmanager
def somewhere_to_write() -> Iterator[None]:
    """Triton hands code over by files only: where it cannot write its cache, it gets a folder for the while.

    A container's user often has no home that is its own.
    """
    from triton import knobs

    with _one_at_a_time:
        if _can_write(knobs.cache.dir):
            yield
            return
        with knobs.cache.scope(), tempfile.TemporaryDirectory(prefix="kernels-") as folder:
            knobs.cache.dir = folder
            yield


_one_at_a_time = Lock()
"""Where Triton's cache lies belongs to the whole process."""


@cache
def _can_write(folder: str) -> bool:
    """That it cannot is logged once."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        log.warning(
            "every process compiles its kernels anew: Triton's cache %s cannot be written (%s); "
            "let TRITON_CACHE_DIR name a folder that can", folder, error.strerror,
        )  # fmt: skip
        return False
    return True


def cubin_of(binary: Any) -> str:
    """Where the code lies, in Triton's cache. Raises ValueError where it wants what none of ours does."""
    metadata = binary.metadata
    if metadata.global_scratch_size or metadata.profile_scratch_size or metadata.num_ctas != 1:
        raise ValueError("Triton compiled it to want scratch memory or a cluster")
    return next(str(path) for path in binary.metadata_group.values() if path.endswith(".cubin"))


def _name(kind: torch.dtype | type[int]) -> str:
    """As Triton writes the type of an argument."""
    return f"*{_NAMES[kind]}" if isinstance(kind, torch.dtype) else "i32"
