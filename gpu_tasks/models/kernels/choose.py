"""Which kernels a model computes with, ours or plain torch's. Decided once, when it is loaded."""

import logging
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

import torch

from gpu_tasks.errors import DeviceUnavailable
from gpu_tasks.models.kernels.compiled import Launch, compiled
from gpu_tasks.models.kernels.fused import Build, Shape, fused_kernels, rotate_build
from gpu_tasks.models.layers import Kernels, choose_attention
from gpu_tasks.models.weights import Weights

log = logging.getLogger(__name__)

_OLDEST = (8, 0)
"""The compute capability that Triton still compiles for."""
_ALIGNED_BYTES = 16
"""Where the thirds of a buffer of query, key and value must begin for kernels to load them whole."""
_HEAD_DIM_MOST = 256


def choose_kernels(weights: Weights, *, rotary: bool = False, biased: bool = False) -> Kernels:
    """Ours on a CUDA device that can have them, where the job does not ask for plain ones.

    Raises DeviceUnavailable where those for this very model cannot be compiled though others could.
    """
    encoder, device, dtype = weights.encoder, weights.device, weights.dtype
    head_dim = encoder.hidden_size // encoder.num_heads
    plain = Kernels(choose_attention(device, dtype, head_dim))
    aligned = encoder.hidden_size * dtype.itemsize % _ALIGNED_BYTES == 0
    if weights.kernels == "plain" or not aligned or head_dim > _HEAD_DIM_MOST or not fused_by(device):
        return plain
    shape = Shape(encoder.num_heads, head_dim, encoder.layer_norm_eps, dtype)
    return fused_kernels(shape, partial(_build, device), plain, rotary=rotary, biased=biased)


@cache
def fused_by(device: torch.device) -> str | None:
    """What compiles our kernels for the device, such as `triton 3.7.1`; None where nothing does.

    Which of the two, and why, is logged once: it is part of the worker's kind.
    """
    if device.type != "cuda":
        return None
    try:
        if torch.cuda.get_device_capability(device) < _OLDEST:
            raise DeviceUnavailable(f"compute capability below {'.'.join(map(str, _OLDEST))}")
        # One for trial: the others are compiled as it is.
        _build(device, rotate_build(Shape(num_heads=1, head_dim=16, eps=1e-5, dtype=torch.float32)))
    except DeviceUnavailable as error:
        log.warning("computing with plain kernels on %s: %s", device, error)
        return None
    compiler = _compiler(device)
    log.info("computing with fused kernels on %s: %s", device, compiler)
    return compiler


def _compiler(device: torch.device) -> str:
    """Triton, and its assembler where somebody chose another than it brings: that rounds as it likes, too."""
    import triton
    from triton import knobs

    is_blackwell = torch.cuda.get_device_capability(device) >= (10, 0)
    assembler = getattr(knobs.nvidia, "ptxas_blackwell" if is_blackwell else "ptxas", knobs.nvidia.ptxas)
    own = Path(triton.__file__).parent
    chosen = [] if own in Path(assembler.path).parents else [f"ptxas {assembler.version}"]
    return ", ".join([f"triton {version('triton')}", *chosen])


def _build(device: torch.device, build: Build) -> Launch:
    try:
        from gpu_tasks.models.kernels import jitted
    except ImportError as error:
        raise DeviceUnavailable(f"no fused kernels without Triton: {error}") from None
    return compiled(getattr(jitted, build.name), build.types, build.constants, build.num_warps, device)
