"""What the libraries are told of workspaces, attention and precision, whatever the environment says."""

from collections.abc import Iterator

import torch

from gpu_tasks.inference.numerics import WORKSPACE_BYTES, everywhere, on_cuda
from gpu_tasks.inference.torch_device import open_device
from tests.campaigns.cuda_standin.standin import Finding, Standin

BACKENDS = {0: "plain", 1: "Flash", 2: "memory-efficient", 3: "cuDNN", 4: "another"}
"""torch.nn.attention.SDPBackend."""


def check(standin: Standin) -> Iterator[Finding]:
    on = open_device("cuda")
    with on.computing():
        for setting in [*everywhere().settings, *on_cuda().settings]:
            found = setting.read()
            yield Finding(found == setting.fixed, f"{setting.name}: {found}")
        yield from _workspaces(standin)
        yield from _attention()
    yield Finding(not torch.are_deterministic_algorithms_enabled(), "the process is as it was")


def _workspaces(standin: Standin) -> Iterator[Finding]:
    x = torch.empty(4096, 320, device="cuda", dtype=torch.bfloat16)
    weight, bias = torch.empty(960, 320, device="cuda", dtype=torch.bfloat16), x[:3, :].flatten()
    with torch.inference_mode(), standin.recording() as recorded:
        torch.nn.functional.linear(x, weight, bias)
        torch.nn.functional.linear(x, weight)
    with_bias = [name for name in recorded.kernels if name.startswith("cublasLtMatmul")]
    right = all(name.endswith(f"ws={WORKSPACE_BYTES}") for name in with_bias)
    yield Finding(bool(with_bias) and right, f"cuBLASLt: {', '.join(with_bias)}")
    given = [name for name in recorded.calls if name.startswith("cublasSetWorkspace")]
    yield Finding(given == [f"cublasSetWorkspace {WORKSPACE_BYTES}"], f"cuBLAS: {', '.join(given)}")


def _attention() -> Iterator[Finding]:
    """Of one call per row length, with and without a bias on the scores, by the dtype and the heads' size."""
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for head_dim in (8, 16, 20, 24, 32, 64, 128):
            chosen = [_backend(dtype, head_dim, biased) for biased in (False, True)]
            text = f"{dtype}, heads of {head_dim}: {chosen[0]}, with a bias {chosen[1]}"
            # In half precision a bias wants heads of a multiple of 8.
            plain = ["plain"] * (head_dim % 8 > 0 and dtype != torch.float32)
            yield Finding(
                "cuDNN" not in chosen and [each for each in chosen if each == "plain"] == plain, text
            )


def _backend(dtype: torch.dtype, head_dim: int, biased: bool) -> str:
    rows, length, heads = 3, 57, 12
    x = torch.empty(rows * length, 3, heads, head_dim, device="cuda", dtype=dtype)
    query, key, value = (x[:, each].view(rows, length, heads, head_dim).transpose(1, 2) for each in range(3))
    bias = (
        torch.empty(heads, 64, 64, device="cuda", dtype=dtype)[None, :, :length, :length] if biased else None
    )
    return BACKENDS[torch._fused_sdp_choice(query, key, value, bias, 0.0, False)]
