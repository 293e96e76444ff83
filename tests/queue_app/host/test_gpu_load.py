"""What the driver tells of a GPU, where there is one."""

from collections.abc import Iterator
from types import SimpleNamespace

import pynvml
import pytest
import torch

from queue_app.host import gpu_load as module
from queue_app.host.gpu_load import GpuLoad, gpu_load


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A driver that shows device 0, which is GPU-8f6d, half busy and with 1 of 80 GiB taken."""
    module._handle.cache_clear()
    memory, rates = SimpleNamespace(used=1 << 30, total=80 << 30), SimpleNamespace(gpu=50)
    handles = {0: "handle", "GPU-8f6d": "handle"}
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    for by in ("Index", "UUID"):
        monkeypatch.setattr(pynvml, f"nvmlDeviceGetHandleBy{by}", handles.__getitem__)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", {"handle": memory}.__getitem__)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", {"handle": rates}.__getitem__)
    yield monkeypatch
    module._handle.cache_clear()


def not_supported(handle: object) -> None:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


@pytest.mark.parametrize("device", ["0", "GPU-8f6d"])
@pytest.mark.usefixtures("driver")
def test_memory_is_told_in_bytes_and_utilisation_as_a_share(device: str) -> None:
    assert gpu_load(device) == GpuLoad(0.5, 1 << 30, 80 << 30)


def test_what_a_device_does_not_tell_is_left_out(driver: pytest.MonkeyPatch) -> None:
    driver.setattr(pynvml, "nvmlDeviceGetUtilizationRates", not_supported)
    assert gpu_load("0") == GpuLoad(None, 1 << 30, 80 << 30)
    driver.setattr(pynvml, "nvmlDeviceGetMemoryInfo", not_supported)
    assert gpu_load("0") is None


@pytest.mark.usefixtures("driver")
def test_a_part_of_a_gpu_is_found_though_torch_calls_it_a_gpu(driver: pytest.MonkeyPatch) -> None:
    def by_uuid(uuid: str) -> str:
        if uuid != "MIG-7a":
            not_supported(uuid)
        return "handle"

    driver.setattr(pynvml, "nvmlDeviceGetHandleByUUID", by_uuid)
    assert gpu_load("GPU-7a") == GpuLoad(0.5, 1 << 30, 80 << 30)
    assert gpu_load("GPU-7b") is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("device", ["0", "GPU-8f6d"])
def test_without_a_driver_nothing_is_known_and_nothing_goes_wrong(device: str) -> None:
    assert gpu_load(device) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpus_memory_is_what_torch_sees_of_it() -> None:
    held = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    load = gpu_load(f"GPU-{torch.cuda.get_device_properties(0).uuid}")
    assert load is not None
    assert load.memory_bytes is not None
    assert load.memory_total_bytes is not None
    assert held.nbytes <= load.memory_bytes <= load.memory_total_bytes
    assert load.memory_total_bytes >= torch.cuda.get_device_properties(0).total_memory
    assert load.share is None or 0 <= load.share <= 1
