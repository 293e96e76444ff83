"""How far a run is, in a notebook: one output below its cell, which is drawn anew in its place."""

import io
import sys
import time
from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console

from queue_app.shown import visible_lines
from queue_app.status.job_snapshot import JobSnapshot
from queue_app.status.live import LiveView
from queue_app.status.screens import open_view
from queue_app.status.view import View

WIDTH, HEIGHT = 100, 40
"""Letters and lines of the picture."""
DRAWN_EVERY_SECONDS = 0.5
LINES_KEPT = 12
"""Of what was said: the latest."""
PRE = '<pre style="white-space:pre;overflow-x:auto;line-height:normal;font-family:monospace">{code}</pre>'


def open_progress(progress: bool | None) -> AbstractContextManager[View]:
    """What the `progress` of a call asks for. None: in a notebook it is shown, elsewhere it is not."""
    if progress is not False and in_notebook():
        return NotebookView()
    return open_view(quiet=not progress)


def in_notebook() -> bool:
    """True in the kernel of a notebook (Jupyter, VS Code, Colab). A terminal's IPython is none."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)


class NotebookView(LiveView):
    """What was said, and below it the picture. The last one stays, and is saved with the notebook."""

    def __init__(self) -> None:
        super().__init__(_console())
        self._said: list[str] = []
        self._drawn_at = float("-inf")
        self._handle: Any = None

    def say(self, text: str) -> None:
        self._said.append(visible_lines(text))
        self._draw()

    def update(self, now: JobSnapshot) -> None:
        super().update(now)
        if now.ended or time.monotonic() - self._drawn_at > DRAWN_EVERY_SECONDS:
            self._draw()

    def _draw(self, *, is_last: bool = False) -> None:
        if self._handle is not None:
            self._handle.update(self._bundle(is_last=is_last), raw=True)
            self._drawn_at = time.monotonic()

    def _bundle(self, *, is_last: bool) -> dict[str, str]:
        """As a notebook takes it: HTML, and plain text for what shows none."""
        console = _console()
        for text in self._said[-LINES_KEPT:]:
            console.print(text, highlight=False, markup=False, soft_wrap=True)
        if self._now is not None or not is_last:
            console.print(self._picture())
        html = console.export_html(inline_styles=True, code_format=PRE, clear=False)
        return {"text/html": html, "text/plain": console.export_text()}

    def __enter__(self) -> "NotebookView":
        from IPython.display import display

        first = self._bundle(is_last=False)
        self._handle = display(first, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exception: object) -> None:
        self._draw(is_last=True)


def _console() -> Console:
    """It writes nowhere, and records."""
    return Console(
        file=io.StringIO(), record=True, width=WIDTH, height=HEIGHT, force_terminal=False, force_jupyter=False
    )
