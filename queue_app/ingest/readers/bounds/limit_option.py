"""How the limits are written that a job raises."""

from queue_app.errors import UsageError
from queue_app.ingest.readers.bounds.limits import NAMES, OPTION


def parse_limits(text: str) -> str:
    """Names and whole numbers, as in `record=300_000_000,id=10000`; answers them in the order of `Limits`.

    Raises UsageError for what is none.
    """
    asked: dict[str, int] = {}
    for part in text.split(","):
        name, _, number = (each.strip() for each in part.partition("="))
        if name not in NAMES or name in asked:
            known = ", ".join(NAMES)
            raise UsageError(
                f"{OPTION} {text}: each of its names once, as in record=300000000; there are {known}"
            )
        asked[name] = _number(text, number)
    return ",".join(f"{name}={asked[name]}" for name in NAMES if name in asked)


def _number(text: str, number: str) -> int:
    try:
        found = int(number)
    except ValueError:
        found = 0
    if found < 1:
        raise UsageError(f"{OPTION} {text}: {number!r} is no whole number above 0")
    return found
