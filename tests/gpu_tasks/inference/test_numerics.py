"""Those of torch's switches that change vectors: fixed while we compute, and then again as they were."""

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpu_tasks import load_model
from gpu_tasks.errors import DeviceUnavailable
from gpu_tasks.inference import numerics
from gpu_tasks.inference.numerics import Setting, everywhere, fixed_numerics, on_cuda, refuse_environment
from gpu_tasks.models.packed import PackedModel
from tests.support.jobs_and_inputs import protein
from tests.support.model_directories import embed, save_esm2

SETTINGS = {each.name: each for each in [*reversed(everywhere().settings), *on_cuda().settings]}
OTHERS: dict[str, Any] = {
    "cuda matmul fp32_precision": "tf32",
    "cuda conv fp32_precision": "tf32",
    "cuda rnn fp32_precision": "tf32",
    "mkldnn matmul fp32_precision": "bf16",
    "mkldnn conv fp32_precision": "bf16",
    "mkldnn rnn fp32_precision": "bf16",
    "float32_matmul_precision": "high",
    "use_deterministic_algorithms": (True, True),
    "sm_carveout_experimental": 8,
    "sdp_priority_order": [0, 2, 1, 3, 4],
    "cublas_allow_fp16_reduced_precision_reduction": (True, True),
    "cublas_allow_bf16_reduced_precision_reduction": (False, False),
    "CUBLAS_WORKSPACE_CONFIG": ":16:8",
    "CUBLASLT_WORKSPACE_SIZE": "16",
    "cublas_workspace_size": 1 << 20,
    "cublaslt_workspace_size": 1 << 19,
}
"""What somebody else may have made of each; of the others the contrary. A library of linear algebra and of
products that this build lacks cannot be chosen."""
CHOSEN_BY_BUILD = {"blas_preferred_backend", "linalg_preferred_backend"}
SEQUENCES = [protein(number) for number in range(30)]


@pytest.fixture(scope="module")
def esm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_esm2(tmp_path_factory.mktemp("esm2"))


def stand() -> dict[str, Any]:
    return {name: setting.read() for name, setting in SETTINGS.items()}


def other_than(setting: Setting) -> Any:
    return OTHERS.get(setting.name, not setting.fixed)


@pytest.mark.parametrize("name", sorted(SETTINGS.keys() - CHOSEN_BY_BUILD))
def test_each_switch_is_fixed_while_computing_and_the_users_own_again_afterwards(name: str) -> None:
    setting, before = SETTINGS[name], stand()
    setting.write(other_than(setting))
    try:
        chosen = stand_but_precisions()
        with everywhere().held(), on_cuda().held():
            assert {name: each.read() for name, each in SETTINGS.items()} == {
                name: each.fixed for name, each in SETTINGS.items()
            }
        assert setting.read() == other_than(setting)
        assert stand_but_precisions() == chosen
    finally:
        for each, value in zip(SETTINGS.values(), before.values(), strict=True):
            each.write(value)


def stand_but_precisions() -> dict[str, Any]:
    """The old switch of all precisions cannot be read while the new ones say something else."""
    return {name: setting.read() for name, setting in SETTINGS.items() if "precision" not in name}


def test_an_error_while_computing_leaves_the_process_as_it_was() -> None:
    before = stand()
    with pytest.raises(RuntimeError, match="broken"), everywhere().held(), on_cuda().held():
        raise RuntimeError("broken")
    assert stand() == before


def test_of_two_that_compute_at_once_the_first_to_leave_switches_nothing_of_the_other() -> None:
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with on_cuda().held():
            entered.set()
            assert leave.wait(30)

    thread = threading.Thread(target=other)
    with on_cuda().held():
        thread.start()
        assert entered.wait(30)
    assert torch.are_deterministic_algorithms_enabled()
    leave.set()
    thread.join()
    assert not torch.are_deterministic_algorithms_enabled()


def test_loading_and_computing_leave_process_and_environment_as_they_were(esm2: Path) -> None:
    before, environment, threads = stand(), dict(os.environ), torch.get_num_threads()
    model = load_model(str(esm2), threads=threads + 2)
    assert (stand(), dict(os.environ), torch.get_num_threads()) == (before, environment, threads)
    embed(model, SEQUENCES)
    assert (stand(), dict(os.environ), torch.get_num_threads()) == (before, environment, threads)


def test_a_model_computes_with_its_own_threads_in_whatever_thread(esm2: Path) -> None:
    model, seen = load_model(str(esm2), threads=3), []
    assert isinstance(model, PackedModel)

    def look(flat: torch.Tensor) -> Any:
        seen.append(torch.get_num_threads())
        raise RuntimeError("seen")

    def compute() -> None:
        with pytest.raises(RuntimeError, match="seen"):
            model.on.upload(np.zeros(1, np.int64)).compute(look)

    thread = threading.Thread(target=compute)
    thread.start()
    thread.join()
    compute()
    assert seen == [3, 3]


def test_what_a_user_switched_changes_no_byte(esm2: Path) -> None:
    expected = embed(load_model(str(esm2)), SEQUENCES).tobytes()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = embed(load_model(str(esm2)), SEQUENCES).tobytes()
    finally:
        torch.set_float32_matmul_precision(before)
    assert found == expected


@pytest.mark.parametrize("name", numerics.HARMLESS)
def test_a_variable_that_nothing_can_override_is_refused_by_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "7")
    with pytest.raises(DeviceUnavailable, match=f"{name}='7' in the environment .* unset it"):
        refuse_environment()
    for harmless in ("", *numerics.HARMLESS[name]):
        monkeypatch.setenv(name, harmless)
        refuse_environment()


def test_a_torch_that_reads_its_workspaces_from_the_environment_is_not_given_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(torch._C, "_cuda_setCublasWorkspaceSize", raising=False)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    refuse_environment()
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with pytest.raises(DeviceUnavailable, match="CUBLAS_WORKSPACE_CONFIG=':16:8'"):
        refuse_environment()


def test_somebodys_autocast_is_not_ours() -> None:
    x = torch.ones(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with fixed_numerics(torch.device("cpu")):
            assert (x @ x).dtype == torch.float32
