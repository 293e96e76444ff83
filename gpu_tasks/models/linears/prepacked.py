"""Linear layers by oneDNN, whose weights lie from the start as its kernels read them.

What torch calls by itself in float32, MKL, leaves half of an AVX-512 processor unused where that is no
Intel: 106 GFLOP/s a core on a Zen 5, where this reaches 240. In bfloat16 both are oneDNN, and what is saved
is that weights are laid out anew for every batch, an eighth of the time.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_ROWS = 1024
"""Tokens of a batch on the CPU, about: the layout is chosen for them, and is right for any number."""
_DTYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True, slots=True, eq=False)
class PrepackedLinear:
    """`weight` [outputs, inputs] is opaque: of oneDNN's own layout."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return y


def prepacked(weight: Tensor, bias: Tensor | None) -> PrepackedLinear:
    """Lay out weight [outputs, inputs]; torch's own compiler does the same with what it has frozen."""
    return PrepackedLinear(torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS), bias)


def can_prepack(device: torch.device, dtype: torch.dtype) -> bool:
    """Where it is known to be no slower: an x86 processor with AVX-512, and a torch that has oneDNN."""
    if device.type != "cpu" or dtype not in _DTYPES:
        return False
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")
