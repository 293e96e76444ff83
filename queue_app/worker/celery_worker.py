"""Celery's worker as every Holdfast worker is one: however it is started, it talks little while it is idle.

Gossip has each worker hear every other's heartbeat, and mingle has each ask all others when it starts: work
that grows with the square of the fleet, for logical clocks and revoked tasks that nobody here reads.
"""

from typing import Any

from celery.apps.worker import Worker
from celery.platforms import EX_FAILURE

from queue_app.host.lasting_threads import UNEXPECTED_STATUS

EVENT_HEARTBEAT_SECONDS = 10
"""How often Flower hears that a worker is there; it takes one for gone after twice as long. No lease hangs on
it."""


class DeviceWorker(Worker):
    """What `app.Worker` is, behind `celery -A queue_app worker` and everything else that starts one."""

    def prepare_args(self, **options: Any) -> dict[str, Any]:
        """The options of the command line, and what they may not say otherwise."""
        every = options.get("heartbeat_interval") or EVENT_HEARTBEAT_SECONDS
        return {**options, "without_gossip": True, "without_mingle": True, "heartbeat_interval": every}

    was_up = False

    def on_consumer_ready(self, consumer: Any) -> None:
        super().on_consumer_ready(consumer)
        self.was_up = True

    def stop(self, in_sighandler: bool = False, exitcode: int | None = None) -> None:
        """An error that ends it once it was up says so by its status: the cause may be gone next time."""
        unexpected = exitcode == EX_FAILURE and self.was_up
        super().stop(in_sighandler=in_sighandler, exitcode=UNEXPECTED_STATUS if unexpected else exitcode)
