"""Every switch of torch that can change a bit of a vector, and how it stands while we compute.

They belong to the whole process, which may be somebody else's: each is put back when the last that computes
leaves. What the environment said of them is overridden; what it says and no call can take back is refused.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from threading import Lock
from typing import Any

import torch

from gpu_tasks.errors import DeviceUnavailable

WORKSPACE_BYTES = 32 << 20
"""What cuBLAS and cuBLASLt may use beside their operands, which decides between their kernels. As NVIDIA
recommends for Hopper: https://docs.nvidia.com/cuda/cublas/#cublassetworkspace"""
WORKSPACE_VARIABLES = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "CUBLASLT_WORKSPACE_SIZE": "32768"}
"""The same, for a torch that only reads it from the environment. In blocks of KiB, and in KiB."""
SWITCHES: tuple[tuple[str, str, Any], ...] = (
    # Memory that is about to be written needs no filling.
    ("_get_deterministic_fill_uninitialized_memory", "_set_deterministic_fill_uninitialized_memory", False),
    ("_get_cudnn_enabled", "_set_cudnn_enabled", True),
    ("_get_cudnn_deterministic", "_set_cudnn_deterministic", True),
    ("_get_cudnn_benchmark", "_set_cudnn_benchmark", False),
    # Sums of products in float32, by cuBLAS, on the whole device.
    ("_get_cublas_allow_fp16_accumulation", "_set_cublas_allow_fp16_accumulation", False),
    ("_get_blas_preferred_backend", "_set_blas_preferred_backend", torch._C._BlasBackend.Cublas),
    ("_get_linalg_preferred_backend", "_set_linalg_preferred_backend", torch._C._LinalgBackend.Default),
    ("_get_sm_carveout_experimental", "_set_sm_carveout_experimental", None),
    # scaled_dot_product_attention: Flash where it can, else the memory-efficient one, else the plain one.
    ("_get_flash_sdp_enabled", "_set_sdp_use_flash", True),
    ("_get_mem_efficient_sdp_enabled", "_set_sdp_use_mem_efficient", True),
    ("_get_math_sdp_enabled", "_set_sdp_use_math", True),
    ("_get_cudnn_sdp_enabled", "_set_sdp_use_cudnn", False),
    ("_get_fa3_sdp_enabled", "_set_sdp_use_fa3", False),
    ("_get_math_sdp_allow_fp16_bf16_reduction", "_set_math_sdp_allow_fp16_bf16_reduction", False),
    ("_get_sdp_priority_order", "_set_sdp_priority_order", [1, 2, 0, 3, 4]),
)
"""On CUDA: torch's own reader and writer, and the value. An older torch has fewer of them. The last one holds
numbers of torch.nn.attention.SDPBackend."""
HARMLESS: dict[str, tuple[str, ...]] = {
    "NVIDIA_TF32_OVERRIDE": ("0",),
    "DISABLE_ADDMM_CUDA_LT": ("0",),
    "TORCH_LINEAR_FLATTEN_3D": ("0",),
    "PYTORCH_TUNABLEOP_ENABLED": ("0",),
    "CUBLAS_EMULATE_SINGLE_PRECISION": ("0",),
    "CUBLAS_EMULATION_STRATEGY": ("default", "performant"),
    "CUDA_FORCE_PTX_JIT": ("0",),
    # Of Triton, which compiles our own kernels.
    "DISABLE_PTXAS_OPT": ("0",),
    "PTXAS_OPTIONS": (),
    "TRITON_KERNEL_OVERRIDE": ("0",),
    "TRITON_OVERRIDE_ARCH": (),
}
"""Variables that a library reads once, at its start, and the values of each that change no vector."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One switch of the process. `name` is torch's own, `fixed` how it stands while we compute."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    fixed: Any


@contextmanager
def fixed_numerics(device: torch.device) -> Iterator[None]:
    """Computing for `device` within this block gives the bits that it gives everywhere."""
    with ExitStack() as stack:
        stack.enter_context(everywhere().held())
        if device.type == "cuda":
            stack.enter_context(on_cuda().held())
            stack.enter_context(torch.cuda.device(device))
        # Of this thread alone: somebody's autocast would compute our float32 in another dtype.
        stack.enter_context(torch.autocast(device.type, enabled=False))
        yield


def refuse_environment() -> None:
    """Raises DeviceUnavailable for a variable that changes vectors and can no longer be overridden."""
    harmless = HARMLESS
    if not _offers_workspaces():
        harmless = HARMLESS | {name: (value,) for name, value in WORKSPACE_VARIABLES.items()}
    for name, values in harmless.items():
        given = os.environ.get(name, "")
        if given and given not in values:
            raise DeviceUnavailable(
                f"{name}={given[:40]!r} in the environment changes the vectors of a CUDA device, and is read "
                "before anything could override it: unset it, and start again"
            )


@dataclass(slots=True)
class Fixed:
    """Settings that several may hold at once: the first to come writes them, the last puts them back."""

    settings: Sequence[Setting]
    _lock: Lock = field(default_factory=Lock, init=False)
    _holders: int = field(default=0, init=False)
    _before: ExitStack = field(default_factory=ExitStack, init=False)

    @contextmanager
    def held(self) -> Iterator[None]:
        with self._lock:
            if not self._holders:
                self._fix()
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if not self._holders:
                    self._before.close()

    def _fix(self) -> None:
        with ExitStack() as undo:
            for setting in self.settings:
                before = setting.read()
                if before != setting.fixed:
                    setting.write(setting.fixed)
                    undo.callback(setting.write, before)
            self._before = undo.pop_all()


@cache
def everywhere() -> Fixed:
    """What is fixed on every device."""
    return Fixed(_precisions())


@cache
def on_cuda() -> Fixed:
    """What is fixed on a CUDA device."""
    named = (_switch(*names) for names in SWITCHES)
    return Fixed([_determinism(), *(each for each in named if each), *_reductions(), *_workspaces()])


def _precisions() -> list[Setting]:
    """No product of float32 in TF32 or bfloat16.

    Since torch 2.9 each library has a switch for each operation, and the older one for all of them cannot be
    read while they disagree with it. So they are fixed before it, and once more behind it: it writes to them.
    """
    older = Setting(
        "float32_matmul_precision",
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest",
    )  # fmt: skip
    read = getattr(torch._C, "_get_fp32_precision_getter", None)
    if read is None:
        return [older]
    operations = [(library, each) for library in ("cuda", "mkldnn") for each in ("matmul", "conv", "rnn")]
    newer = [
        Setting(
            f"{' '.join(each)} fp32_precision", partial(read, *each), partial(_write_precision, *each), "ieee"
        )
        for each in operations
    ]
    return [*newer, older, *newer]


def _write_precision(library: str, operation: str, wanted: str) -> None:
    """An operation that only inherited its precision goes on inheriting it."""
    write = partial(torch._C._set_fp32_precision_setter, library, operation)
    write("none")
    if wanted == "ieee" or torch._C._get_fp32_precision_getter(library, operation) != wanted:
        write(wanted)


def _switch(reader: str, writer: str, fixed: Any) -> Setting | None:
    """None where this torch has no such switch."""
    read, write = getattr(torch._C, reader, None), getattr(torch._C, writer, None)
    return Setting(reader.removeprefix("_get_"), read, write, fixed) if read and write else None


def _determinism() -> Setting:
    def read() -> tuple[bool, bool]:
        warns_only = torch.is_deterministic_algorithms_warn_only_enabled()
        return torch.are_deterministic_algorithms_enabled(), warns_only

    def write(wanted: tuple[bool, bool]) -> None:
        torch.use_deterministic_algorithms(wanted[0], warn_only=wanted[1])

    return Setting("use_deterministic_algorithms", read, write, (True, False))


def _reductions() -> Iterator[Setting]:
    """The parts of a sum are added in float32. That a sum may have parts stays, where torch asks for it."""
    for dtype in ("fp16", "bf16"):
        stem = f"cublas_allow_{dtype}_reduced_precision_reduction"
        found = _switch(f"_get_{stem}", f"_set_{stem}", False)
        if found is not None and isinstance(found.read(), tuple):
            yield replace(found, write=partial(_write_pair, found.write), fixed=(False, True))
        elif found is not None:
            yield found


def _write_pair(write: Callable[..., object], pair: tuple[bool, bool]) -> None:
    write(*pair)


def _workspaces() -> list[Setting]:
    """cuBLASLt's lies within the other, where torch shares them: so it comes second."""
    if _offers_workspaces():
        cuda = torch.backends.cuda
        sizes = {"cublas": cuda.cublas_workspace_size, "cublaslt": cuda.cublaslt_workspace_size}
        return [
            Setting(f"{name}_workspace_size", call, call, WORKSPACE_BYTES) for name, call in sizes.items()
        ]
    return [
        Setting(name, partial(os.environ.get, name), partial(_write_variable, name), value)
        for name, value in WORKSPACE_VARIABLES.items()
    ]


def _offers_workspaces() -> bool:
    """Since torch 2.13, and in builds for CUDA. What is older reads the environment, at its first product."""
    return hasattr(torch._C, "_cuda_setCublasWorkspaceSize")


def _write_variable(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
