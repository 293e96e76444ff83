"""Every fault: a small function that does one bad thing to the stage.

Each answers which queues' workers it hit, or None when there was nothing to hit.
"""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from chaos.stage import Stage, Worker, send
from checkpoint.owner import identify
from queue_app import keys
from queue_app.celery_app import EMBED_SHARD, make_app
from queue_app.processes import kill_session

LEASE_SECONDS = 3.0
Hit = tuple[str, ...]
"""The queues whose workers were hit."""


class Kind(StrEnum):
    """What a fault counts as in the totals."""

    KILL = "process kills"
    ZOMBIE = "zombies"
    SERVER = "server kills"
    FLUSH = "flushes"
    NETWORK = "network faults"
    MESSAGE = "message faults"
    PRODUCER = "producer faults"


@dataclass(frozen=True, slots=True)
class Fault:
    """`weight` is how often it comes in one round of the bag that faults are drawn from."""

    name: str
    kind: Kind
    strike: Callable[[Stage], Hit | None]
    weight: int = 1


# ---- processes


def kill_child(stage: Stage) -> Hit | None:
    worker = stage.pick_worker()
    child = worker and worker.child()
    if not worker or not child:
        return None
    return (worker.queue,) if send(signal.SIGKILL, identify(child)) else None


def kill_parent(stage: Stage) -> Hit | None:
    worker = stage.pick_worker()
    if not worker:
        return None
    worker.killed = True
    return (worker.queue,) if send(signal.SIGKILL, identify(worker.parent)) else None


def kill_tree(stage: Stage) -> Hit | None:
    worker = stage.pick_worker()
    if not worker:
        return None
    worker.killed = True
    kill_session(worker.parent)
    return (worker.queue,)


def stop_child(stage: Stage) -> Hit | None:
    worker = stage.pick_worker()
    child = worker and worker.child()
    return _stop(stage, worker, [child]) if worker and child else None


def stop_tree(stage: Stage) -> Hit | None:
    worker = stage.pick_worker()
    child = worker and worker.child()
    return _stop(stage, worker, [worker.parent, child]) if worker and child else None


def _stop(stage: Stage, worker: Worker, pids: list[int]) -> Hit | None:
    """Stop the processes until well after their lease is over, then have them go on."""
    processes = [identify(pid) for pid in pids]
    worker.stopped = True
    stopped = [send(signal.SIGSTOP, process) for process in processes]
    if not any(stopped):
        worker.stopped = False
        return None

    def go_on() -> None:
        for process in processes:
            send(signal.SIGCONT, process)
        worker.stopped = False

    stage.later(LEASE_SECONDS + stage.rng.uniform(1, 3), go_on)
    return (worker.queue,)


def terminate(stage: Stage) -> Hit | None:
    """SIGTERM, a grace that is sometimes too short, then SIGKILL."""
    worker = stage.pick_worker()
    if not worker:
        return None
    worker.killed = True
    worker.process.terminate()

    def lose_patience() -> None:
        if worker.is_up():
            kill_session(worker.parent)

    stage.later(stage.rng.uniform(0.1, 4), lose_patience)
    return (worker.queue,)


# ---- server and network


def kill_server(stage: Stage) -> Hit | None:
    away = stage.rng.choice([0.0, 0.5, 4.0])
    return _all(stage) if stage.kill_server(lose_data=False, away_seconds=away) else None


def lose_server_data(stage: Stage) -> Hit | None:
    return _all(stage) if stage.kill_server(lose_data=True, away_seconds=stage.rng.uniform(0, 2)) else None


def flush(stage: Stage) -> Hit | None:
    if not stage.server.is_running():
        return None
    stage.client.flushall()
    return _all(stage)


def cut_connections(stage: Stage) -> Hit | None:
    stage.proxy.cut()
    return _all(stage)


def half_open_connections(stage: Stage) -> Hit | None:
    stage.proxy.half_open()
    return _all(stage)


def lose_replies(stage: Stage) -> Hit | None:
    stage.proxy.lose_replies()
    stage.later(stage.rng.uniform(0.2, 2), stage.proxy.cut)
    return _all(stage)


def partition(stage: Stage) -> Hit | None:
    stage.proxy.partition(True)
    stage.later(stage.rng.uniform(1, 5), lambda: stage.proxy.partition(False))
    return _all(stage)


def _all(stage: Stage) -> Hit:
    return tuple(stage.queues)


# ---- messages


def delete_queues(stage: Stage) -> Hit | None:
    if not stage.server.is_running():
        return None
    stage.client.delete(*stage.queues)
    return _all(stage)


def delete_unacked(stage: Stage) -> Hit | None:
    """The books of what is delivered and not acknowledged."""
    if not stage.server.is_running():
        return None
    books = [key for queue in stage.queues for key in _book(queue).values()]
    stage.client.delete(*books)
    return _all(stage)


