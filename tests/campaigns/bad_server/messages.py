"""Hostile and mutated messages: into the workers' queues, the public ones, their books and remote control.

Each known kind comes first, then mutations of a real message without end. Half of them meet workers with a
key, half workers without one.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path

from queue_app.coordination import keys
from tests.campaigns.bad_server.harness import Report, Stage, stage, with_canaries
from tests.support.hostile_messages import CELERYS_OWN, STRANGERS, message, mutated, text_of

Hostile = tuple[str, str | bytes]
"""Its kind and its text."""


def campaign(folder: Path, number: int, seed: int) -> Report:
    """Write `number` messages; half of them with the fleet's key in place."""
    report = Report()
    for with_key, share in ((False, number - number // 2), (True, number // 2)):
        with stage(folder / f"key-{with_key}".lower(), num_workers=2, with_key=with_key) as made:
            report.add(_write(made, share, random.Random(f"{seed} {with_key}")))
    return report


def _write(made: Stage, number: int, rng: random.Random) -> Report:
    report, kinds = Report(), list(PLACES)
    turns = with_canaries(made, report)
    for (kind, text), _ in zip(islice(_hostile(rng), number), turns, strict=False):
        place = rng.choice(kinds)
        PLACES[place](made, rng, text)
        report.written[f"{kind} → {place}"] += 1
    report.canaries.append(made.canary())
    report.broken += [f"{name} was replaced" for name in made.replaced()]
    report.broken += [f"process {pid} has ended" for pid in made.dead()]
    if "Traceback" in made.log():
        report.broken.append(f"a traceback in a log of {made.folder}")
    return report


def _hostile(rng: random.Random) -> Iterator[Hostile]:
    known = chain(STRANGERS.values(), CELERYS_OWN.values())
    yield from (("of a known kind", text_of(each)) for each in known)
    while True:
        whole = rng.choice((message(), *CELERYS_OWN.values()))
        yield "mutated", mutated(rng, whole)


# ---- where it is written


def _to_own_queue(made: Stage, rng: random.Random, text: str | bytes) -> None:
    made.client.lpush(rng.choice(made.names), text)


def _to_public_queue(made: Stage, rng: random.Random, text: str | bytes) -> None:
    made.client.lpush(rng.choice(made.queues), text)


def _into_book(made: Stage, rng: random.Random, text: str | bytes) -> None:
    """As what a worker holds; into the book of a worker, or into the one that kombu would share."""
    book = rng.choice((keys.unacked(rng.choice(made.names)), keys.unacked("nobody")))
    line = f'[{text.decode(errors="replace") if isinstance(text, bytes) else text}, "", "cpu0"]'
    tag = rng.choice(("tag", "\0", f"{rng.random()}"))
    made.client.hset(book["unacked_key"], tag, rng.choice((line, text)))
    made.client.zadd(book["unacked_index_key"], {tag: rng.choice((0, 1.0, 4e9))})


def _into_pidbox(made: Stage, rng: random.Random, text: str | bytes) -> None:
    """As an order to all workers."""
    order = {
        "method": rng.choice(("shutdown", "pool_grow", "revoke")),
        "arguments": {"n": 9},
        "destination": None,
    }
    made.client.publish("/0.celery.pidbox", rng.choice((text, json.dumps(order))))
    made.client.lpush(f"{rng.choice(made.names)}.celery.pidbox", text)


PLACES: Mapping[str, Callable[[Stage, random.Random, str | bytes], None]] = {
    "own queue": _to_own_queue,
    "public queue": _to_public_queue,
    "book": _into_book,
    "remote control": _into_pidbox,
}
