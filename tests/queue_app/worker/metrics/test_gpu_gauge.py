"""What is made of the driver's answers. What a worker serves of them is in test_queue_app_metrics."""

import os
from pathlib import Path

import pytest

from queue_app.worker.metrics import driver
from queue_app.worker.metrics.driver import KEPT_SECONDS, GpuFigures, GpuGauge, ask


def install(home: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """A driver that does so; answers the file that it writes its arguments to, a line for each call."""
    program, called = home / "nvidia-smi", home / "called"
    program.write_text(f'#!/bin/sh\necho "$@" >> {called}\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}{os.pathsep}{os.environ['PATH']}")
    return called


def test_memory_is_told_in_bytes_and_utilisation_as_a_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = install(tmp_path, monkeypatch, 'echo "1024, 81559, 50"')
    assert ask("GPU-8f6d") == GpuFigures(1024 << 20, 81559 << 20, 0.5)
    assert "--id=GPU-8f6d " in called.read_text()


def test_what_a_device_does_not_tell_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, 'echo "1024, 81559, [N/A]"')
    assert ask("0") == GpuFigures(1024 << 20, 81559 << 20, None)


@pytest.mark.parametrize("script", ["exit 9", "echo Failed to initialize NVML", "echo", "exec sleep 60"])
def test_a_driver_that_fails_or_hangs_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(driver, "ASK_SECONDS", 0.5)
    install(tmp_path, monkeypatch, script)
    assert ask("0") is None


def test_without_a_driver_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask("0") is None


def test_the_driver_is_asked_every_few_seconds_however_often_one_scrapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    called = install(tmp_path, monkeypatch, 'echo "1, 2, 3"')
    gauge = GpuGauge("0", lambda: now)
    for now in (0.0, 1.0, KEPT_SECONDS - 1, KEPT_SECONDS):  # noqa: B007
        assert gauge.read() == GpuFigures(1 << 20, 2 << 20, 0.03)
    assert len(called.read_text().splitlines()) == 2
