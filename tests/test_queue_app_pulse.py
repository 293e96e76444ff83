"""When a worker's child counts as hung."""

import os

from queue_app.pulse import Pulse


def test_a_child_that_begins_batches_is_not_hung() -> None:
    now = 0.0
    pulse = Pulse(lambda: now)
    for now in (10.0, 20.0, 30.0):  # noqa: B007
        pulse.beat()
        assert pulse.stalled_seconds() == 0


def test_a_child_at_work_that_begins_no_batch_is_hung_for_so_long() -> None:
    now = 0.0
    pulse = Pulse(lambda: now)
    pulse.beat()
    assert pulse.stalled_seconds() == 0
    now = 40.0
    assert pulse.stalled_seconds() == 40


def test_an_idle_child_is_never_hung() -> None:
    now = 0.0
    pulse = Pulse(lambda: now)
    with pulse.at_work():
        pass
    now = 1000.0
    assert pulse.stalled_seconds() == 0


def test_the_parent_feels_the_pulse_of_its_child() -> None:
    now = 0.0
    pulse = Pulse(lambda: now)
    pulse.beat()
    pulse.stalled_seconds()
    now = 40.0
    child = os.fork()
    if child == 0:
        pulse.beat()
        os._exit(0)
    os.waitpid(child, 0)
    assert pulse.stalled_seconds() == 0
