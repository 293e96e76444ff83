"""What the chaos runner does inside a worker: die, stop or run out of memory at places no signal from
outside would hit, and note what was computed and committed.

Python imports this module at its start from whatever directory of PYTHONPATH holds it, so the product
carries no hook. A point is armed by a file of its name under CHAOS_KILL_POINTS; whoever renames that file
has the point to himself, so it strikes once. CHAOS_HOST makes the process believe that it runs on another
host (as in a container of its own), so that nobody can prove its death or end it by its pid. CHAOS_EPOCH
is the wall clock's time at zero of the monotonic clock: with it log lines bear the true time in a process
whose wall clock is moved.
"""

import json
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import wraps
from types import ModuleType
from typing import Any

from tests.support.after_import import change_after_import

ARMED = os.environ.get("CHAOS_KILL_POINTS", "")
WORKER = os.environ.get("CHAOS_WORKER", "")
HOST = os.environ.get("CHAOS_HOST", "")
EVENTS = os.environ.get("CHAOS_EVENTS", "")
EPOCH = float(os.environ.get("CHAOS_EPOCH", "0"))

OUT_OF_MEMORY = {"out-of-memory": 1, "out-of-memory-twice": 2}
"""Point -> how often in a row the batch that reaches it does not fit."""


# ---- points


def take(point: str) -> bool:
    """True for the one that gets an armed point."""
    try:
        os.rename(  # noqa: PTH104 - early and quick
            f"{ARMED}/{point}", f"{ARMED}/{point}.{WORKER}.{os.getpid()}.fired"
        )
    except FileNotFoundError:
        return False
    return True


def reach(point: str) -> None:
    """Die here if that is armed, or stop until somebody sends SIGCONT.

    Only a worker on a host of its own stops: on ours, the next owner of its shard would end it.
    """
    if take(point):
        os.kill(os.getpid(), signal.SIGKILL)
    if HOST and take(f"stop-{point}"):
        os.kill(os.getpid(), signal.SIGSTOP)


def wrap(owner: Any, name: str, *, before: str = "", after: str = "", last: str = "") -> None:
    """Put points before and after a function of a class or module.

    `last` is reached after a call that ended the job: `complete` then answers with its state.
    """
    function = getattr(owner, name)

    @wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        if before:
            reach(before)
        answer = function(*arguments, **options)
        if after:
            reach(after)
        if last and isinstance(answer, tuple) and answer[0] == "done":
            reach(last)
        return answer

    setattr(owner, name, wrapped)


# ---- notes: one line each, whole or not at all, by the clock that nobody moves


def note(event: str, **fields: Any) -> None:
    line = json.dumps({"event": event, "at": time.monotonic(), "pid": os.getpid(), **fields})
    descriptor = os.open(EVENTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def stamp_truly() -> None:
    make = logging.getLogRecordFactory()

    def made(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = make(*arguments, **options)
        record.created = EPOCH + time.monotonic()
        record.msecs = record.created % 1 * 1000
        return record

    logging.setLogRecordFactory(made)


# ---- what is changed in which module


def change_store(module: ModuleType) -> None:
    store = module.CheckpointStore
    commit, check_token = store.commit, store._check_token

    @wraps(commit)
    def noted_commit(self: Any, blocks: Sequence[Any], *, token: int, **options: Any) -> None:
        fields = {"store": str(self.path), "token": token, "batches": [block.batch_idx for block in blocks]}
        note("committing", **fields)
        try:
            commit(self, blocks, token=token, **options)
        except Exception:
            note("not committed", **fields)
            raise
        note("committed", **fields)

    @wraps(check_token)
    def noted_check(self: Any, transaction: Any, token: int) -> None:
        try:
            check_token(self, transaction, token)
        except module.StaleToken:
            note("fenced", store=str(self.path), token=token)
            raise

    store.commit, store._check_token = noted_commit, noted_check
    wrap(store, "commit", before="before-commit", after="after-commit")
    wrap(store, "set_done", before="before-done-record", after="after-done-record")


def change_writer(module: ModuleType) -> None:
    """A batch is handed to the writer as soon as it is computed."""
    writer = module.CheckpointWriter
    put = writer.put

    @wraps(put)
    def noted_put(self: Any, block: Any, *arguments: Any) -> None:
        split = block.ordinals.tolist() if block.split else []
        fields = {"store": str(self.store.path), "token": self.token, "batch": block.batch_idx}
        note("computed", **fields, split=split)
        put(self, block, *arguments)

    writer.put = noted_put


def change_crash_log(module: ModuleType) -> None:
    begin_probe = module.CrashLog.begin_probe

    @wraps(begin_probe)
    def noted_probe(self: Any, ordinal: int) -> None:
        note("probed", ordinal=ordinal)
        begin_probe(self, ordinal)

    module.CrashLog.begin_probe = noted_probe


class ShortMemory:
    """Makes a launch fail as the device does whose memory is full: once, or twice for the same batch."""

    def __init__(self) -> None:
        self.times_left = 0
        self.num_rows = 0

    def has_room(self, num_rows: int) -> bool:
        """A single row is spared: one that does not fit is quarantined, which no passing shortage may do."""
        if not self.times_left and num_rows > 1:
            self.times_left = next((times for point, times in OUT_OF_MEMORY.items() if take(point)), 0)
            self.num_rows = num_rows
        if not self.times_left or num_rows != self.num_rows:
            self.times_left = 0
            return True
        self.times_left -= 1
        return False


memory = ShortMemory()


def change_launch(staged: Any) -> None:
    from gpu_tasks.errors import OutOfMemory

    launch = staged.launch

    @wraps(launch)
    def short_launch(self: Any, *arguments: Any) -> Any:
        if not memory.has_room(self.batch.num_rows):
            raise OutOfMemory(f"chaos: no room for {self.batch.num_rows} rows")
        return launch(self, *arguments)

    staged.launch = short_launch


def change_manifest(module: ModuleType) -> None:
    complete = {"before": "before-completion", "after": "after-completion", "last": "after-last-completion"}
    wrap(module.CheckpointManifest, "complete", **complete)


def change_export(module: ModuleType) -> None:
    wrap(module, "export_once", before="before-export")
    wrap(module, "write_durably", before="before-card")


def move_host(module: ModuleType) -> None:
    if HOST:
        module.host_key = lambda: HOST  # type: ignore[attr-defined]


AFTER_IMPORT: dict[str, Callable[[ModuleType], None]] = {
    "checkpoint.process_identity": move_host,
    "checkpoint.store": change_store,
    "checkpoint.writer": change_writer,
    "checkpoint.crash_log": change_crash_log,
    "gpu_tasks.models.mock": lambda module: change_launch(module.MockStaged),
    "gpu_tasks.models.packed": lambda module: change_launch(module.PackedStaged),
    "queue_app.coordination.manifest": change_manifest,
    "queue_app.outputs.export": change_export,
}


if ARMED:
    change_after_import(AFTER_IMPORT)
    stamp_truly()
