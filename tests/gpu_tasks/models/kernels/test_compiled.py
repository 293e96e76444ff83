"""What Triton makes of the kernels for devices that are not here: compiled to their code, and not run."""

import os
from pathlib import Path

import pytest
import torch

from gpu_tasks.models.kernels.compiled import compile_for, cubin_of, somewhere_to_write
from gpu_tasks.models.kernels.fused import Build, Shape, attend_build, norm_build, rotate_build
from tests.support.interpreted_kernels import needs_compiler

pytestmark = needs_compiler
A100, H100 = (8, 0), (9, 0)


def builds(dtype: torch.dtype, head_dim: int) -> list[Build]:
    shape = Shape(20, head_dim, 1e-5, dtype)
    return [
        rotate_build(shape),
        norm_build(shape, keep_sum=True),
        attend_build(shape, biased=True),
        attend_build(shape, biased=False),
    ]


@pytest.mark.parametrize("capability", [A100, H100])
@pytest.mark.parametrize("head_dim", [24, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_kernel_compiles_and_rounds_to_the_nearest(
    dtype: torch.dtype, head_dim: int, capability: tuple[int, int]
) -> None:
    from gpu_tasks.models.kernels import jitted

    for build in builds(dtype, head_dim):
        kernel = getattr(jitted, build.name)
        binary = compile_for(capability, kernel, build.types, build.constants, build.num_warps)
        assert cubin_of(binary)
        # What any device with this capability grants a program.
        assert binary.metadata.shared <= 99 << 10
        ptx = binary.asm["ptx"]
        assert ".rz." not in ptx
        assert "tf32" not in ptx
        if dtype == torch.bfloat16:
            assert "cvt.rn.bf16" in ptx


def test_where_tritons_cache_cannot_be_written_kernels_are_compiled_all_the_same_and_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from gpu_tasks.models.kernels import jitted

    (tmp_path / "home").touch()  # a file, so that nothing can be made within it
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "home" / "cache"))
    before = dict(os.environ)
    for build in builds(torch.float32, 24)[:2]:
        with somewhere_to_write():
            binary = compile_for(
                H100, getattr(jitted, build.name), build.types, build.constants, build.num_warps
            )
            assert Path(cubin_of(binary)).stat().st_size > 0
        assert not Path(cubin_of(binary)).exists()
    assert dict(os.environ) == before
    [line] = caplog.messages
    assert str(tmp_path / "home" / "cache") in line
    assert "TRITON_CACHE_DIR" in line
