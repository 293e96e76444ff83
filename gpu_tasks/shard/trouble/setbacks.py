"""Setbacks: what a task meets beside its shard. The server is away, or says what nobody understands.

No message is ever sent again with a delay, for a stranger could do so too: who has a message in hand waits
here. The pauses grow, are counted and told, and end at once when the worker is to leave.
"""

import logging
import time
from collections.abc import Callable

import redis
from kombu.exceptions import OperationalError

from gpu_tasks.errors import JobHopeless
from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.trouble import pause_seconds
from queue_app.errors import Damage, HoldfastError
from queue_app.settings import runtime_config
from queue_app.worker.device_worker import child_state
from queue_app.worker.metrics.counters import Count, counters

log = logging.getLogger(__name__)

AWAY = (*TRANSIENT, OperationalError)
"""What is raised while the server is away: by its own client, and by kombu's."""
NO_ANSWER = (*AWAY, redis.ResponseError, HoldfastError)
"""What asking for a next shard ends with where there is none to be had just now."""
LOOK_SECONDS = 0.2
FOR_GOOD = (Damage, JobHopeless)
"""The job has ended with it: Celery may tell it as the failure that it is."""


class Setbacks:
    """Those of this process, in a row."""

    def __init__(self) -> None:
        self.in_row = 0

    def outlast(self, task: Callable[[], str]) -> str:
        """Do what a message asks for, as soon as the server is there; answers in a word how it ended.

        What fails otherwise before it had a shard costs a pause and the message: the shard is dealt again.
        """
        while True:
            try:
                ended = task()
            except AWAY as error:
                counters.add(Count.SERVER_WAITS)
                if not self._wait(f"the server is away: {error}"):
                    return "server away"
            except FOR_GOOD:
                raise
            except Exception as error:
                counters.add(Count.TROUBLES)
                log.error("not begun", exc_info=error)
                self._wait(f"{type(error).__name__}: {error}")
                return "not begun"
            else:
                self.in_row = 0
                return ended

    def _wait(self, why: str) -> bool:
        """False when the worker was told to leave before the pause was over."""
        self.in_row += 1
        seconds = pause_seconds(self.in_row, runtime_config().retry_seconds)
        log.warning("setback %d, going on in %.1f s: %s", self.in_row, seconds, why)
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not child_state.is_draining():
            time.sleep(min(left, LOOK_SECONDS))
        return not child_state.is_draining()


setbacks = Setbacks()
