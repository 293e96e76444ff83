"""The small tables that a notebook shows."""

from collections.abc import Iterable
from html import escape


def html_table(caption: str, rows: Iterable[tuple[str, str]]) -> str:
    """A name and what is told of it in each row. Everything is text, and escaped."""
    cells = (f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows)
    return f"<table><caption>{escape(caption)}</caption><tbody>{''.join(cells)}</tbody></table>"
