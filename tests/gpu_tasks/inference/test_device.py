"""Devices: which names they go by, threads, and the check that rides with the copy back."""

import numpy as np
import pytest
import torch

from gpu_tasks.errors import DeviceUnavailable
from gpu_tasks.inference.model import host_pending
from gpu_tasks.inference.torch_device import open_device


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "cuda:-1", "gpu0", "CPU", ""])
def test_a_device_of_another_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(DeviceUnavailable, match="write cpu, cuda or cuda:N"):
        open_device(name)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(DeviceUnavailable, match=rf"torch sees {torch.cuda.device_count()} CUDA devices"):
        open_device("cuda:999")


def test_a_row_that_overflows_the_stored_dtype_is_not_finite() -> None:
    vectors = np.array([[1, 70_000], [1, 60_000], [np.nan, 0], [np.inf, 0]], np.float32)
    assert host_pending(vectors, "float16").wait().finite.tolist() == [False, True, False, False]
    assert host_pending(vectors, "float32").wait().finite.tolist() == [True, True, False, False]
