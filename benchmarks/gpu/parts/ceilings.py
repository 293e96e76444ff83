"""What the device can do at most: a square product, copies on it, and to and from it."""

from collections.abc import Iterator

import torch

from benchmarks.gpu.check import Check, Found


def run(check: Check) -> Iterator[Found]:
    side = check.size(8192, 128)
    left, right = check.randn(side, side), check.randn(side, side)
    milliseconds = check.milliseconds(lambda: left @ right)
    yield Found("square product in bfloat16", {"TFLOP/s": 2 * side**3 / milliseconds / 1e9})
    source = torch.empty(check.size(2**28, 2**12), device=check.device)
    target = torch.empty_like(source)
    yield Found("copy", {"TB/s": 2 * source.nbytes / check.milliseconds(lambda: target.copy_(source)) / 1e9})
    host = torch.empty(len(source) // 4, pin_memory=check.device != "cpu")
    there = target[: len(host)]
    to = check.milliseconds(lambda: there.copy_(host, non_blocking=True), 5)
    back = check.milliseconds(lambda: host.copy_(there, non_blocking=True), 5)
    yield Found("host", {"to GB/s": host.nbytes / to / 1e6, "from GB/s": host.nbytes / back / 1e6})
