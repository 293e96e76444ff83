"""Where a run shows itself."""

from typing import Protocol

from queue_app.status.snapshot import JobSnapshot


class View(Protocol):
    """Where a run shows itself: a terminal's live display, or plain lines."""

    def say(self, text: str) -> None:
        """One line about a step."""

    def update(self, now: JobSnapshot) -> None:
        """The job as it stands; called a few times a second."""
