"""The parent's side: one child a thread, started when it is first needed, and asked for file after file."""

import contextlib
import json
import socket
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Iterator
from typing import IO, Any

from queue_app.host.child_processes.confined_child import ONE_THREAD, POOL_OF_MALLOC, Standstill
from queue_app.host.memory import FEW_HEAPS
from queue_app.host.processes import PYTHON, dying_with_us, how_it_ended, kill_session
from queue_app.host.surroundings import child_environment
from queue_app.ingest.readers.bounds.limits import DEFAULT
from queue_app.ingest.readers.columnar.frames import (
    BATCH,
    CLOSE,
    JSON,
    NEXT,
    OPEN,
    receive,
    send_json,
)

MODULE = "queue_app.ingest.readers.columnar"
MEMORY_MOST = 512 << 20
"""Bytes that the child may have, where nobody asks for longer records than usual."""
STANDSTILL_SECONDS = 10.0
"""So long it may compute without reading a byte or handing over a row."""
LOOK_SECONDS = 1.0
ENDING_SECONDS = 5.0


class ChildGone(Exception):
    """Raised when the child has ended; says how."""


class StoodStill(ChildGone):
    """Raised when it was ended, as it came no further."""


_of_thread = threading.local()
"""A process dies with the thread that started it (PR_SET_PDEATHSIG): each thread has its own."""


def reading(descriptor: int, request: dict[str, Any]) -> Iterator[dict[str, Any] | bytearray]:
    """What the child says of an open file: its columns or an error, batches, and that it has ended.

    Raises ChildGone.
    """
    child, first = _opened(descriptor, request)
    try:
        yield first
        yield from child.go_on(first)
    finally:
        child.leave_file()


def _opened(descriptor: int, request: dict[str, Any]) -> tuple["_Child", dict[str, Any]]:
    """One that was idle may have ended meanwhile: then another is started, once."""
    child: _Child | None = getattr(_of_thread, "child", None)
    memory = memory_for(request["limits"]["record"])
    if child is not None and child.is_idle and child.memory >= memory and child.process.poll() is None:
        try:
            return child, child.open(descriptor, request)
        except StoodStill:
            raise
        except ChildGone:
            pass
    _of_thread.child = child = _Child(memory)
    return child, child.open(descriptor, request)


def memory_for(record: int) -> int:
    """Bytes for a child that reads records of so many letters."""
    return MEMORY_MOST * max(1, -(-record // DEFAULT.record))


class _Child:
    """`is_idle`: it reads no file. A second reader of the same thread gets another child."""

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._channel, theirs = socket.socketpair()
        self._channel.settimeout(LOOK_SECONDS)
        with theirs:
            self.process = subprocess.Popen(
                dying_with_us([*PYTHON, "-m", MODULE, str(memory)]),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                env=child_environment(**FEW_HEAPS, **ONE_THREAD, **POOL_OF_MALLOC),
                start_new_session=True,
            )
        self._standstill = Standstill(self.process.pid)
        self._is_owed = self._is_gone = False
        self.is_idle = True
        self._end = weakref.finalize(self, _end, self.process, self._channel, self._stderr)

    def open(self, descriptor: int, request: dict[str, Any]) -> dict[str, Any]:
        self.is_idle = False
        try:
            socket.send_fds(self._channel, [OPEN], [descriptor])
            send_json(self._channel, request)
        except OSError:
            raise self._gone() from None
        self._is_owed = True
        first = self._receive()
        assert isinstance(first, dict)
        return first

    def go_on(self, said: dict[str, Any] | bytearray) -> Iterator[dict[str, Any] | bytearray]:
        """What follows; the next rows are made while the last ones are looked at."""
        while isinstance(said, bytearray) or "chosen" in said:
            if not self._is_owed:
                self._ask()
            said = self._receive()
            if isinstance(said, bytearray):
                self._ask()
            yield said

    def leave_file(self) -> None:
        """Whether it was read to the end or not, the next one may be asked for."""
        if self._is_gone or getattr(_of_thread, "child", None) is not self:
            self._end()
            return
        with contextlib.suppress(ChildGone, OSError):  # which the next one will see
            if self._is_owed:
                self._receive()
            self._channel.sendall(CLOSE)
        self.is_idle = True

    def _ask(self) -> None:
        try:
            self._channel.sendall(NEXT)
        except OSError:
            raise self._gone() from None
        self._is_owed = True

    def _receive(self) -> dict[str, Any] | bytearray:
        self._standstill.moved()
        try:
            kind, content = receive(self._channel, self._look)
        except (EOFError, OSError):
            raise self._gone() from None
        self._is_owed = False
        if kind == BATCH:
            return content
        assert kind == JSON
        said: dict[str, Any] = json.loads(content)
        return said

    def _look(self) -> None:
        if self._standstill.seconds() > STANDSTILL_SECONDS:
            self._is_gone = True
            self._end()
            raise StoodStill(f"came no further in {STANDSTILL_SECONDS:.0f} s")

    def _gone(self) -> ChildGone:
        self._is_gone = True
        status = self._ended()
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip().splitlines()
        self._end()
        return ChildGone(": ".join([how_it_ended(status), *said[-1:]]))

    def _ended(self) -> int:
        """Its exit status: a channel that is closed has no one at its other end."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(ENDING_SECONDS)
        kill_session(self.process.pid)
        return self.process.wait()


def _end(process: "subprocess.Popen[bytes]", channel: socket.socket, stderr: IO[bytes]) -> None:
    channel.close()
    if process.poll() is None:
        kill_session(process.pid)
        process.wait()
    stderr.close()
