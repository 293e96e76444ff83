"""What is told of a worker's GPU: its child reads, its parent is asked. The driver is in test_gpu_load."""

import os
import time

import pytest

from queue_app.host.gpu_load import GpuLoad
from queue_app.worker.metrics import gpu_gauge
from queue_app.worker.metrics.gpu_gauge import STALE_SECONDS, GpuGauge
from tests.support.waiting import wait_for

LOAD = GpuLoad(0.37, 2048 << 20, 8192 << 20)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices that a driver was asked for, which answers for all of them."""
    devices: list[str] = []

    def load(device: str) -> GpuLoad:
        devices.append(device)
        return LOAD

    monkeypatch.setattr(gpu_gauge, "gpu_load", load)
    return devices


@pytest.mark.parametrize("load", [LOAD, GpuLoad(None, 1, 2), GpuLoad(0.5, None, None)])
def test_the_parent_is_told_what_its_child_has_read(load: GpuLoad) -> None:
    gauge = GpuGauge()
    assert gauge.load() is None
    child = os.fork()
    if child == 0:
        gauge.note(load)
        os._exit(0)
    os.waitpid(child, 0)
    assert gauge.load() == load


def test_what_was_read_long_ago_is_not_told() -> None:
    now = 0.0
    gauge = GpuGauge(lambda: now)
    gauge.note(LOAD)
    now = STALE_SECONDS
    assert gauge.load() == LOAD
    now += 1
    assert gauge.load() is None


def test_a_driver_that_does_not_answer_any_more_says_nothing() -> None:
    gauge = GpuGauge()
    gauge.note(LOAD)
    gauge.note(None)
    assert gauge.load() is None


def test_a_driver_that_hangs_is_waited_for_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_gauge, "gpu_load", lambda _: time.sleep(60))
    gauge = GpuGauge()
    gauge.start("0")
    assert gauge.load() is None


def test_the_device_that_cuda_computes_on_is_read_at_once_when_it_is_known(asked: list[str]) -> None:
    gauge = GpuGauge()
    gauge.start("0")
    wait_for(gauge.load, "the first reading")
    gauge.identify("GPU-8f6d")
    wait_for(lambda: "GPU-8f6d" in asked, "the other device", seconds=2)
    wait_for(gauge.load, "its reading")
