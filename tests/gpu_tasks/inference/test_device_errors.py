"""What an error says of the device, by the exceptions that torch really raises where those can be had."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gpu_tasks.errors import DeviceUnavailable, ModelTooLarge, OutOfMemory, RecordTooLarge
from gpu_tasks.inference.device_errors import Fault, fault_of
from gpu_tasks.inference.fitting import Room, fit
from tests.support.model_directories import save_esm2


def accelerator_error(code: int, said: str) -> RuntimeError:
    """As torch makes one: a RuntimeError with the code of CUDA's."""
    error = torch.AcceleratorError(said)
    error.error_code = code
    return error


def test_torchs_allocator_of_the_processor_says_that_there_is_no_room() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 46)
    assert fault_of(raised.value) is Fault.NO_ROOM


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OutOfMemory("full"),
        RecordTooLarge(3, 1000),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB"),
        accelerator_error(2, "CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation'"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA driver error: out of memory"),
    ],
    ids=lambda error: f"{type(error).__name__}: {str(error)[:40]}",
)
def test_no_room_is_told_apart_from_a_lost_device(error: BaseException) -> None:
    assert fault_of(error) is Fault.NO_ROOM


@pytest.mark.parametrize(
    "error",
    [
        accelerator_error(700, "CUDA error: an illegal memory access was encountered"),
        accelerator_error(719, "CUDA error: unspecified launch failure"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasLtMatmul`"),
    ],
    ids=lambda error: str(error)[:40],
)
def test_what_poisons_the_process_is_a_lost_device(error: BaseException) -> None:
    assert fault_of(error) is Fault.LOST


@pytest.mark.parametrize(
    "error",
    [
        ValueError("CUDA error"),
        RuntimeError("shapes differ"),
        DeviceUnavailable("none"),
        OSError(errno.ENOENT),
    ],
    ids=repr,
)
def test_all_else_says_nothing_of_the_device(error: BaseException) -> None:
    assert fault_of(error) is None


def test_a_model_too_large_is_told_with_what_it_needs_and_what_there_is() -> None:
    def load() -> None:
        raise MemoryError

    with pytest.raises(ModelTooLarge) as raised:
        fit(load, "/models/big", num_parameters=3_000_000_000, dtype="float32", device="cpu")
    said = str(raised.value)
    assert said.startswith(
        "/models/big: does not fit into the memory: its 3,000,000,000 parameters take 11.2 GiB"
    )
    assert "are free" in said
    assert said.endswith("give it more, or run fewer workers, or use --dtype bfloat16")


def test_what_is_no_lack_of_memory_passes_through() -> None:
    def load() -> None:
        raise KeyError("a")

    with pytest.raises(KeyError):
        fit(load, "m", num_parameters=0, dtype="float32", device="cpu")


def test_room_is_told_in_sizes_that_can_be_read() -> None:
    assert str(Room("cuda:0 has", 80 << 30, 5 << 20)) == "cuda:0 has 80.0 GiB, of which 5.0 MiB are free"


def test_a_process_without_room_for_the_weights_says_so_with_its_limit(tmp_path: Path) -> None:
    """Under a real limit, which this process could not lift again."""
    model = save_esm2(tmp_path / "esm2", hidden_size=640, intermediate_size=8192, num_hidden_layers=6)
    program = f"""
import resource
from pathlib import Path
import torch
from gpu_tasks.inference.fitting import fit
from gpu_tasks.model_directory.reader import read_model
from gpu_tasks.models.loading import load
import gpu_tasks.models.from_spec, gpu_tasks.models.esm2
found = read_model(Path({str(model)!r}))
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
sizes = dict(num_parameters=60_000_000, dtype="float32", device="cpu")
fit(lambda: load(found.spec, found.tokenizer), "big", **sizes)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    *_, last = ended.stderr.strip().splitlines()
    assert "ModelTooLarge: big: does not fit into the memory: its 60,000,000 parameters" in last, ended.stderr
    assert "a process may have (ulimit -v)" in last
