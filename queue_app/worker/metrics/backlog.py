"""What waits: how long each queue is, how old its oldest message, and how far each job is.

Read from the server in a few round trips, however many shards the jobs have.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import redis
from redis.client import NEVER_DECODE

from queue_app.celery_app import SENT_AT
from queue_app.coordination import keys
from queue_app.coordination.manifest import job_statuses
from queue_app.coordination.states import JobState, JobStatus
from queue_app.coordination.trust import values
from queue_app.coordination.workers import WorkerEntry

READ_MOST = 1_000
JOBS_MOST = 50
"""Each is a label in the database of whoever watches."""
IN_VIEW_SECONDS = 600.0
ENDED = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})


@dataclass(frozen=True, slots=True)
class QueueBacklog:
    """`oldest_seconds` is None when the oldest message does not say when it was sent."""

    name: str
    length: int
    oldest_seconds: float | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """The server at one moment."""

    queues: tuple[QueueBacklog, ...]
    jobs: Mapping[str, JobStatus]
    """By job id."""


class BacklogReader:
    """Reads the queues of all registered workers, dead ones among them, and the jobs that have not ended.

    A job that ends while it is watched stays in view for some minutes, so that its last figures are seen.
    """

    def __init__(self, client: redis.Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._unended: dict[str, float] = {}
        """Job id -> when it was last seen not to have ended."""

    def read(self) -> Backlog:
        """Raises redis errors as they come."""
        return Backlog(tuple(self._queues()), self._jobs())

    def _queues(self) -> list[QueueBacklog]:
        with values.read_from(keys.WORKERS):
            entries = cast("Sequence[str]", self._client.hvals(keys.WORKERS))
        names = sorted({entry.queue for entry in values.readable(WorkerEntry.decode, entries)})
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            pipe.llen(name)
            # Kombu puts in on the left and takes from the right. What is no message may be no text either.
            pipe.execute_command("LINDEX", name, -1, **{NEVER_DECODE: True})  # type: ignore[no-untyped-call]
        answers = pipe.execute(raise_on_error=False)
        return [
            QueueBacklog(name, length, age_seconds(oldest) if oldest is not None else 0.0)
            for name, length, oldest in zip(names, answers[::2], answers[1::2], strict=True)
            if isinstance(length, int)  # what is no list is no queue
        ]

    def _jobs(self) -> dict[str, JobStatus]:
        with values.read_from(keys.UNENDED):
            unended = cast("list[str]", self._client.srandmember(keys.UNENDED, READ_MOST))
        job_ids = sorted({*filter(values.JOB_ID.fullmatch, unended), *self._unended})
        found = job_statuses(self._client, job_ids)
        known = {job_id: status for job_id, status in found.items() if isinstance(status, JobStatus)}
        now = self._clock()
        self._unended |= {job_id: now for job_id, status in known.items() if status.state not in ENDED}
        self._unended = {
            job_id: since for job_id, since in self._unended.items() if now - since < IN_VIEW_SECONDS
        }
        shown = [job_id for job_id in known if job_id in self._unended]
        return {job_id: known[job_id] for job_id in shown[:JOBS_MOST]}


def age_seconds(message: bytes) -> float | None:
    """How long ago a message was sent, by the clocks of the two hosts; None when it does not say."""
    try:
        sent_at = json.loads(message[: values.JSON_MOST])["headers"][SENT_AT]
        return max(0.0, time.time() - values.finite(float(sent_at), "message"))
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError, values.Garbage):
        return None
