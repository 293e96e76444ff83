"""A bar chart as SVG, drawn by hand: bars with their least and most, in groups."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from xml.sax.saxutils import escape

LABELS, BARS, VALUES = 420, 420, 60
ROW, GAP = 22, 34
OURS, OTHERS, INK, PALE = "#1b6e8c", "#b9c6cc", "#22313a", "#6b7a83"


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    values: Sequence[float]
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    title: str
    bars: Sequence[Bar]


def bar_chart(title: str, groups: Sequence[Group]) -> str:
    """The longest bar of all takes the whole width."""
    longest = max(max(bar.values) for group in groups for bar in group.bars)
    height = GAP + sum(GAP + ROW * len(group.bars) for group in groups) + 10
    width = LABELS + BARS + VALUES
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    font = 'font-family="system-ui, sans-serif" font-size="13"'
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font} role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        text(12, 22, title, weight="bold"),
        *rows(groups, BARS / longest),
        "</svg>", "",
    ])  # fmt: skip


def rows(groups: Sequence[Group], scale: float) -> Iterator[str]:
    y = GAP
    for group in groups:
        y += GAP
        yield text(12, y - 12, group.title, fill=PALE)
        for bar in group.bars:
            yield from row(bar, y - 4, scale)
            y += ROW


def row(bar: Bar, y: int, scale: float) -> Iterator[str]:
    """The bar is the median; the line over its end runs from the least to the most."""
    middle, least, most = median(bar.values), min(bar.values), max(bar.values)
    length, at = middle * scale, y + ROW / 2 - 3
    yield text(LABELS - 8, y + 13, bar.label, anchor="end", weight="bold" if bar.ours else "normal")
    yield (
        f'<rect x="{LABELS}" y="{y}" width="{length:.1f}" height="{ROW - 6}" '
        f'fill="{OURS if bar.ours else OTHERS}"/>'
    )
    yield (
        f'<line x1="{LABELS + least * scale:.1f}" x2="{LABELS + most * scale:.1f}" y1="{at}" y2="{at}" '
        f'stroke="{INK}"/>'
    )
    yield text(LABELS + max(length, most * scale) + 6, y + 13, f"{middle:.2f}")


def text(
    x: float, y: float, words: str, *, fill: str = INK, anchor: str = "start", weight: str = "normal"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{escape(words)}</text>"
    )
