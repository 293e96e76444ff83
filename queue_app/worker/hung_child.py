"""A child that hangs, or does not run at all: when it is taken for that, and killed."""

import contextlib
import logging
import os
import signal

from queue_app.settings import RuntimeConfig
from queue_app.worker.device_worker import child_state

log = logging.getLogger(__name__)


def end_hung(child_pid: int, config: RuntimeConfig) -> None:
    """A child that hangs is killed: its lease ends with it, and its batch comes under suspicion.

    One that does not run at all has lost its lease by then, and its queue would wait for it for ever.
    Twice the lease: what only waited for a busy machine may find that out by itself.
    """
    if not child_pid:  # 0 would mean this process and all of its group
        return
    patience = 2 * config.lease_seconds
    seconds = child_state.stalled_seconds(child_pid)
    if child_state.is_stopped(child_pid, patience):
        reason = f"it has not run for {patience:.0f} s"
    elif seconds >= config.stall_seconds:
        reason = f"no batch for {seconds:.0f} s"
    else:
        return
    log.error("%s: process %d is killed", reason, child_pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child_pid, signal.SIGKILL)
