"""What is done to every system alike: the texts, the cases, and where in a run a fault strikes."""

import json
import random
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from benchmarks.common.texts import draw_prose

WORDS_LEAST, WORDS_MOST = 4, 95


class Case(StrEnum):
    CALM = "undisturbed"
    WORKER = "one worker killed"
    ALL = "all killed, run again"
    POISON = "a record that kills"
    NAN = "a record that is NaN"
    EMPTY = "an empty text"

    @property
    def is_kill(self) -> bool:
        return self in (Case.WORKER, Case.ALL)


@dataclass(frozen=True, slots=True)
class Point:
    """One place in a run: a kill strikes when `share` of the rows was begun; `ordinal` is the bad record."""

    number: int
    share: float
    ordinal: int

    def says(self, case: Case) -> str:
        """The point in words."""
        if case is Case.CALM:
            return ""
        return f"at {self.share:.0%} of the rows" if case.is_kill else f"record {record_id(self.ordinal)}"


def draw_points(seed: int, count: int, num_rows: int) -> list[Point]:
    rng = random.Random(seed)
    return [Point(number, rng.uniform(0.25, 0.75), rng.randrange(num_rows)) for number in range(1, count + 1)]


def record_id(ordinal: int) -> str:
    return f"text-{ordinal:05d}"


def make_texts(num_rows: int, seed: int) -> list[str]:
    """Of mixed length."""

    def length(rng: random.Random) -> int:
        return min(max(round(rng.gammavariate(2.2, 16)), WORDS_LEAST), WORDS_MOST)

    return draw_prose(num_rows, random.Random(seed), length)


def write_texts(path: Path, texts: list[str], empty: int | None) -> None:
    """JSON lines with id and text; the record `empty` has none."""
    rows = [
        {"id": record_id(ordinal), "text": "" if ordinal == empty else text}
        for ordinal, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
