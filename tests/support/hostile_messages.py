"""A message of ours as its sender writes it, and what strangers make of it. By the rows of the audit."""

import base64
import json
import random
import string
import uuid
from collections.abc import Mapping
from typing import Any

from queue_app.coordination.trust.message_gate import EMBED_SHARD, EXPORT_JOB

JOB_ID = "0123456789ab-cafecafe"
AFTERWARDS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def body(*parts: Any) -> str:
    """Of three parts; what is left out is as the sender writes it."""
    whole = [*parts, *([JOB_ID, 0], {}, AFTERWARDS)[len(parts) :]]
    return base64.b64encode(json.dumps(whole).encode()).decode()


def message(
    *,
    headers: Mapping[str, Any] | None = None,
    properties: Mapping[str, Any] | None = None,
    queue: str = "cpu0",
    **parts: Any,
) -> dict[str, Any]:
    """As Celery and kombu write one, but for the parts that are named."""
    number = str(uuid.uuid4())
    return {
        "body": body(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": EMBED_SHARD,
            "id": number,
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": number,
            "parent_id": None,
            "argsrepr": f"['{JOB_ID}', 0]",
            "kwargsrepr": "{}",
            "origin": "gen1@somewhere",
            "ignore_result": False,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
            "sent_at": 1.5e9,
            **(headers or {}),
        },
        "properties": {
            "correlation_id": number,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
            **(properties or {}),
        },
        **parts,
    }


def _nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def _export(**afterwards: Any) -> dict[str, Any]:
    return message(headers={"task": EXPORT_JOB}, body=body([JOB_ID], {}, {**AFTERWARDS, **afterwards}))


def _no_mapping(name: str) -> dict[str, Any]:
    return {**message(), name: [1, 2]}


CELERYS_OWN: Mapping[str, dict[str, Any]] = {
    "row 5: timelimit of two letters": message(headers={"timelimit": ["a", "b"]}),
    "row 6: timelimit is a number": message(headers={"timelimit": 5}),
    "row 6: stamped_headers is a number": message(headers={"stamped_headers": 5, "stamps": 5}),
    "row 17: retries without end": message(headers={"retries": 10**12}),
    "an eta in a thousand years": message(headers={"eta": "3026-01-01T00:00:00+00:00"}),
    "an eta that is none": message(headers={"eta": {"no": "time"}}),
    "expired long ago": message(headers={"expires": "1999-01-01T00:00:00+00:00"}),
    "a shadow": message(headers={"shadow": {"x": 1}}),
    "a group": message(headers={"group": "g", "group_index": "x"}),
    "argsrepr of escapes": message(headers={"argsrepr": "\x1b[2J" * 99, "kwargsrepr": 7}),
    "a reply is asked for": message(properties={"reply_to": "cpu0", "correlation_id": ["x"]}),
    "a priority that is none": message(properties={"priority": {"x": 1}}),
    "delivery_info of another queue": message(
        properties={"delivery_info": {"exchange": "x", "routing_key": 7}}
    ),
    "delivery_info is a number": message(properties={"delivery_info": 7}),
    "redelivered": message(headers={"redelivered": "yes"}),
    "sent_at is no number": message(headers={"sent_at": ["now"]}),
    "sent_at is beyond all floats": message(headers={"sent_at": 10**400}),
}
"""What Celery or kombu would obey or break at, in messages that are ours otherwise: it does not get there."""

