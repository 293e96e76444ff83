"""What the name of a queue says."""

import pytest

from queue_app.errors import UsageError
from queue_app.host.queues import Queue, check_queues, device_class


@pytest.mark.parametrize(
    ("queue", "granted", "expected"),
    [
        ("gpu0", None, "0"),
        ("gpu3", None, "3"),
        ("gpu1", "4,6", "6"),
        ("gpu0", "GPU-8f6d", "GPU-8f6d"),
        ("cpu0", "4,6", ""),
        ("cpu3", None, ""),
    ],
)
def test_the_queue_name_picks_the_device_among_those_granted(
    queue: str, granted: str | None, expected: str
) -> None:
    assert Queue.parse(queue).visible_device(granted) == expected


def test_a_device_that_is_not_granted_is_refused() -> None:
    with pytest.raises(SystemExit, match="grants only 2"):
        Queue.parse("gpu2").visible_device("4,6")


@pytest.mark.parametrize(("name", "queue"), [("gpu0", Queue("gpu", 0)), ("cpu12", Queue("cpu", 12))])
def test_a_name_is_that_of_one_device(name: str, queue: Queue) -> None:
    assert Queue.parse(name) == queue
    assert str(queue) == name


@pytest.mark.parametrize("name", ["", "gpu", "celery", "gpu-1", "cpu1 ", "gpu00", "gpu\u0661"])
def test_a_name_that_says_no_device_is_refused_as_is_a_second_name_of_one(name: str) -> None:
    with pytest.raises(UsageError, match="names no device"):
        Queue.parse(name)


def test_a_queue_that_is_named_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="'gpu1' is named twice"):
        check_queues(["gpu0", "gpu1", "gpu1"])


def test_a_job_runs_on_one_kind_of_device() -> None:
    assert device_class(["cpu0", "cpu1"]) == "cpu"
    assert device_class(["gpu0"]) == "cuda"
    with pytest.raises(UsageError, match="gpu0, cpu0: a job runs on GPUs or on CPUs"):
        device_class(["gpu0", "cpu0"])
