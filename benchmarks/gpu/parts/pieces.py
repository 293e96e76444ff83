"""What stands between the products of a layer, by our own kernels and by torch's: as bandwidth of one pass.

The shapes are those of ESM-2 650M, and of DNABERT-2 for attention with a bias.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch.nn import functional

from benchmarks.gpu.check import Check, Found, lengths
from benchmarks.gpu.parts.attention import packed_of
from gpu_tasks import load_model
from gpu_tasks.inference.model import Dtype, KernelChoice
from gpu_tasks.models.bert import Bert
from gpu_tasks.models.esm2 import Esm2
from gpu_tasks.models.packed import PackedModel
from tests.support.model_directories import save_mosaic

DTYPES: tuple[Dtype, ...] = ("bfloat16", "float32")
Piece = tuple[str, Callable[[], object], float]
"""With the bytes that one pass over its data moves."""


def run(check: Check) -> Iterator[Found]:
    if not check.compiler:
        yield Found(f"fused kernels: none on {check.device}")
    shape = {} if check.is_rehearsal else {"hidden_size": 768, "intermediate_size": 3072}
    mosaic = save_mosaic(check.home / "mosaic", num_hidden_layers=1, **shape)
    for dtype in DTYPES:
        for kernels in check.kernels:
            yield from _timed(check, dtype, kernels, mosaic)


def _timed(check: Check, dtype: Dtype, kernels: KernelChoice, mosaic: Path) -> Iterator[Found]:
    shape = "tiny" if check.is_rehearsal else "650M"
    esm2 = check.load(shape, dtype=dtype, num_layers=1, kernels=kernels)
    biased = load_model(str(mosaic), device=check.device, dtype=dtype, kernels=kernels)
    assert isinstance(biased, PackedModel)
    rows = sorted(lengths(check.size(130, 8)), reverse=True)
    with torch.inference_mode(), esm2.on.computing():
        for name, call, num_bytes in [*_of_a_layer(check, esm2, rows), _with_a_bias(check, biased, rows)]:
            milliseconds = check.milliseconds(call)
            yield Found(
                f"{name}, {kernels} kernels, {dtype}",
                {"us": 1000 * milliseconds, "TB/s of one pass": num_bytes / milliseconds / 1e9},
            )


def _of_a_layer(check: Check, model: PackedModel, rows: list[int]) -> Iterator[Piece]:
    encoder, num_tokens, dim = model.encoder, sum(rows), model.hidden_size
    assert isinstance(encoder, Esm2)
    norm, kernels, heads = encoder.layers[0].mlp_norm, encoder.kernels, encoder.num_heads
    dtype = norm.weight.dtype
    packed = packed_of(rows, norm.weight.device)
    qkv = check.randn(num_tokens, 3, heads, dim // heads, dtype=dtype)
    angles = torch.rand(num_tokens, 1, 1, dim // heads // 2, device=qkv.device)
    cosines, sines = angles.cos().to(dtype), angles.sin().to(dtype)
    hidden, added = (check.randn(num_tokens, dim, dtype=dtype) for _ in range(2))
    inner = check.randn(num_tokens, 4 * dim, dtype=dtype)
    unit = hidden.nbytes
    yield "rotary", lambda: kernels.rotate(qkv[:, :2], cosines, sines), 4 * unit
    yield "residual and norm", lambda: kernels.add_norm(hidden, added, norm), 4 * unit
    yield "norm of a sum", lambda: kernels.norm_sum(hidden, added, norm), 3 * unit
    yield "attention", lambda: kernels.attention(*qkv.unbind(1), packed), 4 * unit
    yield "GELU", lambda: functional.gelu(inner), 8 * unit


def _with_a_bias(check: Check, model: PackedModel, rows: list[int]) -> Piece:
    encoder = model.encoder
    assert isinstance(encoder, Bert)
    heads, bias, weight = encoder.num_heads, encoder.bias, encoder.layers[0].mlp_norm.weight
    assert bias is not None
    packed = packed_of(rows, weight.device)
    qkv = check.randn(sum(rows), 3, heads, model.hidden_size // heads, dtype=weight.dtype)
    return (
        "attention with a bias",
        lambda: encoder.kernels.biased(packed, bias)(*qkv.unbind(1), packed),
        4 * qkv.nbytes / 3,
    )
