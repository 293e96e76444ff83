"""What a run looks like: a live picture on a terminal, plain lines every few seconds elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from queue_app.coordination.events import Event, EventKind
from queue_app.coordination.states import JobState
from queue_app.coordination.trouble import Trouble
from queue_app.status.snapshot import Snapshot, WorkerView
from queue_app.wording import count, duration, percent, rate

PLAIN_EVERY_SECONDS = 5.0
UNCHANGED_EVERY_SECONDS = 60.0
UNATTENDED = "no worker is at work on it"


class View(Protocol):
    """Where a run shows itself: a terminal's live display, or plain lines."""

    def say(self, text: str) -> None:
        """One line about a step."""

    def update(self, now: Snapshot) -> None:
        """The job as it stands; called a few times a second."""


@contextmanager
def open_view(*, quiet: bool, stream: TextIO | None = None, timed: bool = True) -> Iterator[View]:
    """The view that fits: nothing, a terminal's live display, or lines. Without `stream`: standard error.

    `timed`: the run begins with the view, which tells how long it has taken.
    """
    stream = stream or sys.stderr
    if quiet or stream is None:  # None: whoever started this program has closed it
        yield QuietView()
    elif stream.isatty():
        from rich.console import Console

        from queue_app.status.live import LiveView

        with LiveView(Console(file=stream), timed=timed) as live:
            yield live
    else:
        yield PlainView(stream)


class QuietView:
    """Shows nothing."""

    def say(self, text: str) -> None: ...

    def update(self, now: Snapshot) -> None: ...


class PlainView:
    """A line when something happens, and every few seconds how far it is; seldom where that stands still."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._progress = ""
        self._said_at = float("-inf")
        self._told: set[Event] | None = None
        self._retried = ""

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def update(self, now: Snapshot) -> None:
        for event in self._new(now):
            self.say(event.text)
        progress = progress_line(now)
        rest = UNCHANGED_EVERY_SECONDS if progress == self._progress else PLAIN_EVERY_SECONDS
        if time.monotonic() - self._said_at >= rest or now.ended:
            self._progress, self._said_at = progress, time.monotonic()
            self.say(progress)

    def _new(self, now: Snapshot) -> Iterator[Event]:
        """What happened since the last snapshot; the first one's events are those of an earlier run."""
        if self._told is None:
            self._told = set(now.events)
        if not now.trouble:
            self._retried = ""
        for event in now.events:
            # An attempt that fails again and again says the same each time.
            if event not in self._told and event.text != self._retried:
                self._retried = event.text if event.kind is EventKind.RETRIED else self._retried
                yield event
        if now.events:  # none are known between two runs, when the job directory answers
            self._told = set(now.events)


def progress_line(now: Snapshot) -> str:
    """`running  1,204/3,652 sequences (33%), 10/32 shards, 210 seq/s, 12 s left`."""
    settled = now.done + now.quarantined
    share = percent(settled / now.total if now.total else 1.0)
    shards = f"{now.shards.get('done', 0):,}/{now.num_shards:,} shards"
    parts = [f"{now.state}  {settled:,}/{now.total:,} sequences ({share})", shards]
    if rates := _rate_text(now):
        parts.append(rates)
    return ", ".join(parts)


def _rate_text(now: Snapshot) -> str:
    if not now.rate:
        return ""
    left = "" if now.eta_seconds is None else f", {duration(now.eta_seconds)} left"
    return f"{rate(now.rate)} seq/s{left}"


def describe(now: Snapshot) -> str:
    """Several lines about one job, for `status`."""
    lines = [f"job {now.job}: {progress_line(now)}"]
    if now.quarantined:
        lines.append(f"  {now.quarantined:,} quarantined")
    if now.trouble and not now.ended:
        lines.append(f"  tried again: {now.trouble}")
    if now.reason:
        lines.append(f"  {now.reason}")
    counts = ", ".join(f"{number} {state}" for state, number in now.shards.items() if number)
    lines.append(f"  shards: {counts}")
    if not now.ended:
        lines += [f"  {worker_line(worker, now)}" for worker in now.workers] or [f"  {unattended(now)}"]
    elif now.remedy:
        lines.append(f"  {now.remedy}")
    return "\n".join(lines)


def unattended(now: Snapshot) -> str:
    """What there is to say of a job that no worker works on."""
    return f"{UNATTENDED}; {now.remedy}" if now.remedy else UNATTENDED


def without_shard(now: Snapshot) -> str:
    """What a worker that holds no shard does: as long as some wait, it loads the model or fetches one."""
    waits = now.state is JobState.RUNNING and now.shards.get("pending")
    return "getting ready" if waits else "idle"


def trouble_text(trouble: Trouble) -> str:
    """`cannot begin: /models/esm2: no such model (tried 3 times in 4.1 s)`."""
    seconds = duration(max(0.0, trouble.seen - trouble.since))
    return f"cannot begin: {trouble.text} (tried {count(trouble.times, 'time')} in {seconds})"


def worker_line(worker: WorkerView, now: Snapshot) -> str:
    """`gpu0@host (cuda:0, pid 712): shard 3, 45/114, 105 seq/s, 7,800 tokens/s, fill 98%, wait 1%`."""
    parts = [f"{worker.name} ({worker.device}, pid {worker.pid}): "]
    if worker.trouble is not None:
        return parts[0] + trouble_text(worker.trouble)
    if worker.shard is None:
        return parts[0] + without_shard(now)
    said = [f"shard {worker.shard}", f"{worker.shard_done:,}/{worker.shard_total:,}"]
    if figures := worker.figures:
        said.append(f"{rate(figures.sequences_per_second)} seq/s")
        said.append(f"{rate(figures.tokens_per_second)} tokens/s")
        shares = {"fill": figures.fill, "wait": figures.wait_share, "GPU": figures.gpu_share}
        said += [f"{name} {percent(share)}" for name, share in shares.items() if share is not None]
    return parts[0] + ", ".join(said)
