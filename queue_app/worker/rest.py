"""A worker in trouble rests: it begins nothing until it is to look again, and costs others nothing.

No shard of a job is dealt to a worker that is in trouble with it (dealing.lua), so its own queue may stay
open: what comes there is of another job. While it can begin nothing at all, it leaves the public queue of its
device to workers of the same name on other hosts. That there was trouble at all its parent sees from a
counter that it shares with the child, and asks the server only then.
"""

import time
from collections.abc import Callable
from typing import Any

import redis

from queue_app.coordination.trouble import TroubleRegister, pauses_of
from queue_app.settings import runtime_config

LOOK_SECONDS = 10.0
"""So often a worker that was in trouble asks whether there is another job, or it was left alone with one."""


class Rest:
    """Takes a worker from the public queue of its device, and brings it back. `is_resting`: which it is."""

    def __init__(self, queue: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue = queue
        self._clock = clock
        self.is_resting = False

    def step(self, consumer: Any, until: float) -> None:
        """Call at every tick of the parent, from any thread. `until` is a time of this clock.

        Celery keeps what is cancelled cancelled over a lost connection. While there is none, nothing is
        changed: the next tick finds it as it is.
        """
        self.is_resting = self._clock() < until
        tasks = getattr(consumer, "task_consumer", None)
        if tasks is not None and tasks.consuming_from(self._queue) == self.is_resting:
            change = consumer.cancel_task_queue if self.is_resting else consumer.add_task_queue
            consumer.call_soon(change, self._queue)  # kombu's channels belong to the consumer's own thread


class TroubleWatch:
    """Knows until when a worker rests. `num_troubles` counts all that it ever failed at."""

    def __init__(
        self, num_troubles: Callable[[], float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._num_troubles = num_troubles
        self._clock = clock
        self._seen = -1.0  # an earlier life of this worker may have left some
        self._until = self._due = float("-inf")

    def until(self, ask: Callable[[], float | None]) -> float:
        """A time of this clock; past where the worker need not rest. `ask` answers for how many seconds it
        has nothing to begin, None when it is in no trouble.
        """
        now, count = self._clock(), self._num_troubles()
        is_over = self._until <= now and self._until > float("-inf")
        if count == self._seen and now < self._due and not is_over:
            return self._until
        seconds = ask()
        self._seen = count
        was_ever = count > 0 or seconds is not None
        self._due = now + LOOK_SECONDS if was_ever else float("inf")
        self._until = now + seconds if seconds else float("-inf")
        return self._until


def failures_rested_from(client: redis.Redis, job_id: str, worker: str) -> int | None:
    """How often in a row a worker failed at a job, once the pause after the last time is over; None before
    that, without a failure, and where there is no hope."""
    register = TroubleRegister(client, job_id, pauses_of(runtime_config()))
    trouble = register.of(worker)
    if trouble is None or trouble.is_lasting or register.wait_seconds(trouble) > 0:
        return None
    return trouble.times
