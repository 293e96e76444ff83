"""Steps that a worker's parent takes again and again: what one of them raises is told, and ends nothing.

Each is tried again after a pause that doubles, so that an error which comes every time fills no log.
"""

import logging
import time
from collections.abc import Callable, Iterable

from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.trust.told_once import ToldOnce
from queue_app.host.lasting_threads import end_process
from queue_app.worker.metrics.counters import Count, counters

log = logging.getLogger(__name__)

PAUSE_MOST_SECONDS = 20.0
HOPELESS_SECONDS = 120.0


def lasting_steps(runs: Iterable[Callable[[], None]], *, is_supervised: bool) -> list["LastingStep"]:
    """Of one thread."""
    faults = ToldOnce(log, lambda: counters.add(Count.GARBAGE))
    return [LastingStep(run, faults, is_supervised=is_supervised) for run in runs]


class LastingStep:
    """One of them. `is_supervised`: the process ends when the step has failed for two minutes without an end,
    as another will be started in its place; else it goes on trying."""

    def __init__(
        self,
        run: Callable[[], None],
        faults: ToldOnce,
        *,
        is_supervised: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._faults = faults
        self._is_supervised = is_supervised
        self._clock = clock
        self._num_failures = 0
        self._due = self._well = clock()

    def take(self) -> None:
        """Unless it failed just now."""
        if self._clock() < self._due:
            return
        try:
            with self._faults.passed_over():
                self._run()
        except TRANSIENT as error:
            log.warning("not registered: %s", error)
        except Exception as error:
            self._fail(error)
            return
        self._num_failures, self._well = 0, self._clock()

    def _fail(self, error: Exception) -> None:
        self._num_failures += 1
        pause = min(PAUSE_MOST_SECONDS, 2.0**self._num_failures)
        self._due = self._clock() + pause
        trace = error if self._num_failures == 1 else None
        log.error("tried again in %.0f s: %s: %s", pause, type(error).__name__, error, exc_info=trace)
        if self._is_supervised and self._clock() - self._well > HOPELESS_SECONDS:
            end_process(f"for {HOPELESS_SECONDS:.0f} s nothing was looked after: {error}", error)
