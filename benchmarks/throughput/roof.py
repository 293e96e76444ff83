"""What the machine can do at best: matrix products, the fastest of many runs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from benchmarks.common.esm2_shapes import Arithmetic

SQUARE = {"cpu": 2048, "cuda": 8192}
TIMES = {"cpu": 1, "cuda": 20}
"""Products in one run: waiting for a device takes as long as a small product."""


@dataclass(frozen=True, slots=True)
class Roof:
    """In FLOP/s: the products of the model's own layers one after the other, and one of two large squares."""

    layers: float
    square: float

    @property
    def best(self) -> float:
        return max(self.layers, self.square)


def measure_roof(
    arithmetic: Arithmetic, num_tokens: int, *, dtype: str, device: str = "cpu", seconds: float = 2.0,
    square: int | None = None,
) -> Roof:  # fmt: skip
    """Each product for so many seconds, and the fastest run of it."""
    products = arithmetic.products(num_tokens)
    took = [product_seconds(product, dtype, device, seconds / len(products)) for product in products]
    side = square or SQUARE[device.partition(":")[0]]
    of_square = product_seconds((side, side, side), dtype, device, seconds)
    return Roof(sum(map(num_flops, products)) / sum(took), num_flops((side, side, side)) / of_square)


def num_flops(product: Sequence[int]) -> float:
    rows, inner, columns = product
    return 2.0 * rows * inner * columns


def product_seconds(product: Sequence[int], dtype: str, device: str, seconds: float) -> float:
    rows, inner, columns = product
    left = torch.randn(rows, inner, device=device).to(getattr(torch, dtype))
    right = torch.randn(columns, inner, device=device).to(getattr(torch, dtype))
    return fastest(lambda: torch.nn.functional.linear(left, right), device, seconds)


@torch.inference_mode()
def fastest(action: Callable[[], object], device: str, seconds: float) -> float:
    """The shortest run of all that begin within so many seconds, five at least; two before don't count."""
    times, took = TIMES[device.partition(":")[0]], []
    ends = time.perf_counter() + seconds
    while len(took) < 7 or time.perf_counter() < ends:
        settle(device)
        started = time.perf_counter()
        for _ in range(times):
            action()
        settle(device)
        took.append((time.perf_counter() - started) / times)
    return min(took[2:])


def settle(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def computes_bfloat16() -> bool:
    """Whether bfloat16 is worth measuring: oneDNN has kernels for this processor, and they are no slower."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    # With AVX-512 but without its bfloat16 instructions it is emulated.
    single, half = (product_seconds((512, 512, 512), each, "cpu", 0.2) for each in ("float32", "bfloat16"))
    return half < single
