"""What a server holds, made into types: bounded numbers, short texts, known words, objects of known fields.

Whoever may write to the server may have put it there. What cannot be ours is a Garbage that names the key and
what stands there; it is a fault of that one job, shard or worker, and never more.
"""

import json
import math
import re
import time
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from enum import StrEnum
from typing import Any, TypeVar, cast, get_args

import redis

from queue_app.errors import HoldfastError
from queue_app.shown import visible

INDEX_MOST = 10_000_000
COUNT_MOST = 10**15
SUM_MOST = 10**18
"""Of what a job counts over all its shards."""
TIME_MOST = 1e11
TEXT_MOST = 10_000
JSON_MOST = 100_000
"""In characters: what our own entries take is a hundredth of it."""
SHOWN_MOST = 60
AHEAD_SECONDS = 30 * 24 * 3600
"""A token begins at the server's clock in ms. One that is so far ahead of ours was not given by us: it would
stop a shard for good, should it ever reach a store."""
JOB_ID = re.compile("[0-9a-f]{12}-[0-9a-f]{8}")
WORKER = re.compile(r"[\w.-]+@[^\s|]+")
WORKER_MOST = 300
_WHOLE = re.compile("-?[0-9]{1,20}")

Word = TypeVar("Word", bound=StrEnum)
Entry = TypeVar("Entry")
Told = TypeVar("Told")
Known = TypeVar("Known")


class Garbage(HoldfastError):
    """Raised when what the server holds under a key cannot be what Holdfast put there; names the key."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{visible(where)}: {why}")
        self.where = where


def _shown(value: object) -> str:
    return f"'{visible(str(value), SHOWN_MOST)}'"


def whole(text: str, where: str, most: int = COUNT_MOST, least: int = 0) -> int:
    """A whole number from `least` to `most`. Raises Garbage."""
    value = int(text) if _WHOLE.fullmatch(text) else None
    if value is None or not least <= value <= most:
        raise Garbage(where, f"{_shown(text)} is no count")
    return value


def finite(text: str | float, where: str, most: float = TIME_MOST) -> float:
    """A number that is neither NaN nor beyond `most`. Raises Garbage."""
    try:
        value = float(text) if isinstance(text, float) or len(text) <= 40 else math.nan
    except ValueError:
        value = math.nan
    if not abs(value) <= most:
        raise Garbage(where, f"{_shown(text)} is no number")
    return value


def short(text: str, where: str, most: int = TEXT_MOST) -> str:
    """A text as it is, which may hold any letters: whoever shows it makes them visible. Raises Garbage."""
    if len(text) > most:
        raise Garbage(where, f"{_shown(text)} is too long")
    return text


def word(kind: type[Word], text: str, where: str) -> Word:
    """One of the words of an enum. Raises Garbage."""
    try:
        return kind(text)
    except ValueError:
        raise Garbage(where, f"{_shown(text)} is none of {', '.join(kind)}") from None


def token(text: str, where: str) -> int:
    """A fencing token that may have been given by now, by this host's clock. Raises Garbage."""
    return whole(text, where, most=int((time.time() + AHEAD_SECONDS) * 1000))


def job_id(text: str, where: str) -> str:
    """Raises Garbage."""
    if not JOB_ID.fullmatch(text):
        raise Garbage(where, f"{_shown(text)} is no id of a job")
    return text


def worker_name(text: str, where: str) -> str:
    """`gpu0@host`, which is also the name of the worker's queue. Raises Garbage."""
    if len(text) > WORKER_MOST or not WORKER.fullmatch(text):
        raise Garbage(where, f"{_shown(text)} is no worker")
    return text


def entry(kind: type[Entry], text: str, where: str) -> Entry:
    """A dataclass from a JSON object of its fields and no others, each of the type that it is declared with.

    Raises Garbage.
    """
    told = json_object(text, where)
    found: dict[str, Any] = {}
    for field in fields(cast("Any", kind)):
        if field.name in told:
            found[field.name] = _typed(told[field.name], field.type, f"{where} {field.name}")
        elif field.default is MISSING:
            raise Garbage(where, f"{field.name} is missing")
    if odd := sorted(told.keys() - found.keys()):
        raise Garbage(where, f"{_shown(odd[0])} is no field of it")
    return kind(**found)


def json_object(text: str, where: str) -> dict[str, Any]:
    """An object of JSON. Raises Garbage, also of one that is too large or too deep."""
    try:
        told = json.loads(short(text, where, JSON_MOST))
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise Garbage(where, f"{_shown(text)} is no object of JSON")
    return told


def _typed(value: object, kind: Any, where: str) -> object:
    """A number may stand where a float is declared, and no bool where a number is."""
    kinds = get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if value is None and types.NoneType in kinds:
        return None
    if isinstance(value, bool):
        if bool in kinds:
            return value
    elif isinstance(value, int) and int in kinds and abs(value) <= SUM_MOST:
        return value
    elif isinstance(value, int | float) and float in kinds and abs(value) <= SUM_MOST:
        return float(value)
    elif isinstance(value, str) and str in kinds:
        return short(value, where)
    raise Garbage(where, f"{_shown(value)} is not what stands there")


@contextmanager
def read_from(where: str) -> Iterator[None]:
    """Within it the server's word that a key is of another type than what is read there is a Garbage."""
    try:
        yield
    except redis.ResponseError as error:
        if (fault := garbage_of(error, where)) is None:
            raise
        raise fault from None


def garbage_of(error: BaseException, where: str) -> Garbage | None:
    """What the server refused because of what it holds under a key; None for every other refusal."""
    text = str(error)
    if text.startswith("GARBAGE "):  # sound.lua names the key
        return Garbage(text.removeprefix("GARBAGE "), "the server holds there what is none of ours")
    if "WRONGTYPE" in text:
        return Garbage(where, "the server holds there another type than ours")
    return None


def readable(read: Callable[[Told], Known], told: Iterable[Told]) -> Iterator[Known]:
    """What can be read of many entries: one that is garbage keeps no other from being shown."""
    for each in told:
        try:
            yield read(each)
        except Garbage:
            continue
