"""Faults of the server, of the network before it, and of the messages in it."""

import json
import os

from queue_app.celery_app import EMBED_SHARD, make_app
from queue_app.coordination import keys
from tests.campaigns.chaos.faults import Fault, Hit, Kind, everyone
from tests.campaigns.chaos.stage import Stage

# ---- server and network


def kill_server(stage: Stage) -> Hit | None:
    away = stage.rng.choice([0.0, 0.5, 4.0])
    return everyone(stage) if stage.kill_server(lose_data=False, away_seconds=away) else None


def lose_server_data(stage: Stage) -> Hit | None:
    return (
        everyone(stage) if stage.kill_server(lose_data=True, away_seconds=stage.rng.uniform(0, 2)) else None
    )


def flush(stage: Stage) -> Hit | None:
    if not stage.server.is_running():
        return None
    stage.client.flushall()
    return everyone(stage)


def cut_connections(stage: Stage) -> Hit | None:
    stage.proxy.cut()
    return everyone(stage)


def half_open_connections(stage: Stage) -> Hit | None:
    stage.proxy.half_open()
    return everyone(stage)


def lose_replies(stage: Stage) -> Hit | None:
    stage.proxy.lose_replies()
    stage.later(stage.rng.uniform(0.2, 2), stage.proxy.cut)
    return everyone(stage)


def partition(stage: Stage) -> Hit | None:
    stage.proxy.partition(True)
    stage.later(stage.rng.uniform(1, 5), lambda: stage.proxy.partition(False))
    return everyone(stage)


# ---- messages


def delete_queues(stage: Stage) -> Hit | None:
    if not stage.server.is_running():
        return None
    stage.client.delete(*stage.queues)
    return everyone(stage)


def delete_unacked(stage: Stage) -> Hit | None:
    """The books of what is delivered and not acknowledged."""
    if not stage.server.is_running():
        return None
    books = [key for queue in stage.queues for key in _book(queue).values()]
    stage.client.delete(*books)
    return everyone(stage)


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
    return everyone(stage)


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
    choices: list[list[object]] = [["no-job", 0], ["0123456789ab-cafecafe", 7], [], [None, None]]
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
    return everyone(stage)


def _book(queue: str) -> dict[str, str]:
    return keys.unacked(f"{queue}@{os.uname().nodename}")


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
