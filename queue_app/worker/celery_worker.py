"""Celery's worker as every Holdfast worker is one: however it is started, it talks little while it is idle.

Gossip has each worker hear every other's heartbeat, and mingle has each ask all others when it starts: work
that grows with the square of the fleet, for logical clocks and revoked tasks that nobody here reads.
"""

import logging
import sys
from typing import Any

from billiard.exceptions import WorkerLostError
from celery.apps.worker import Worker
from celery.platforms import EX_FAILURE
from celery.utils.log import get_multiprocessing_logger

from queue_app.errors import UsageError
from queue_app.host.lasting_threads import UNEXPECTED_STATUS
from queue_app.server_address import without_secrets
from queue_app.shown import visible_lines
from queue_app.shown_log import show_safely

EVENT_HEARTBEAT_SECONDS = 10
"""How often Flower hears that a worker is there; it takes one for gone after twice as long. No lease hangs on
it."""


class DeviceWorker(Worker):
    """What `app.Worker` is, behind `celery -A queue_app worker` and everything else that starts one."""

    def on_before_init(self, quiet: bool = False, **options: Any) -> None:
        """Celery's own words about an address that is none would repeat it."""
        try:
            _ = self.app.server_url
        except UsageError as error:
            raise SystemExit(f"holdfast: {error}") from None
        super().on_before_init(quiet, **options)

    def setup_logging(self, colorize: bool | None = None) -> Any:
        handled = super().setup_logging(colorize)
        loggers = (logging.getLogger(), logging.getLogger("celery.task"), get_multiprocessing_logger())
        for logger in filter(None, loggers):
            show_safely(logger, lambda: str(self.app.server_url))
        return handled

    def startup_info(self, artlines: bool = True) -> str:
        told: str = super().startup_info(artlines)
        return visible_lines(without_secrets(told, self.app.server_url))

    def prepare_args(self, **options: Any) -> dict[str, Any]:
        """The options of the command line, and what they may not say otherwise."""
        every = options.get("heartbeat_interval") or EVENT_HEARTBEAT_SECONDS
        return {**options, "without_gossip": True, "without_mingle": True, "heartbeat_interval": every}

    was_up = False

    def on_consumer_ready(self, consumer: Any) -> None:
        super().on_consumer_ready(consumer)
        self.was_up = True

    def stop(self, in_sighandler: bool = False, exitcode: int | None = None) -> None:
        """An error that ends it once it was up says so by its status: the cause may be gone next time.

        A child that is killed at its start is none of these: who kills it once does so again.
        """
        is_child_lost = isinstance(sys.exception(), WorkerLostError)
        unexpected = exitcode == EX_FAILURE and self.was_up and not is_child_lost
        super().stop(in_sighandler=in_sighandler, exitcode=UNEXPECTED_STATUS if unexpected else exitcode)
