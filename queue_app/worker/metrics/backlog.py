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
from queue_app.coordination.states import JobState, JobStatus

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
        entries = cast("Sequence[str]", self._client.hvals(keys.WORKERS))
        names = sorted({str(json.loads(entry)["queue"]) for entry in entries})
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            pipe.llen(name)
            # Kombu puts in on the left and takes from the right. What is no message may be no text either.
            pipe.execute_command("LINDEX", name, -1, **{NEVER_DECODE: True})  # type: ignore[no-untyped-call]
        answers = pipe.execute()
        return [
            QueueBacklog(name, length, age_seconds(oldest) if oldest is not None else 0.0)
            for name, length, oldest in zip(names, answers[::2], answers[1::2], strict=True)
        ]

    def _jobs(self) -> dict[str, JobStatus]:
        job_ids = sorted({*cast("set[str]", self._client.smembers(keys.UNENDED)), *self._unended})
        pipe = self._client.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.hgetall(keys.job(job_id))
        found = zip(job_ids, pipe.execute(), strict=True)
        known = {job_id: JobStatus.of(fields) for job_id, fields in found if "state" in fields}
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
        return max(0.0, time.time() - float(json.loads(message)["headers"][SENT_AT]))
    except (ValueError, KeyError, TypeError):
        return None
