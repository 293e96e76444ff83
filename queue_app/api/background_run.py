"""A run of a job in a thread of its own: told when the job stands, and stopped as Ctrl-C would stop it."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from queue_app.errors import HoldfastError
from queue_app.status.snapshot import JobSnapshot
from queue_app.status.view import View


class BackgroundRun:
    """One run. Its thread is no daemon: a program that ends without waiting for it lets it finish."""

    def __init__(
        self, run: Callable[[View], object], open_view: Callable[[], AbstractContextManager[View]]
    ) -> None:
        self._run = run
        self._open_view = open_view
        self._error: BaseException | None = None
        self._stands = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._body, name="holdfast")

    def start(self) -> None:
        """Begin, and come back when the job stands in its directory. Raises what kept it from that."""
        self._thread.start()
        try:
            self._stands.wait()
        except KeyboardInterrupt:
            self.stop()
            raise
        if not self._stopping.is_set():
            self._raise_error()

    def has_ended(self) -> bool:
        """True after the end. Raises what the run was ended by."""
        if self._thread.is_alive():
            return False
        self._raise_error()
        return True

    def stop(self) -> None:
        """Have each worker end its batch and commit; come back when all is down."""
        self._stopping.set()
        self._thread.join()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _body(self) -> None:
        try:
            with self._open_view() as view:
                self._run(_Steered(view, self._stands, self._stopping))
        except KeyboardInterrupt:
            self._error = HoldfastError("the run was stopped; what is done is committed, run again to go on")
        except BaseException as error:
            self._error = error
        finally:
            self._stands.set()


class _Steered:
    """A view that notes when it is first shown the job, and can end the run that shows itself to it."""

    def __init__(self, view: View, stands: threading.Event, stopping: threading.Event) -> None:
        self._view = view
        self._stands = stands
        self._stopping = stopping

    def say(self, text: str) -> None:
        self._view.say(text)

    def update(self, now: JobSnapshot) -> None:
        self._stands.set()
        if self._stopping.is_set():
            raise KeyboardInterrupt
        self._view.update(now)