STRANGERS: Mapping[str, str | bytes | dict[str, Any]] = {
    "nothing": "",
    "no JSON": "not json",
    "no text": b"\xff\xfe\x00",
    "a number": "7",
    "null": "null",
    "a list": "[]",
    "an empty object": "{}",
    "an object of kombu's": '{"__type__": "datetime", "__value__": 7}',
    "row 8: nested 30,000 deep": _nested(30_000),
    "an int of 5,000 digits": "9" * 5_000,
    "100 kB": json.dumps(message(headers={"argsrepr": "x" * 100_000})),
    "10 MB": "x" * 10_000_000,
    "headers are a list": _no_mapping("headers"),
    "properties are a list": _no_mapping("properties"),
    "row 16: compression": message(headers={"compression": "application/x-gzip"}),
    "row 16: compression that is null": message(headers={"compression": None}),
    "pickle": message(**{"content-type": "application/x-python-serialize"}),
    "yaml": message(**{"content-type": "application/x-yaml"}),
    "another encoding": message(**{"content-encoding": "binary"}),
    "no encoding of the body": message(properties={"body_encoding": None}),
    "an unknown encoding of the body": message(properties={"body_encoding": "rot13"}),
    "a body that is no base64": message(body="!"),
    "a body that is a number": message(body=7),
    "a body that is nested": message(body=base64.b64encode(_nested(20_000).encode()).decode()),
    "a body that is an object": message(body="e30="),
    "protocol 1": message(headers={"task": None}, body=base64.b64encode(b'{"task": "x"}').decode()),
    "a task of Celery's": message(headers={"task": "celery.backend_cleanup"}),
    "a task of nobody": message(headers={"task": "gpu_tasks.no_such_task"}),
    "a task that is a list": message(headers={"task": [EMBED_SHARD]}),
    "no task": message(headers={"task": None}),
    "no id": message(headers={"id": None}),
    "an id of 50 kB": message(headers={"id": "a" * 50_000}),
    "an id with an escape": message(headers={"id": "\x1b[2J" + "0" * 32}),
    "a tag that is a list": message(properties={"delivery_tag": ["no", "tag"]}),
    "no tag": message(properties={"delivery_tag": None}),
    "no arguments": message(body=body([])),
    "arguments of an older version": message(body=body([JOB_ID, "/nowhere", 0])),
    "row 17: NUL in a path": message(body=body([JOB_ID, "/a\0b", 0])),
    "row 17: a path of 30 kB": message(body=body([JOB_ID, "/" + "x" * 30_000, 0])),
    "NUL in the job": message(body=body(["0123456789ab-cafecaf\0", 0])),
    "a job that is a path": message(body=body(["../../etc/passwd", 0])),
    "a job with a line break": message(body=body([f"{JOB_ID}\n", 0])),
    "an index that is true": message(body=body([JOB_ID, True])),
    "an index below 0": message(body=body([JOB_ID, -1])),
    "an index of 30 million": message(body=body([JOB_ID, 30_000_000])),
    "an index that is text": message(body=body([JOB_ID, "0"])),
    "an index that is a fraction": message(body=body([JOB_ID, 0.0])),
    "keyword arguments": message(body=body([JOB_ID, 0], {"job_dir": "/x"})),
    "callbacks": message(body=body([JOB_ID, 0], {}, {**AFTERWARDS, "callbacks": [{"task": EXPORT_JOB}]})),
    "errbacks": message(body=body([JOB_ID, 0], {}, {**AFTERWARDS, "errbacks": [{"task": "x"}]})),
    "a chain": message(body=body([JOB_ID, 0], {}, {**AFTERWARDS, "chain": [{"task": "x"}]})),
    "a chord of the export": _export(chord={"task": "x"}),
    "something else afterwards": _export(more=1),
}
"""What is dropped."""


def text_of(hostile: str | bytes | dict[str, Any]) -> str | bytes:
    return json.dumps(hostile) if isinstance(hostile, dict) else hostile


# ---- mutations

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 10**12, 10**400, 1e308, float("nan"), float("inf"), "", "a", "\0", "\x1b[31m", [], {},
    ["a", "b"], {"a": {"b": []}}, "x" * 10_000, EMBED_SHARD, JOB_ID,
)  # fmt: skip


def mutated(rng: random.Random, whole: dict[str, Any]) -> str | bytes:
    """One message, changed once to three times: in its values, in its body, or in its text."""
    changed: dict[str, Any] = json.loads(json.dumps(whole))
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice((_change_value, _change_value, _change_body))(rng, changed)
    text = json.dumps(changed)
    return rng.choice((*[_as_it_is] * 5, _cut, _flip, _repeat))(rng, text)


def _change_value(rng: random.Random, changed: dict[str, Any]) -> None:
    place: Any = changed
    while True:
        name = rng.choice(sorted(place))
        if isinstance(place[name], dict) and place[name] and rng.random() < 0.8:
            place = place[name]
            continue
        if rng.random() < 0.2:
            del place[name]
        elif rng.random() < 0.2:
            place["".join(rng.choices(string.ascii_lowercase, k=8))] = rng.choice(ODD)
        else:
            place[name] = rng.choice(ODD)
        return


def _change_body(rng: random.Random, changed: dict[str, Any]) -> None:
    parts: list[Any] = [[JOB_ID, 0], {}, dict(AFTERWARDS)]
    if rng.random() < 0.3:
        parts[rng.randrange(3)] = rng.choice(ODD)
    elif rng.random() < 0.5:
        parts[0][rng.randrange(2)] = rng.choice(ODD)
    else:
        parts[2][rng.choice(sorted(AFTERWARDS))] = rng.choice(ODD)
    changed["body"] = body(*parts)


def _as_it_is(rng: random.Random, text: str) -> str:
    return text


def _cut(rng: random.Random, text: str) -> str:
    return text[: rng.randrange(len(text))]


def _flip(rng: random.Random, text: str) -> bytes:
    changed = bytearray(text.encode())
    changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _repeat(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text))
    return text[:at] + text[at : at + 40] * rng.choice((2, 3, 2_000)) + text[at + 40 :]
