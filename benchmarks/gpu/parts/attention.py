"""Attention over a pack, by the size of the heads and the length of the rows."""

from collections.abc import Iterator
from itertools import groupby

import numpy as np
import torch

from benchmarks.gpu.check import Check, Found
from gpu_tasks.models.layers import Packed, choose_attention

HEADS = ((20, 16), (20, 24), (20, 32), (20, 64), (40, 128))
LENGTHS = (64, 250, 1022)


def run(check: Check) -> Iterator[Found]:
    device = torch.device(check.device)
    for heads, head_dim in HEADS[: check.size(len(HEADS), 1)]:
        attend = choose_attention(device, check.dtype, head_dim)
        for length in LENGTHS:
            rows = max(check.size(32768, 1024) // length, 1)
            query, key, value = (check.randn(rows * length, heads, head_dim) for _ in range(3))
            packed = packed_of([length] * rows, device)
            with torch.inference_mode():
                milliseconds = check.milliseconds(lambda: attend(query, key, value, packed), 10)  # noqa: B023
            flops = 4 * rows * length**2 * heads * head_dim
            name = getattr(attend, "__name__", "attention")
            yield Found(
                f"{heads} heads of {head_dim}, rows of {length}, {name}",
                {"us": 1000 * milliseconds, "TFLOP/s": flops / milliseconds / 1e9},
            )


def packed_of(lengths: list[int], device: torch.device) -> Packed:
    """Rows of these lengths, equal ones beside each other; only what attention reads of a batch."""
    bounds = torch.from_numpy(np.cumsum([0, *lengths])).to(device)
    runs = tuple((len(list(rows)), length) for length, rows in groupby(lengths))
    return Packed(bounds, bounds, bounds.int(), bounds, bounds, runs, max(lengths))
