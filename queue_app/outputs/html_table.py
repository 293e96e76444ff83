"""The small tables that a notebook shows."""

from collections.abc import Iterable
from html import escape

from queue_app.shown import visible

MOST = 4_000
"""Letters in a cell."""


def html_table(caption: str, rows: Iterable[tuple[str, str]]) -> str:
    """A name and what is told of it in each row. Everything is text, and escaped."""
    cells = (
        f"<tr><th>{escape(visible(name, MOST))}</th><td>{escape(visible(text, MOST))}</td></tr>"
        for name, text in rows
    )
    return (
        f"<table><caption>{escape(visible(caption, MOST))}</caption><tbody>{''.join(cells)}</tbody></table>"
    )
