"""Our Triton kernels without a device: each program run by Triton's interpreter, in numpy, one after another.

It shows numbers, masks and order, and neither speed nor what a compiler makes of them. Where a device rounds
to a bfloat16, it cuts off: of that dtype a device says more, and the code compiled for one.
"""

import os
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from gpu_tasks.models.kernels.compiled import Grid, Launch
from gpu_tasks.models.kernels.fused import Build

INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"
"""Triton's own library is for the one or for the other, from its import on."""
HAS_TRITON = find_spec("triton") is not None
needs_interpreter = pytest.mark.skipif(
    not (HAS_TRITON and INTERPRETING), reason="needs Triton and TRITON_INTERPRET=1: see CONTRIBUTING.md"
)
needs_compiler = pytest.mark.skipif(
    not HAS_TRITON or INTERPRETING, reason="needs Triton, without TRITON_INTERPRET: see CONTRIBUTING.md"
)


def interpreted(build: Build) -> Launch:
    """What the kernel of a build is launched by, on the processor."""
    from gpu_tasks.models.kernels import jitted

    kernel = getattr(jitted, build.name)

    def launch(grid: Grid, *arguments: Tensor | int) -> None:
        for argument, kind in zip(arguments, build.types.values(), strict=True):
            assert (int if isinstance(argument, int) else argument.dtype) == kind
        kernel[grid](*arguments, **build.constants)

    return launch


def packed_lengths(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32)