def duplicate_message(stage: Stage) -> Hit | None:
    """A second copy of a message that waits, or else of one that is being worked on."""
    if not stage.server.is_running():
        return None
    queue = stage.rng.choice(stage.queues)
    known = stage.client.lrange(queue, 0, -1)
    in_hand = [
        json.dumps(json.loads(payload)[0]) for payload in stage.client.hvals(_book(queue)["unacked_key"])
    ]
    messages = [*known, *in_hand]
    if not messages:
        return None
    for target in stage.queues:
        stage.client.rpush(target, stage.rng.choice(messages))
    return _all(stage)


GARBAGE = ("", "not json", "7", "null", "[]", "{}", '{"body": "!"}', '{"body": "e30=", "properties": {}}')


def garbage_message(stage: Stage) -> Hit | None:
    """What is no message at all."""
    if not stage.server.is_running():
        return None
    queue = stage.rng.choice(stage.queues)
    stage.client.rpush(queue, stage.rng.choice(GARBAGE))
    return (queue,)


def nonsense_task(stage: Stage) -> Hit | None:
    """A proper message that asks for what there is not."""
    if not stage.server.is_running():
        return None
    queue = stage.rng.choice(stage.queues)
    known = sorted(stage.jobs.iterdir())
    job_dir = str(stage.rng.choice(known)) if known else "/nowhere"
    choices: list[list[object]] = [["no-job", "/nowhere", 0], ["no-job", job_dir, 7], [], [None, None, None]]
    arguments = stage.rng.choice(choices)
    name = stage.rng.choice([EMBED_SHARD, "gpu_tasks.no_such_task"])
    app = make_app(stage.url)
    with app.connection_for_write() as connection:
        app.send_task(name, args=arguments, queue=queue, connection=connection, retry=False)
    app.close()
    return (queue,)


def stale_mutex(stage: Stage) -> Hit | None:
    """Kombu's lock on restoring messages, left by a worker that died with it: nobody will let it go."""
    if not stage.server.is_running():
        return None
    for queue in stage.queues:
        stage.client.set(_book(queue)["unacked_mutex_key"], b"left by the dead")
    return _all(stage)


def _book(queue: str) -> dict[str, str]:
    return keys.unacked(f"{queue}@{os.uname().nodename}")


# ---- kill points: armed here, reached by whichever worker comes first


def arm(point: str) -> Callable[[Stage], Hit | None]:
    def strike(stage: Stage) -> Hit | None:
        """Counted when it fires, which `Chaos` watches for."""
        (stage.kill_points / point).touch()
        return None

    return strike


POINTS = {
    "before-commit": "kill before a commit",
    "after-commit": "kill between commit and report",
    "before-done-record": "kill between publish and done record",
    "after-done-record": "kill between done record and done file",
    "before-completion": "kill between done file and completion",
    "after-completion": "kill after a completion",
    "after-last-completion": "kill between last completion and export message",
    "before-export": "kill before the export",
    "before-meta": "kill between output and meta.json",
}

WORKER_FAULTS = (
    Fault("SIGKILL of the child", Kind.KILL, kill_child, 6),
    Fault("SIGKILL of the parent", Kind.KILL, kill_parent, 3),
    Fault("SIGKILL of the whole tree", Kind.KILL, kill_tree, 3),
    Fault("SIGTERM, grace, SIGKILL", Kind.KILL, terminate),
    Fault("SIGSTOP of the child past its lease", Kind.ZOMBIE, stop_child, 2),
    Fault("SIGSTOP of the tree past its lease", Kind.ZOMBIE, stop_tree),
    *(Fault(name, Kind.KILL, arm(point)) for point, name in POINTS.items()),
)
SERVER_FAULTS = (
    Fault("server SIGKILL, restart on its AOF", Kind.SERVER, kill_server, 2),
    Fault("server SIGKILL, restart without data", Kind.SERVER, lose_server_data),
    Fault("FLUSHALL", Kind.FLUSH, flush),
    Fault("connections cut", Kind.NETWORK, cut_connections),
    Fault("connections half-open", Kind.NETWORK, half_open_connections),
    Fault("replies lost, then cut", Kind.NETWORK, lose_replies),
    Fault("partition", Kind.NETWORK, partition),
)
MESSAGE_FAULTS = (
    Fault("queues deleted", Kind.MESSAGE, delete_queues),
    Fault("unacked books deleted", Kind.MESSAGE, delete_unacked),
    Fault("message duplicated", Kind.MESSAGE, duplicate_message),
    Fault("garbage message", Kind.MESSAGE, garbage_message),
    Fault("message of a task that makes no sense", Kind.MESSAGE, nonsense_task),
    Fault("stale unacked_mutex", Kind.MESSAGE, stale_mutex),
)
