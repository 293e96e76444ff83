"""The small tables that a notebook shows."""

from collections.abc import Iterable
from html import escape

LETTERS_SHOWN = 60


def html_table(caption: str, header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Everything is text, and escaped; what is long is cut."""
    head = _row(header, "th")
    body = "".join(_row(row, "td") for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead>{head}</thead><tbody>{body}</tbody></table>"


def _row(cells: Iterable[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(_cut(cell))}</{tag}>" for cell in cells) + "</tr>"


def _cut(text: str) -> str:
    return text if len(text) <= LETTERS_SHOWN else text[: LETTERS_SHOWN - 1] + "…"
