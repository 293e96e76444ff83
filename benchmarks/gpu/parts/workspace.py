"""Products of the models' shapes, with the workspace that is fixed for cuBLASLt and with one of 1 MiB."""

from collections.abc import Iterator
from unittest.mock import patch

import torch

from benchmarks.common.esm2_shapes import SHAPES
from benchmarks.gpu.check import Check, Found, Value
from gpu_tasks.inference import numerics
from gpu_tasks.inference.torch_device import open_device

SIZES = (1 << 20, numerics.WORKSPACE_BYTES)


def run(check: Check) -> Iterator[Found]:
    for size in SIZES:
        numerics.on_cuda.cache_clear()
        with patch.object(numerics, "WORKSPACE_BYTES", size):
            on = open_device(check.device)
            with on.computing(), torch.inference_mode():
                for shape in check.shapes:
                    yield Found(f"{shape}, {size >> 20} MiB, TFLOP/s", _speeds(check, shape))
    numerics.on_cuda.cache_clear()


def _speeds(check: Check, shape: str) -> dict[str, Value]:
    of, rows = SHAPES[shape], check.budget(shape)
    found: dict[str, Value] = {}
    for inner, columns in ((of.dim, 3 * of.dim), (of.dim, of.dim), (of.dim, of.inner), (of.inner, of.dim)):
        x, weight, bias = check.randn(rows, inner), check.randn(columns, inner), check.randn(columns)
        milliseconds = check.milliseconds(lambda: torch.nn.functional.linear(x, weight, bias))  # noqa: B023
        found[f"{inner}->{columns}"] = 2 * rows * inner * columns / milliseconds / 1e9
    return found
