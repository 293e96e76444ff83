"""What a stranger who may write to a server could put there: odd values for every family of keys."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import redis

from queue_app.coordination import keys

FOREIGN = "ffffffffffff-00000000"
"""A well-formed id of a job that nobody has."""
HUGE = "9" * 400
LARGE_BYTES = 10_000_000

TEXTS: Mapping[str, Sequence[str]] = {
    "huge": [HUGE, str(2**63 - 1), "30000000", "1e308", "99999999999999999"],
    "not a number": ["nan", "inf", "-inf", "x", "", "0x10", "1e3", "½"],
    "negative": ["-1", "-1e300", "-9223372036854775808"],
    "nesting": ["[" * 100_000, '{"a":' * 5_000, "[" * 900 + "]" * 900],
    "control": ["\x1b[2J\x1b]0;x\x07", "a\nb\r\nc\0d", "\u202e\u2028", "%s%n{}{0}"],
    "missing": ["{}", "[]", "null", " ", "p", "p 1", "0"],
    "foreign": [
        FOREIGN,
        f"{FOREIGN} 0",
        "../../etc",
        "holdfast:jobs",
        "_kombu.binding.celery",
        f"{FOREIGN} 99999999",
    ],
    "object": [
        json.dumps({"name": "cpu9@x", "queue": "cpu9", "device": {}, "host": [], "pid": "1", "owner": 5}),
        json.dumps({"text": "t", "times": 1e99, "since": "x", "seen": None, "retry_at": 1e300}),
        '{"sequences_per_second": NaN, "fill": Infinity}',
    ],
    "almost": [
        "r 10 1000 99999999999999 1 0 0 0 0",
        "p 10 -5 0 0 0 0 0 0",
        "d 1 1 1 1 1 1 1",
        "q 1 1 1 1 1 1 1 1",
    ],
}
FIELDS = (
    "state",
    "num_shards",
    "pending",
    "running",
    "done",
    "failed",
    "sequences_total",
    "sequences_done",
    "cost_total",
    "cost_done",
    "priority",
    "max_workers",
    "epoch",
    "pace",
    "kind",
    "job_dir",
    "export_by",
    "announced",
    "queues",
    "trouble",
    "gave_up",
    "one_kind",
    "signature",
    "sequences_quarantined",
)

OF_A_JOB: Mapping[str, str] = {
    "job": "hash",
    "shards": "hash",
    "pending": "zset",
    "dealt": "hash",
    "running": "zset",
    "held": "hash",
    "beats": "hash",
    "signed": "hash",
    "figures": "hash",
    "failed": "set",
    "errors": "hash",
    "tried": "hash",
    "avoid": "hash",
    "paces": "hash",
    "trouble": "hash",
    "quarantine": "hash",
    "samples": "list",
    "events": "list",
    "canary": "hash",
    "begun": "set",
}
OF_ALL: Mapping[str, str] = {
    keys.JOBS: "hash",
    keys.WORKERS: "hash",
    keys.SEEN: "zset",
    keys.FLEET: "string",
    keys.FORMER_FLEETS: "set",
    keys.DRAIN: "hash",
    keys.RECONCILER: "string",
    keys.UNENDED: "set",
    keys.UNEXPORTED: "set",
    keys.DELAYED: "zset",
    keys.LEASES: "zset",
    keys.UNSOUND: "hash",
    keys.DROPPED: "hash",
    keys.ready("cpu"): "zset",
    keys.dealt_of("cpu"): "zset",
    "holdfast:idle:cpu": "zset",
    "holdfast:hosts:cpu": "zset",
    "holdfast:ring": "zset",
    "holdfast:held_by": "hash",
    "holdfast:held_before": "hash",
    "holdfast:dealt_to": "hash",
    keys.name_claim("cpu0@host"): "string",
}
SCORES = (0.0, -1.0, 1e300, float("inf"), float("-inf"), 4294967295.0)


@dataclass(frozen=True)
class Written:
    """What one turn wrote: of which kind, and the keys that hold it now."""

    kind: str
    key: str


def write_one(
    client: redis.Redis, number: random.Random, victims: Sequence[str], workers: Sequence[str]
) -> Written:
    """An odd value under a key that is drawn; `victims` are ids of jobs."""
    if number.random() < 0.55:
        job_id, family = number.choice(victims), number.choice(sorted(OF_A_JOB))
        name, kind_of_key = f"holdfast:{{{job_id}}}:{family}", OF_A_JOB[family]
    else:
        name = family = number.choice(sorted(OF_ALL))
        kind_of_key = OF_ALL[name]
        job_id = number.choice(victims)
    kind = number.choice(["wrong type", "large", *sorted(TEXTS)])
    if kind == "wrong type":
        others = sorted(WRONG.keys() - {kind_of_key})
        _replace(client, name, WRONG[number.choice(others)])
        return Written(kind, name)
    value = "x" * LARGE_BYTES if kind == "large" else number.choice(TEXTS[kind])
    field, score = number.choice(_fields(family, job_id, workers)), number.choice(SCORES)
    try:
        _put(client, name, kind_of_key, field, value, score)
    except redis.ResponseError:  # of another type since an earlier turn
        _replace(client, name, lambda pipe, _: _put(pipe, name, kind_of_key, field, value, score))
    return Written(kind, name)


def _replace(client: redis.Redis, name: str, write: Callable[[redis.Redis, str], object]) -> None:
    """In one step: the workers write there too."""
    pipe = client.pipeline(transaction=True)
    pipe.delete(name)
    write(pipe, name)
    pipe.execute()


OF_WORKERS = ("holdfast:held_by", "holdfast:held_before", "holdfast:dealt_to")


def _fields(family: str, job_id: str, workers: Sequence[str]) -> Sequence[str]:
    if family == "job":
        return FIELDS
    if family in (keys.WORKERS, keys.DRAIN, *OF_WORKERS, "trouble", "paces"):
        return [*workers, "cpu9@gone", "no name"]
    if family in (keys.JOBS, keys.UNSOUND):
        return [job_id, FOREIGN, "x"]
    return ["0", "1", "7", "99999999", "-1", "x"]


def _put(client: redis.Redis, name: str, kind: str, field: str, value: str, score: float) -> None:
    if kind == "hash":
        client.hset(name, field, value)
    elif kind == "zset":
        client.zadd(name, {value: score})
    elif kind == "set":
        client.sadd(name, value)
    elif kind == "list":
        client.lpush(name, value)
    else:
        client.set(name, value)


WRONG: Mapping[str, Callable[[redis.Redis, str], object]] = {
    "string": lambda client, name: client.set(name, "x"),
    "hash": lambda client, name: client.hset(name, "x", "y"),
    "list": lambda client, name: client.lpush(name, "x"),
    "set": lambda client, name: client.sadd(name, "x"),
    "zset": lambda client, name: client.zadd(name, {"x": 1}),
}
