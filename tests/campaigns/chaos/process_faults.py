"""Faults of the workers' processes: killed and stopped from outside, or at a point inside."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

from checkpoint.process_identity import ProcessId, identify
from queue_app.host.processes import kill_session
from tests.campaigns.chaos.faults import Fault, Hit, Kind
from tests.campaigns.chaos.stage import EPOCH, Stage, Worker, send

POLL_SECONDS = 0.2

# ---- from outside


def kill_child(stage: Stage) -> Hit | None:
    worker = stage.pick_worker()
    child = worker and worker.child()
    if not worker or not child or not send(signal.SIGKILL, identify(child)):
        return None
    stage.note_end(child)
    return (worker.queue,)


def kill_parent(stage: Stage) -> Hit | None:
    worker = stage.pick_worker()
    if not worker:
        return None
    worker.killed = True
    child = worker.child()
    if not send(signal.SIGKILL, identify(worker.parent)):
        return None
    stage.note_end(child)
    return (worker.queue,)


def kill_tree(stage: Stage) -> Hit | None:
    worker = stage.pick_worker()
    if not worker:
        return None
    worker.killed = True
    child = worker.child()
    kill_session(worker.parent)
    stage.note_end(child)
    return (worker.queue,)


def terminate(stage: Stage) -> Hit | None:
    """SIGTERM, a grace that is sometimes too short, then SIGKILL."""
    worker = stage.pick_worker()
    if not worker:
        return None
    worker.killed = True
    worker.process.terminate()
    fault = stage.striking

    def lose_patience() -> None:
        if worker.is_up():
            child = worker.child()
            kill_session(worker.parent)
            stage.note_end(child, fault=fault)

    stage.later(stage.rng.uniform(0.1, 4), lose_patience)
    return (worker.queue,)


def stop_child(stage: Stage) -> Hit | None:
    worker = stage.pick_worker()
    child = worker and worker.child()
    return _stop(stage, worker, child, [child]) if worker and child else None


def stop_tree(stage: Stage) -> Hit | None:
    worker = stage.pick_worker()
    child = worker and worker.child()
    return _stop(stage, worker, child, [worker.parent, child]) if worker and child else None


def _stop(stage: Stage, worker: Worker, child: int, pids: list[int]) -> Hit | None:
    processes = [identify(pid) for pid in pids]
    stopped = [send(signal.SIGSTOP, process) for process in processes]
    if not any(stopped):
        return None
    stage.note_end(child, fatal=False)
    _wake_later(stage, worker, processes)
    return (worker.queue,)


def _wake_later(stage: Stage, worker: Worker, processes: list[ProcessId | None]) -> None:
    """Have the processes go on well after their lease is over; best when somebody else has their shard."""
    worker.stopped = True
    shard = stage.journal.shard_of(worker.queue)
    times_begun = stage.journal.begun[shard] if shard else 0
    patience = time.monotonic() + stage.pace.zombie_seconds_most

    def go_on() -> None:
        taken = shard is None or stage.journal.begun[shard] > times_begun
        if not taken and time.monotonic() < patience:
            stage.later(POLL_SECONDS, go_on)
            return
        for process in processes:
            send(signal.SIGCONT, process)
        worker.stopped = False

    stage.later(stage.pace.lease_seconds + stage.rng.uniform(1, 3), go_on)


# ---- at a point inside: armed here, reached by whichever worker comes first


def arm(point: str) -> Callable[[Stage], Hit | None]:
    def strike(stage: Stage) -> Hit | None:
        """Counted when it fires, which `Chaos` watches for."""
        (stage.kill_points / point).touch()
        return None

    return strike


KILL_POINTS = {
    "before-commit": "kill before a commit",
    "after-commit": "kill between commit and report",
    "before-done-record": "kill between publish and done record",
    "after-done-record": "kill between done record and done file",
    "before-completion": "kill between done file and completion",
    "after-completion": "kill after a completion",
    "after-last-completion": "kill between last completion and export message",
    "before-export": "kill before the export",
    "before-card": "kill between output and run card",
}
STOP_POINTS = {
    "stop-before-commit": "SIGSTOP with a commit in hand, past its lease",
    "stop-before-done-record": "SIGSTOP with a done record in hand, past its lease",
    "stop-before-completion": "SIGSTOP with a completion in hand, past its lease",
}
MEMORY_POINTS = {
    "out-of-memory": "out of memory once",
    "out-of-memory-twice": "out of memory twice for one batch",
}
POINTS = {**KILL_POINTS, **STOP_POINTS, **MEMORY_POINTS}


def note_fired(stage: Stage, fired: Path) -> tuple[str, Hit]:
    """A worker reached an armed point: answers which fault that was, and whom it hit."""
    point, queue, pid, _ = fired.name.split(".")
    fault = POINTS[point]
    if point not in MEMORY_POINTS:
        at = fired.stat().st_ctime - EPOCH
        stage.note_end(int(pid), fault=fault, fatal=point in KILL_POINTS, at=at)
    if point in STOP_POINTS:
        # As when its machine is suspended: while the parent is there, the shard waits for its own queue.
        worker = stage.workers[queue]
        processes = [identify(worker.parent), identify(int(pid))]
        send(signal.SIGSTOP, processes[0])
        _wake_later(stage, worker, processes)
    return fault, (queue,)


PROCESS_FAULTS = (
    Fault("SIGKILL of the child", Kind.KILL, kill_child, 8),
    Fault("SIGKILL of the parent", Kind.KILL, kill_parent, 4),
    Fault("SIGKILL of the whole tree", Kind.KILL, kill_tree, 4),
    Fault("SIGTERM, grace, SIGKILL", Kind.KILL, terminate),
    Fault("SIGSTOP of the child past its lease", Kind.ZOMBIE, stop_child),
    Fault("SIGSTOP of the tree past its lease", Kind.ZOMBIE, stop_tree, 2),
    *(Fault(name, Kind.KILL, arm(point)) for point, name in KILL_POINTS.items()),
    Fault(STOP_POINTS["stop-before-commit"], Kind.ZOMBIE, arm("stop-before-commit"), 4),
    Fault(STOP_POINTS["stop-before-done-record"], Kind.ZOMBIE, arm("stop-before-done-record")),
    Fault(STOP_POINTS["stop-before-completion"], Kind.ZOMBIE, arm("stop-before-completion")),
    *(Fault(name, Kind.MEMORY, arm(point)) for point, name in MEMORY_POINTS.items()),
)
