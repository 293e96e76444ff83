"""What one snapshot of a job looks like on a terminal: bar, rates, a line per worker, the latest events."""

import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from queue_app.coordination.events import Event, EventKind
from queue_app.shown import visible, visible_lines
from queue_app.status.job_snapshot import JobSnapshot, WorkerView
from queue_app.status.text import TEXT_MOST, trouble_text, unattended, without_shard
from queue_app.wording import count, duration, percent, rate

EVENTS_SHOWN = 5
TROUBLES_SHOWN = 3
DAY_SECONDS = 86_400
BAR_COLUMNS = 40
SHARD_BAR_COLUMNS = 8
COLUMNS = {"worker": 8, "device": 6, "shard": 22, "seq/s": 5, "tokens/s": 8, "packed": 6, "wait": 4}
GPU_COLUMNS = {"GPU": 4, "memory": 10}
"""What is told of a worker, and how many letters it takes at least."""
DEVICE_COLUMNS_MOST = 12
LEFT_OUT_FIRST = ("device", "packed", "wait", "memory", "GPU", "tokens/s")
"""Where the terminal is narrow."""
STATE_STYLES = {
    "done": "bold green",
    "failed": "bold red",
    "cancelled": "bold red",
    "paused": "bold yellow",
    "stopped": "bold yellow",
}
EVENT_STYLES = {
    EventKind.FAILED: "red",
    EventKind.RETRIED: "yellow",
    EventKind.TROUBLE: "yellow",
    EventKind.QUARANTINED: "yellow",
    EventKind.DAMAGED: "yellow",
}


def picture(now: JobSnapshot, seconds: float | None, width: int, workers_most: int) -> Group:
    """The whole view, `width` letters wide, of a run of so many seconds (None: not told); workers may take
    `workers_most` lines."""
    parts: list[RenderableType] = [_headline(now), *_rates(now, seconds)]
    if now.trouble and not now.ended:
        parts.append(Text(f"tried again: {visible(now.trouble, TEXT_MOST)}", style="yellow"))
    if now.workers and not now.ended:
        parts += ["", _workers(now, width, workers_most), *_troubles(now.workers)]
    elif not now.ended:
        parts.append(Text(visible_lines(unattended(now)), style="yellow"))
    if now.events:
        parts += ["", _events(now.events)]
    return Group(*parts)


# ---- the job


def _headline(now: JobSnapshot) -> Table:
    settled = now.done + now.quarantined
    line = Table.grid(padding=(0, 2))
    line.add_column(no_wrap=True)
    line.add_column(max_width=BAR_COLUMNS)  # the one that gives way where the terminal is narrow
    for _ in range(3):
        line.add_column(no_wrap=True)
    line.add_row(
        Text(str(now.state), style=STATE_STYLES.get(str(now.state), "bold")),
        _bar(settled, now.total),
        f"{settled:,}/{now.total:,} sequences",
        percent(settled / now.total if now.total else 1.0),
        f"{now.shards.get('done', 0):,}/{now.num_shards:,} shards",
    )
    return line


def _bar(completed: int, total: int, width: int | None = None) -> ProgressBar:
    return ProgressBar(
        total=max(total, 1), completed=completed, width=width, complete_style="cyan", finished_style="green"
    )


