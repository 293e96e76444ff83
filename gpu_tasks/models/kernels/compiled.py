"""A Triton kernel compiled for one device, and launched without Triton's runtime.

Triton's own launcher is a C module that it compiles where it runs, with the user's compiler and Python's
headers; a server or a slim container has neither. What `torch.compile` launches its kernels by (since torch
2.8) needs neither, and takes the host under a microsecond, where an operation of torch's takes several.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from gpu_tasks.errors import DeviceUnavailable, first_line

Grid = tuple[int, int, int]
Launch = Callable[..., None]
"""Is given a grid and the kernel's arguments, tensors and integers, in their order; waits for nothing."""
Types: TypeAlias = Mapping[str, torch.dtype | type[int]]
"""Of each argument that is no constant: int, or the dtype of a tensor that begins at a multiple of 16 bytes."""

_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.int32: "i32"}
_STAGES = 1
_ALIGNED = [["tt.divisibility", 16]]


def compiled(
    kernel: Any, types: Types, constants: Mapping[str, object], num_warps: int, device: torch.device
) -> Launch:
    """Compile a function of `jitted` and load it onto the device.

    Raises DeviceUnavailable, which says why, where this torch, Triton or device cannot.
    """
    try:
        from torch._C import _StaticCudaLauncher as launcher
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource  # fmt: skip
        from triton.compiler import compile as compile_kernel
    except ImportError as error:
        raise DeviceUnavailable(f"no kernels without Triton, and torch 2.8 or later: {error}") from None
    major, minor = torch.cuda.get_device_capability(device)
    signature = {name: _name(types[name]) if name in types else "constexpr" for name in kernel.arg_names}
    aligned = {(at,): _ALIGNED for at, kind in enumerate(signature.values()) if kind.startswith("*")}
    # Fusing is Triton's default, and will not be: what it does to a bit is not to change with its version.
    options = {"num_warps": num_warps, "num_stages": _STAGES, "enable_fp_fusion": True}
    try:
        source = ASTSource(kernel, signature, constants, aligned)
        binary = compile_kernel(source, target=GPUTarget("cuda", 10 * major + minor, 32), options=options)
        path = next(path for path in binary.metadata_group.values() if path.endswith(".cubin"))
        shared = binary.metadata.shared
        *_, function, _, _ = launcher._load_kernel(path, kernel.__name__, shared, device.index or 0)
    except Exception as error:  # Triton's, its assembler's or the driver's: of whatever class
        raise DeviceUnavailable(
            f"the kernel {kernel.__name__} cannot be compiled: {first_line(error)}"
        ) from None
    # Two more pointers stand behind a kernel's own arguments; with nothing behind them in ours.
    letters = "".join("i" if kind is int else "O" for kind in types.values()) + "OO"
    stream_of, index = torch._C._cuda_getCurrentRawStream, device.index or 0

    def launch(grid: Grid, *arguments: Tensor | int) -> None:
        values = [each if isinstance(each, int) else each.data_ptr() for each in arguments]
        packed = (*values, None, None)
        launcher._launch_kernel(function, *grid, num_warps, shared, letters, packed, stream_of(index))

    return launch


def _name(kind: torch.dtype | type[int]) -> str:
    """As Triton writes the type of an argument."""
    return f"*{_NAMES[kind]}" if isinstance(kind, torch.dtype) else "i32"
