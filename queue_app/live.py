"""The live view on a terminal: a job's bar and rates, a line per worker, the latest events.

A picture of one snapshot, drawn anew with each. A worker between two shards has no figures for a moment; then
those of the shard before are shown.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from queue_app.events import Event, EventKind
from queue_app.figures import Figures
from queue_app.monitor import Snapshot, WorkerView
from queue_app.words import duration, percent, rate

EVENTS_SHOWN = 5
LINES_BESIDE_WORKERS = 16
"""What the view needs of a terminal's height beside the workers: bar, headings, events, and what was said."""
BAR_COLUMNS = 40
SHARD_COLUMNS = 22
SHARD_BAR_COLUMNS = 8
FIGURES_KEPT_SECONDS = 5.0
STATE_STYLES = {"done": "bold green", "failed": "bold red", "cancelled": "bold red", "paused": "bold yellow"}
EVENT_STYLES = {
    EventKind.FAILED: "red",
    EventKind.RETRIED: "yellow",
    EventKind.QUARANTINED: "yellow",
    EventKind.DAMAGED: "yellow",
}


class LiveView:
    """Messages scroll by above the picture; the last one stays when the run has ended."""

    def __init__(self, console: Console) -> None:
        self._began = time.monotonic()
        self._now: Snapshot | None = None
        self._figures: dict[str, tuple[float, Figures]] = {}
        self._live = Live(console=console, get_renderable=self._picture, refresh_per_second=4)

    def say(self, text: str) -> None:
        self._live.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def update(self, now: Snapshot) -> None:
        self._now = replace(now, workers=tuple(self._remembered(worker) for worker in now.workers))
        if now.ended:
            self._live.refresh()

    def _remembered(self, worker: WorkerView) -> WorkerView:
        """With its last figures, unless they are old."""
        time_now = time.monotonic()
        if worker.figures is not None:
            self._figures[worker.name] = (time_now, worker.figures)
            return worker
        seen, figures = self._figures.get(worker.name, (0.0, None))
        return replace(worker, figures=figures) if time_now - seen < FIGURES_KEPT_SECONDS else worker

    def _picture(self) -> RenderableType:
        if self._now is None:
            return Spinner("dots", "starting: the workers come up while the input is read")
        height = self._live.console.height
        return picture(self._now, time.monotonic() - self._began, max(2, height - LINES_BESIDE_WORKERS))

    def __enter__(self) -> "LiveView":
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()


def picture(now: Snapshot, seconds: float, workers_most: int) -> Group:
    """The whole view, which has been open for `seconds`; workers may take `workers_most` lines."""
    parts: list[RenderableType] = [_headline(now), _rates(now, seconds)]
    if now.trouble and not now.ended:
        parts.append(Text(f"tried again: {now.trouble}", style="yellow"))
    if now.workers and not now.ended:
        parts += ["", _workers(now.workers, workers_most)]
    elif not now.ended:
        parts.append(Text("no worker is at work on it", style="yellow"))
    if now.events:
        parts += ["", _events(now.events)]
    return Group(*parts)


# ---- the job


def _headline(now: Snapshot) -> Table:
    settled = now.done + now.quarantined
    line = Table.grid(padding=(0, 2))
    line.add_row(
        Text(str(now.state), style=STATE_STYLES.get(str(now.state), "bold")),
        _bar(settled, now.total, BAR_COLUMNS),
        f"{settled:,}/{now.total:,} sequences",
        percent(settled / now.total if now.total else 1.0),
        f"{now.shards.get('done', 0)}/{now.num_shards} shards",
    )
    return line


def _bar(completed: int, total: int, width: int) -> ProgressBar:
    return ProgressBar(
        total=max(total, 1), completed=completed, width=width, complete_style="cyan", finished_style="green"
    )


def _rates(now: Snapshot, seconds: float) -> Text:
    parts = [f"{duration(seconds)} so far"]
    if now.rate and not now.ended:
        parts.append(f"{rate(now.rate)} seq/s")
    if now.tokens_per_second and not now.ended:
        parts.append(f"{rate(now.tokens_per_second)} tokens/s")
    if now.eta_seconds and not now.ended:
        parts.append(f"{duration(now.eta_seconds)} left")
    if now.quarantined:
        parts.append(f"{now.quarantined:,} quarantined")
    return Text("   ".join(parts))


# ---- its workers


def _workers(workers: Sequence[WorkerView], most: int) -> Table:
    with_gpu = any(worker.figures and worker.figures.gpu_memory_bytes for worker in workers)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    # The one column that may break is the one that gives way where the terminal is narrow.
    table.add_column("worker", overflow="ellipsis", min_width=6)
    table.add_column("device", no_wrap=True, min_width=6)
    table.add_column("shard", no_wrap=True, min_width=SHARD_COLUMNS)
    for name in ("seq/s", "tokens/s", "fill", "wait", *(("GPU", "memory") if with_gpu else ())):
        table.add_column(name, justify="right", no_wrap=True, min_width=max(len(name), 4))
    shown = workers if len(workers) <= most else workers[: most - 1]
    for worker in shown:
        table.add_row(worker.name, worker.device, _shard(worker), *_figures(worker, with_gpu))
    if len(shown) < len(workers):
        table.add_row(Text(f"and {len(workers) - len(shown)} more", style="dim"))
    return table


def _shard(worker: WorkerView) -> RenderableType:
    if worker.shard is None:
        return Text(" idle", style="dim")
    line = Table.grid(padding=(0, 1))
    bar = _bar(worker.shard_done, worker.shard_total, SHARD_BAR_COLUMNS)
    line.add_row(f"{worker.shard:>5}", bar, f"{worker.shard_done:,}/{worker.shard_total:,}")
    return line


def _figures(worker: WorkerView, with_gpu: bool) -> list[str]:
    figures = worker.figures
    if figures is None:
        return []
    shown = [
        rate(figures.sequences_per_second),
        rate(figures.tokens_per_second),
        percent(figures.fill),
        percent(figures.wait_share),
    ]
    if with_gpu:
        used, total = figures.gpu_memory_bytes, figures.gpu_memory_total_bytes
        memory = f"{used / 1e9:.0f}/{total / 1e9:.0f} GB" if used and total else ""
        shown += [percent(figures.gpu_share), memory]
    return shown


# ---- what happened


def _events(events: Sequence[Event]) -> Group:
    lines = [_event(event) for event in events[-EVENTS_SHOWN:]]
    if len(events) > EVENTS_SHOWN:
        lines.insert(0, Text(f"{len(events) - EVENTS_SHOWN} earlier events", style="dim"))
    return Group(*lines)


def _event(event: Event) -> Text:
    at = datetime.fromtimestamp(event.time).strftime("%H:%M:%S")
    text = (event.text, EVENT_STYLES.get(event.kind, "cyan"))
    return Text.assemble((at, "dim"), "  ", text, no_wrap=True, overflow="ellipsis")
