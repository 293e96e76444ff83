"""What a run looks like: a live bar on a terminal, plain lines every few seconds elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from queue_app.monitor import Snapshot

if TYPE_CHECKING:
    from queue_app.export import ExportReport

PLAIN_EVERY_SECONDS = 5.0


class View(Protocol):
    """Where a run shows itself: a terminal's live display, or plain lines."""

    def say(self, text: str) -> None:
        """One line about a step."""

    def update(self, now: Snapshot) -> None:
        """The job as it stands; called a few times a second."""


@contextmanager
def open_view(*, quiet: bool) -> Iterator[View]:
    """The view that fits: nothing, a terminal's live display, or lines on standard error."""
    if quiet:
        yield QuietView()
    elif sys.stderr.isatty():
        with LiveView() as live:
            yield live
    else:
        yield PlainView()


class QuietView:
    """Shows nothing."""

    def say(self, text: str) -> None: ...

    def update(self, now: Snapshot) -> None: ...


class PlainView:
    """A line when something happens, and every few seconds how far it is."""

    def __init__(self) -> None:
        self._next = 0.0

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def update(self, now: Snapshot) -> None:
        if time.monotonic() >= self._next or now.ended:
            self._next = time.monotonic() + PLAIN_EVERY_SECONDS
            self.say(progress_line(now))


class LiveView:
    """One bar with rate and time left; messages scroll by above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("starting", total=None, count="", rate="")

    def say(self, text: str) -> None:
        self._progress.console.print(text, highlight=False)

    def update(self, now: Snapshot) -> None:
        self._progress.update(
            self._task,
            description=f"{now.state}",
            completed=now.done + now.quarantined,
            total=now.total,
            count=f"{now.done + now.quarantined:,}/{now.total:,} sequences",
            rate=_rate_text(now),
        )

    def __enter__(self) -> "LiveView":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()


def progress_line(now: Snapshot) -> str:
    """`running  1,204/3,652 sequences (33 %), 10/32 shards, 210 seq/s, 12 s left`."""
    settled = now.done + now.quarantined
    share = f"{settled / now.total:.0%}" if now.total else "100%"
    shards = f"{now.shards.get('done', 0)}/{now.num_shards} shards"
    parts = [f"{now.state}  {settled:,}/{now.total:,} sequences ({share})", shards]
    if rate := _rate_text(now):
        parts.append(rate)
    return ", ".join(parts)


def trouble_line(now: Snapshot) -> str:
    """What the user may have to do something about, though nothing is given up yet."""
    return f"tried again: {now.trouble}"


def _rate_text(now: Snapshot) -> str:
    if not now.rate or now.ended:
        return ""
    left = "" if now.eta_seconds is None else f", {_duration(now.eta_seconds)} left"
    return f"{now.rate:,.0f} seq/s{left}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def describe(now: Snapshot) -> str:
    """Several lines about one job, for `status`."""
    lines = [f"job {now.job}: {progress_line(now)}"]
    if now.quarantined:
        lines.append(f"  {now.quarantined:,} quarantined")
    if now.trouble and not now.ended:
        lines.append(f"  {trouble_line(now)}")
    counts = ", ".join(f"{count} {state}" for state, count in now.shards.items() if count)
    lines.append(f"  shards: {counts}")
    for worker in now.workers:
        doing = "idle" if worker.shard is None else f"shard {worker.shard}"
        lines.append(f"  {worker.name} ({worker.device}, pid {worker.pid}): {doing}")
    return "\n".join(lines)


def describe_report(report: "ExportReport") -> str:
    """What the user sees last: what was written, how much, and what was set aside."""
    lines = [f"{report.output}: {report.num_embedded:,} of {report.num_records:,} sequences embedded"]
    if report.num_quarantined:
        listed = report.output.with_name(report.output.name + ".quarantine.tsv")
        lines.append(f"{report.num_quarantined:,} quarantined, listed in {listed}")
    lines.append(f"content digest {report.output_digest}")
    return "\n".join(lines)
