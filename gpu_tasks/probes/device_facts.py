"""What torch says of itself and of the CUDA devices here, as a line of JSON: the child of `holdfast doctor`.

    python -m gpu_tasks.probes.device_facts

Each device computes a little: a driver that only lists its devices is no use.
"""

import json
from dataclasses import asdict, dataclass

import torch

from gpu_tasks.errors import first_line
from gpu_tasks.inference.model import Dtype
from gpu_tasks.models.layers import attend_varlen, choose_attention

HEAD_DIM = 64
"""Of most models; attention kernels are chosen by it, too."""


@dataclass(frozen=True, slots=True)
class CudaFacts:
    """One CUDA device. `flash` names the dtypes in which attention runs over the whole pack."""

    name: str
    memory_bytes: int
    capability: tuple[int, int]
    flash: tuple[Dtype, ...]
    error: str


@dataclass(frozen=True, slots=True)
class TorchFacts:
    """`cuda` is the version that torch was built for, or None; `error` says why it does not start."""

    version: str
    cuda: str | None
    cpu_kernels: str
    devices: tuple[CudaFacts, ...]
    error: str


def main() -> None:
    print(json.dumps(asdict(look())))


def look() -> TorchFacts:
    error = _error_of_cuda() if torch.version.cuda else ""
    return TorchFacts(
        version=torch.__version__,
        cuda=torch.version.cuda,
        cpu_kernels=torch.backends.cpu.get_cpu_capability(),
        devices=() if error else tuple(_device(index) for index in range(torch.cuda.device_count())),
        error=error,
    )


def _error_of_cuda() -> str:
    """Why CUDA does not start; empty when it does."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return first_line(error)
    return ""


def _device(index: int) -> CudaFacts:
    device = torch.device("cuda", index)
    properties = torch.cuda.get_device_properties(device)
    dtypes: tuple[Dtype, ...] = ("bfloat16", "float16")
    return CudaFacts(
        name=properties.name,
        memory_bytes=properties.total_memory,
        capability=(properties.major, properties.minor),
        flash=tuple(dtype for dtype in dtypes if _is_flash(device, dtype)),
        error=_error_of_computing(device),
    )


def _is_flash(device: torch.device, dtype: Dtype) -> bool:
    return choose_attention(device, getattr(torch, dtype), HEAD_DIM) is attend_varlen


def _error_of_computing(device: torch.device) -> str:
    try:
        ones = torch.ones(HEAD_DIM, HEAD_DIM, device=device)
        right = float((ones @ ones).sum()) == HEAD_DIM**3
    except RuntimeError as error:
        return first_line(error)
    return "" if right else "it computes wrong sums"


if __name__ == "__main__":
    main()
