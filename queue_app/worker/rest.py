"""A worker in trouble rests: it takes no message until it is to look again, and costs others nothing.

Its child says what it failed at and gives the shard back; that there was trouble at all, the parent sees from
the counter that they share, and asks the server only then.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

LOOK_SECONDS = 10.0
"""So often a worker that rests asks whether there is another job meanwhile, or it was left alone."""


class Rest:
    """Takes one worker from its queues and brings it back. `is_resting` tells which it is."""

    def __init__(self, queues: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._queues = tuple(queues)
        self._clock = clock
        self.is_resting = False

    def step(self, consumer: Any, until: float) -> None:
        """Call at every tick of the parent, from any thread. `until` is a time of this clock.

        Celery keeps what is cancelled cancelled over a lost connection; while there is none, nothing is
        changed, for the next tick finds it as it is.
        """
        self.is_resting = self._clock() < until
        tasks = getattr(consumer, "task_consumer", None)
        if tasks is None:
            return
        change = consumer.cancel_task_queue if self.is_resting else consumer.add_task_queue
        for queue in self._queues:
            if tasks.consuming_from(queue) == self.is_resting:
                consumer.call_soon(change, queue)  # kombu's channels belong to the consumer's own thread


class TroubleWatch:
    """Knows until when a worker rests. `num_troubles` counts all that it ever failed at."""

    def __init__(
        self, num_troubles: Callable[[], float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._num_troubles = num_troubles
        self._clock = clock
        self._seen = self._settled = -1.0  # an earlier life of this worker may have left some
        self._until = self._asked = float("-inf")

    def until(self, ask: Callable[[], float | None]) -> float:
        """A time of this clock, past where it need not rest. `ask` answers for how many seconds it has
        nothing to begin, None when it is in no trouble.
        """
        now, count = self._clock(), self._num_troubles()
        if count == self._settled:
            return float("-inf")
        if count == self._seen and now < min(self._until, self._asked + LOOK_SECONDS):
            return self._until
        seconds = ask()
        self._seen, self._asked = count, now
        if seconds is None:
            self._settled = count
        self._until = now + (seconds or 0.0)
        return self._until
