"""What is known of this host's devices without torch."""

import os
from pathlib import Path

import pytest

from queue_app.errors import UsageError
from queue_app.host import devices
from queue_app.host.devices import is_emulated
from queue_app.host.queues import Queue
from queue_app.settings import RuntimeConfig

X86 = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2 {}\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd {}\n"


@pytest.mark.parametrize(
    ("template", "dtype", "flag"),
    [
        (X86, "bfloat16", "avx512_bf16"),
        (X86, "bfloat16", "amx_bf16"),
        (ARM, "bfloat16", "bf16"),
        (X86, "float16", "avx512_fp16"),
        (ARM, "float16", "asimdhp"),
    ],
)
def test_a_half_precision_is_emulated_unless_the_processor_says_otherwise(
    tmp_path: Path, template: str, dtype: str, flag: str
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(template.format("sse2"))
    assert is_emulated(dtype, cpuinfo)
    cpuinfo.write_text(template.format(flag))
    assert not is_emulated(dtype, cpuinfo)


def test_float32_is_never_emulated(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(X86.format("sse2"))
    assert not is_emulated("float32", cpuinfo)


def test_a_host_that_does_not_tell_is_taken_for_able(tmp_path: Path) -> None:
    assert not is_emulated("bfloat16", tmp_path / "missing")
    (tmp_path / "cpuinfo").write_text("processor : 0\n")
    assert not is_emulated("bfloat16", tmp_path / "cpuinfo")


@pytest.mark.parametrize(
    ("num_cores", "num_parameters", "expected"),
    [(2, 22_000_000, 2), (8, 0, 8), (64, 8_000_000, 16), (2, 650_000_000, 1), (64, 650_000_000, 16)],
)
def test_small_models_have_a_worker_per_core_and_large_ones_fewer(
    monkeypatch: pytest.MonkeyPatch, num_cores: int, num_parameters: int, expected: int
) -> None:
    monkeypatch.setattr(devices, "num_cores", lambda: num_cores)
    assert devices.default_cpu_workers(num_parameters) == expected
    queues = devices.choose_queues("cpu", None, RuntimeConfig(), cpu_workers=expected)
    assert queues == [f"cpu{index}" for index in range(expected)]
    assert devices.cpu_workers_of(devices.cpu_threads(expected)) == expected


def test_a_number_that_was_asked_for_decides() -> None:
    assert devices.choose_queues("cpu", 3, RuntimeConfig(), cpu_workers=1) == ["cpu0", "cpu1", "cpu2"]


@pytest.mark.parametrize(
    ("device", "queues"),
    [
        ("cuda", ["gpu0", "gpu1", "gpu2"]), ("gpu", ["gpu0", "gpu1", "gpu2"]), ("cuda:1", ["gpu1"]),
        ("gpu2", ["gpu2"]), ("cuda:2,cuda:0", ["gpu0", "gpu2"]), ("0,1", ["gpu0", "gpu1"]),
    ],
)  # fmt: skip
def test_gpus_may_be_written_as_torch_does(
    monkeypatch: pytest.MonkeyPatch, device: str, queues: list[str]
) -> None:
    monkeypatch.setattr(devices, "count_gpus", lambda config: 3)
    assert devices.choose_queues(device, None, RuntimeConfig(), cpu_workers=1) == queues


@pytest.mark.parametrize("device", ["cuda", "gpu", "cuda:0", "cuda:", "cpu0", "mps", "0;1", ""])
def test_a_device_that_is_not_there_is_never_replaced_by_the_processor(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(devices, "count_gpus", lambda config: 0)
    with pytest.raises(UsageError, match=f"--device {device}: (this host has|no GPU|write auto)"):
        devices.choose_queues(device, None, RuntimeConfig(), cpu_workers=1)


WHOLE = """GPU 0: NVIDIA H200 (UUID: GPU-1a)
GPU 1: NVIDIA H200 (UUID: GPU-1b)
"""
PARTITIONED = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-2a)
  MIG 3g.20gb     Device  0: (UUID: MIG-3a)
  MIG 3g.20gb     Device  1: (UUID: MIG-3b)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-2b)
GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-2c)
  MIG 7g.40gb     Device  0: (UUID: MIG-3c)
"""
"""What `nvidia-smi -L` prints."""


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A driver's program that prints what stands in the file."""
    program, listed = tmp_path / "nvidia-smi", tmp_path / "listed"
    program.write_text(f'#!/bin/sh\n[ "$*" = -L ] && cat "{listed}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return listed


def test_whole_gpus_go_by_their_numbers(nvidia_smi: Path) -> None:
    nvidia_smi.write_text(WHOLE)
    assert devices.granted_devices(RuntimeConfig()) is None
    assert devices.count_gpus(RuntimeConfig()) == 2


def test_each_part_of_a_partitioned_gpu_is_a_device_and_goes_by_its_name(nvidia_smi: Path) -> None:
    nvidia_smi.write_text(PARTITIONED)
    config = RuntimeConfig()
    assert devices.granted_devices(config) == "MIG-3a,MIG-3b,GPU-2b,MIG-3c"
    assert devices.count_gpus(config) == 4
    queues = devices.choose_queues("cuda", None, config, cpu_workers=1)
    granted = [Queue.parse(each).visible_device(devices.granted_devices(config)) for each in queues]
    assert granted == ["MIG-3a", "MIG-3b", "GPU-2b", "MIG-3c"]


def test_what_is_granted_stands_above_what_the_driver_lists(
    nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi.write_text(PARTITIONED)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-3c")
    assert devices.granted_devices(RuntimeConfig()) == "MIG-3c"
    assert devices.count_gpus(RuntimeConfig()) == 1


def test_another_order_of_devices_than_the_drivers_is_refused(
    nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi.write_text(WHOLE)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    with pytest.raises(UsageError, match="CUDA_DEVICE_ORDER=FASTEST_FIRST: gpu0 is the first device"):
        devices.choose_queues("auto", None, RuntimeConfig(), cpu_workers=1)
    assert devices.choose_queues("cpu", None, RuntimeConfig(), cpu_workers=1) == ["cpu0"]
