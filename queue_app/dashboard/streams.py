"""What everybody who looks at the page is fed with: read once for all of them, and only while one looks."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, TypeVar

from queue_app.dashboard.board import Board, JobReader, Watch, board_message
from queue_app.dashboard.job_list import JobList, JobListReader
from queue_app.dashboard.job_source import Place
from queue_app.settings import RuntimeConfig

LOOK_SECONDS = 1.0

Value = TypeVar("Value")


class Fresh(Generic[Value]):
    """Something that many ask for, read in a thread and at most once a second."""

    def __init__(self, read: Callable[[], Value]) -> None:
        self._read = read
        self._lock = asyncio.Lock()
        self._known: tuple[float, Value] | None = None

    async def get(self) -> Value:
        async with self._lock:
            if self._known is None or time.monotonic() - self._known[0] >= 0.9 * LOOK_SECONDS:
                value = await asyncio.to_thread(self._read)
                self._known = (time.monotonic(), value)
            return self._known[1]


class Feed:
    """The list of jobs, and the board of each that somebody looks at."""

    def __init__(self, place: Place, config: RuntimeConfig) -> None:
        self.place = place
        self.config = config
        self._jobs = Fresh(JobListReader(place).read)
        self._boards: dict[str, Fresh[Board | None]] = {}
        self._closed = asyncio.Event()

    async def jobs(self) -> JobList:
        return await self._jobs.get()

    async def board(self, job_id: str) -> Board | None:
        """None when nobody who answers knows the job."""
        if job_id not in self._boards:
            self._boards[job_id] = Fresh(Watch(JobReader(self.place.of(job_id), job_id, self.config)).board)
        return await self._boards[job_id].get()

    def close(self) -> None:
        """End every stream: a server that waits for its connections would otherwise never end."""
        self._closed.set()

    async def stream(self, job_id: str) -> AsyncIterator[str]:
        """Server-sent events about the list of jobs and one of them: what changed, once a second."""
        told_jobs: JobList | None = None
        told: Board | None = None
        while not self._closed.is_set():
            jobs = await self.jobs()
            board = await self.board(job_id) if job_id in {line.job for line in jobs.jobs} else None
            news = "" if jobs == told_jobs else event("jobs", jobs.as_json())
            if board is not None and board != told:
                news += event("board", board_message(board, told))
            yield news or STILL_HERE
            told_jobs, told = jobs, board
            await self._pause()

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._closed.wait(), LOOK_SECONDS)
        except TimeoutError:
            return


STILL_HERE = ": still here\n\n"
"""A comment of the protocol: it says nothing, but a connection that is dead is noticed."""


def event(name: str, data: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
