"""How numbers and lists are written for people, the same on every screen and in every file."""

from collections.abc import Sequence
from datetime import datetime


def duration(seconds: float) -> str:
    """`12 s`, `3 min 05 s`, `2 h 07 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def percent(share: float | None) -> str:
    """`33%`; nothing for what is not known. Only what is complete is 100%."""
    if share is None:
        return ""
    return "100%" if share >= 1 else f"{min(round(100 * share), 99)}%"


def rate(per_second: float) -> str:
    """`1,204`, and of what is slow one digit more."""
    return f"{per_second:,.0f}" if per_second >= 10 or not per_second else f"{per_second:.1f}"


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 shard`, `2 shards`, `3 batches`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """`a`, `a and b`, `a, b and c`; of many the first ones and how many more."""
    shown = list(names) if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1:,} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def at_this_time(text: str) -> str:
    """`2026-11-30 17:36:13 text`, by the local clock, as the workers' logs have it."""
    return f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}"
