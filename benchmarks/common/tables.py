"""Tables for the terminal and as markdown."""

from collections.abc import Iterator, Sequence
from statistics import median

from rich.table import Table


def table_with(title: str, first: str, *columns: str, note: str | None = None) -> Table:
    """The first column is words, the others are figures. The note stands below the table."""
    table = Table(title=title, caption=note, caption_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def as_markdown(table: Table) -> str:
    note = [str(table.caption), ""] if table.caption else []
    return "\n".join([f"## {table.title}", "", *rows_of(table), "", *note])


def rows_of(table: Table) -> Iterator[str]:
    """With the headings, and without title and note."""
    yield row_of([str(column.header) for column in table.columns])
    yield row_of(["---"] + ["---:"] * (len(table.columns) - 1))
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        yield row_of([str(cell) for cell in cells])


def row_of(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def spread(values: Sequence[float], digits: int = 2) -> tuple[str, str, str]:
    """Median, least and most."""
    middle, least, most = (f"{value:.{digits}f}" for value in (median(values), min(values), max(values)))
    return middle, least, most
