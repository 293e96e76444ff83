"""What the driver tells of a GPU, where there is one."""

import pytest
import torch

from gpu_tasks.inference.torch_device import hardware_id
from queue_app.host.gpu_load import gpu_load


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_driver_nothing_is_known_and_nothing_goes_wrong() -> None:
    assert gpu_load("0") is None
    assert gpu_load("GPU-8f6d") is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpus_memory_is_what_torch_sees_of_it() -> None:
    held = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    load = gpu_load(hardware_id("cuda:0"))
    assert load is not None
    assert held.nbytes <= load.memory_bytes <= load.memory_total_bytes
    assert load.memory_total_bytes >= torch.cuda.get_device_properties(0).total_memory
    assert load.share is None or 0 <= load.share <= 1
