"""What a run looks like: a live picture on a terminal, plain lines every few seconds elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from queue_app.coordination.events import Event, EventKind
from queue_app.shown import visible, visible_lines
from queue_app.status.job_snapshot import JobSnapshot
from queue_app.status.text import TEXT_MOST, progress_line
from queue_app.status.view import View
from queue_app.wording import at_this_time

PLAIN_EVERY_SECONDS = 5.0
UNCHANGED_EVERY_SECONDS = 60.0


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

    def update(self, now: JobSnapshot) -> None: ...


class PlainView:
    """A line with its time when something happens, and every few seconds how far it is; seldom where that
    stands still."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._progress = ""
        self._said_at = float("-inf")
        self._told: set[Event] | None = None
        self._retried = ""

    def say(self, text: str) -> None:
        print(visible_lines(at_this_time(text)), file=self._stream, flush=True)

    def update(self, now: JobSnapshot) -> None:
        for event in self._new(now):
            self.say(visible(event.text, TEXT_MOST))
        progress = progress_line(now)
        rest = UNCHANGED_EVERY_SECONDS if progress == self._progress else PLAIN_EVERY_SECONDS
        if time.monotonic() - self._said_at >= rest or now.ended:
            self._progress, self._said_at = progress, time.monotonic()
            self.say(progress)

    def _new(self, now: JobSnapshot) -> Iterator[Event]:
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