def _rates(now: JobSnapshot, seconds: float | None) -> Iterator[Text]:
    """A line, unless there is nothing to say."""
    parts = [] if seconds is None else [f"{duration(seconds)}{'' if now.ended else ' so far'}"]
    if now.rate:
        parts.append(f"{rate(now.rate)} seq/s")
    if now.tokens_per_second:
        parts.append(f"{rate(now.tokens_per_second)} tokens/s")
    if now.eta_seconds:
        parts.append(f"{duration(now.eta_seconds)} left")
    if now.quarantined:
        parts.append(f"{now.quarantined:,} quarantined")
    if parts:
        yield Text("   ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts))


# ---- its workers


def _workers(now: JobSnapshot, width: int, most: int) -> Table:
    columns = _columns(now.workers, width)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for name, least in columns.items():
        # The name of a worker gives way where there is no room; a device may be named by a UUID.
        table.add_column(
            name,
            justify="left" if name in ("worker", "device", "shard") else "right",
            no_wrap=name != "worker",
            min_width=least,
            max_width=DEVICE_COLUMNS_MOST if name == "device" else None,
            overflow="ellipsis",
        )
    shown = now.workers if len(now.workers) <= most else now.workers[: most - 1]
    for worker in shown:
        cells = {
            "worker": visible(worker.name),
            "device": visible(worker.device),
            "shard": _shard(worker, now),
            **_figures(worker),
        }
        table.add_row(*(cells.get(name, "") for name in columns))
    if len(shown) < len(now.workers):
        table.add_row(Text(f"and {len(now.workers) - len(shown)} more", style="dim"))
    return table


def _troubles(workers: Sequence[WorkerView]) -> Iterator[Text]:
    """A line about each that cannot begin, below the table: its words are longer than any column."""
    troubled = [(worker.name, worker.trouble) for worker in workers if worker.trouble]
    for name, trouble in troubled[:TROUBLES_SHOWN]:
        yield Text(f"{visible(name)} {trouble_text(trouble)}", style="yellow")
    if len(troubled) > TROUBLES_SHOWN:
        yield Text(f"and {len(troubled) - TROUBLES_SHOWN} more that cannot begin", style="yellow")


def _columns(workers: Sequence[WorkerView], width: int) -> dict[str, int]:
    """Those that there is something to say in, and room for."""
    with_gpu = any(worker.figures and worker.figures.gpu_memory_bytes for worker in workers)
    columns = COLUMNS | GPU_COLUMNS if with_gpu else dict(COLUMNS)
    for name in LEFT_OUT_FIRST:
        if sum(columns.values()) + 2 * (len(columns) - 1) > width:
            columns.pop(name, None)
    return columns


def _shard(worker: WorkerView, now: JobSnapshot) -> RenderableType:
    if worker.trouble is not None:
        return Text(" cannot begin", style="yellow")
    if worker.shard is None:
        return Text(f" {without_shard(now)}", style="dim")
    line = Table.grid(padding=(0, 1))
    bar = _bar(worker.shard_done, worker.shard_total, SHARD_BAR_COLUMNS)
    line.add_row(f"{worker.shard:>5}", bar, f"{worker.shard_done:,}/{worker.shard_total:,}")
    return line


def _figures(worker: WorkerView) -> dict[str, str]:
    """Nothing of one whose shard is not under way."""
    figures = worker.figures
    if figures is None or figures.fill is None:
        return {}
    used, total = figures.gpu_memory_bytes, figures.gpu_memory_total_bytes
    return {
        "seq/s": rate(figures.sequences_per_second),
        "tokens/s": rate(figures.tokens_per_second),
        "packed": percent(figures.fill),
        "wait": percent(figures.wait_share),
        "GPU": percent(figures.gpu_share),
        "memory": f"{used / 1e9:.0f}/{total / 1e9:.0f} GB" if used and total else "",
    }


# ---- what happened


def _events(events: Sequence[Event]) -> Group:
    """The latest; what came several times in a row takes one line."""
    rows = [list(same) for _, same in groupby(events, key=lambda event: event.text)]
    lines = [_event(row[-1], len(row)) for row in rows[-EVENTS_SHOWN:]]
    if len(rows) > EVENTS_SHOWN:
        earlier = sum(map(len, rows[:-EVENTS_SHOWN]))
        lines.insert(0, Text(count(earlier, "earlier event"), style="dim"))
    return Group(*lines)


def _event(event: Event, times: int) -> Text:
    is_old = time.time() - event.time > DAY_SECONDS
    at = datetime.fromtimestamp(event.time).strftime("%d %b  " if is_old else "%H:%M:%S")
    repeated = f" ({times} times)" if times > 1 else ""
    style = EVENT_STYLES.get(event.kind, "cyan")
    told = visible(event.text, TEXT_MOST)
    return Text.assemble(
        (at, "dim"), "  ", (told, style), (repeated, "dim"), no_wrap=True, overflow="ellipsis"
    )
