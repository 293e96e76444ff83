"""Which kernels a model gets: plain ones wherever ours cannot be had, and one line that says why."""

import ast
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import gpu_tasks.models.kernels
from gpu_tasks import load_model
from gpu_tasks.errors import DeviceUnavailable
from gpu_tasks.models import layers
from gpu_tasks.models.kernels import choose
from gpu_tasks.models.kernels.choose import fused_by
from gpu_tasks.models.layers import Kernels
from tests.support.interpreted_kernels import needs_compiler
from tests.support.model_directories import save_esm2

CUDA = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    fused_by.cache_clear()
    yield
    fused_by.cache_clear()


def pretend(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], why_not: str | None) -> list[str]:
    """A device of this capability, for which no kernel can be had; answers those that were asked for."""
    asked: list[str] = []

    def build(_: torch.device, build: object) -> object:
        asked.append(build.name)  # type: ignore[attr-defined]
        if why_not:
            raise DeviceUnavailable(why_not)
        return print

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(choose, "_build", build)
    monkeypatch.setattr(choose, "version", lambda _: "3.7.1")
    return asked


def test_on_the_processor_a_model_has_plain_kernels(tmp_path: Path) -> None:
    kernels = load_model(str(save_esm2(tmp_path / "esm2"))).encoder.kernels  # type: ignore[attr-defined]
    assert kernels == Kernels(layers.attend_runs) or (
        kernels.attention is layers.attend_runs
        and kernels.rotate is layers.rotate
        and kernels.add_norm is layers.add_norm
        and kernels.norm_sum is layers.norm_sum
    )
    assert fused_by(torch.device("cpu")) is None


def test_a_device_without_our_kernels_computes_with_plain_ones_and_says_why_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = pretend(monkeypatch, (9, 0), "no fused kernels without Triton: No module named 'triton'")
    with caplog.at_level(logging.INFO):
        assert [fused_by(CUDA) for _ in range(3)] == [None] * 3
    assert asked == ["rotate"]
    assert caplog.messages == [
        "computing with plain kernels on cuda:0: no fused kernels without Triton: No module named 'triton'"
    ]


def test_a_device_that_is_older_than_triton_knows_is_not_tried(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = pretend(monkeypatch, (7, 5), None)
    assert fused_by(CUDA) is None
    assert asked == []
    assert caplog.messages == ["computing with plain kernels on cuda:0: compute capability below 8.0"]


def test_a_device_with_our_kernels_is_told_by_their_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, (9, 0), None)
    monkeypatch.setattr(choose, "_compiler", lambda _: "triton 3.7.1")
    assert fused_by(CUDA) == "triton 3.7.1"


@needs_compiler
def test_an_assembler_that_somebody_chose_is_part_of_what_the_compiler_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from triton import knobs

    pretend(monkeypatch, (9, 0), None)
    (tmp_path / "ptxas").symlink_to(knobs.nvidia.ptxas.path)
    monkeypatch.setenv("TRITON_PTXAS_PATH", str(tmp_path / "ptxas"))
    assert fused_by(CUDA) == f"triton 3.7.1, ptxas {knobs.nvidia.ptxas.version}"


@pytest.mark.skipif(torch.version.cuda is not None, reason="for a torch without CUDA")
def test_a_torch_without_cuda_has_no_launcher_and_the_reason_is_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert fused_by(CUDA) is None
    [line] = caplog.messages
    assert line.startswith("computing with plain kernels on cuda:0: no fused kernels ")
    assert "\n" not in line


def test_nothing_but_the_kernels_themselves_imports_triton_before_it_is_wanted() -> None:
    for module in Path(gpu_tasks.models.kernels.__path__[0]).glob("*.py"):
        at_once = [
            node for node in ast.parse(module.read_text()).body if not isinstance(node, ast.FunctionDef)
        ]
        names = [ast.unparse(node) for node in at_once if isinstance(node, ast.Import | ast.ImportFrom)]
        imports = [name for name in names if "triton" in name or "jitted" in name]
        assert bool(imports) == (module.name == "jitted.py"), module
