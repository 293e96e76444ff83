"""The pieces of a layer of 650M, each by itself, as the bandwidth of one pass over its data."""

from collections.abc import Iterator

import torch
from torch.nn import functional

from benchmarks.gpu.check import Check, Found
from gpu_tasks.models.esm2 import rotate


def run(check: Check) -> Iterator[Found]:
    rows, dim, heads = check.size(32768, 256), check.size(1280, 64), check.size(20, 4)
    x, y, weight, inner = (
        check.randn(rows, dim),
        check.randn(rows, dim),
        check.randn(dim),
        check.randn(rows, 4 * dim),
    )
    qkv = check.randn(rows, 3, heads, dim // heads)
    angles = torch.rand(rows, 1, 1, dim // heads // 2, device=check.device)
    cosines, sines = angles.cos().to(check.dtype), angles.sin().to(check.dtype)
    with torch.inference_mode():
        for name, call, passes in (
            ("rotary", lambda: rotate(qkv[:, :2], cosines, sines), 4),
            ("layer norm", lambda: functional.layer_norm(x, (dim,), weight, weight, 1e-5), 2),
            ("residual", lambda: x + y, 3),
            ("GELU", lambda: functional.gelu(inner), 8),
        ):
            milliseconds = check.milliseconds(call)
            yield Found(
                name, {"us": 1000 * milliseconds, "TB/s of one pass": passes * x.nbytes / milliseconds / 1e9}
            )
