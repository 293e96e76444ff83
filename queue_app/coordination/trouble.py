"""Trouble: what keeps a worker from doing a shard, counted per job and worker; how long the worker rests, and
when it ends a job.

One hash per job on the server, a field per worker. A worker takes its own away when it gets as far as it did
not get before: to a shard, or, in trouble at work, through one. While others get on, trouble is only shown,
and the pauses grow long; the job ends when all that it could run on fail again and again.
"""

import json
import random
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import cast

import redis

from queue_app.coordination import keys
from queue_app.coordination.events import EventKind, publish
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import TIMES_MOST, JobState, ShardState, Trouble
from queue_app.coordination.trust import values
from queue_app.coordination.workers import WorkerEntry, live_workers, server_time
from queue_app.settings import RuntimeConfig
from queue_app.wording import count

PASSING_TIMES_MOST = 20
"""The same of what may pass by itself, as a file system that is away: some three minutes."""
KILLED_TIMES_MOST = 10
"""The same of a process that is killed: before that its supervisor tries whether fewer workers will do."""
DOUBLED_MOST = 12
"""The pause doubles so often at most; it is bounded long before."""
WORDS_MOST = 600
JOBS_LOOKED_AT = 8
COMES_BACK_LEASES = 4
"""A worker that fell silent may come back within so many leases."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long a worker in trouble rests at most, in seconds, before it looks again."""

    alone: float
    """While no other worker is well: the job waits for this one."""
    among_others: float
    lease_seconds: float
    """Who was not heard of for so long is no other worker."""


def pauses_of(config: RuntimeConfig) -> Pauses:
    """Those that a worker's settings name."""
    return Pauses(config.retry_seconds, config.rest_seconds, config.lease_seconds)


class TroubleRegister:
    """The troubles of one job. Raises redis errors as they come."""

    def __init__(self, client: redis.Redis, job_id: str, pauses: Pauses) -> None:
        self.client = client
        self.job_id = job_id
        self.pauses = pauses

    def note(
        self, worker: WorkerEntry, text: str, *, times_most: int = TIMES_MOST, at_work: bool = False
    ) -> Trouble:
        """Count one more failure of a worker; only this worker's own processes call it, one at a time."""
        now, before = server_time(self.client), self.of(worker.name)
        words = " ".join(text.split())[:WORDS_MOST]
        times = before.times + 1 if before else 1
        most = self.pauses.alone if self.is_alone(worker) else self.pauses.among_others
        pause = pause_seconds(times, most)
        since = before.since if before else now
        noted = Trouble(words, times, since, now, now + pause, times_most, at_work)
        self._write(worker.name, noted)
        if before is None or before.text != words:
            publish(self.client, self.job_id, EventKind.TROUBLE, f"{worker.name} cannot begin: {words}")
        return noted

    def _write(self, worker: str, trouble: Trouble) -> None:
        with values.read_from(keys.trouble(self.job_id)):
            self.client.hset(keys.trouble(self.job_id), worker, json.dumps(asdict(trouble)))

    def clear(self, worker: str) -> None:
        """The worker gets on with the job."""
        with values.read_from(keys.trouble(self.job_id)):
            self.client.hdel(keys.trouble(self.job_id), worker)

    def of(self, worker: str) -> Trouble | None:
        """One worker's trouble; None of one that is well."""
        with values.read_from(keys.trouble(self.job_id)):
            text = cast("str | None", self.client.hget(keys.trouble(self.job_id), worker))
        return next(values.readable(_read, [text]), None) if text else None

    def all(self) -> dict[str, Trouble]:
        """By worker, dead ones among them."""
        return read_troubles(self.client, self.job_id)

    def wait_seconds(self, trouble: Trouble) -> float:
        """How long until its worker is to look again; bounded, as the server's clock may be set back."""
        return max(0.0, min(self.pauses.among_others, trouble.retry_at - server_time(self.client)))

    def hasten(self, worker: WorkerEntry) -> Trouble | None:
        """Cut the pause of a worker that was left alone with the job meanwhile; answers its trouble."""
        trouble = self.of(worker.name)
        if (
            trouble is None
            or trouble.retry_at <= trouble.seen + self.pauses.alone
            or not self.is_alone(worker)
        ):
            return trouble
        sooner = replace(trouble, retry_at=trouble.seen + self.pauses.alone)
        self._write(worker.name, sooner)
        return sooner

    def is_alone(self, worker: WorkerEntry) -> bool:
        """True when no other worker of its kind is well with the job."""
        troubled = self.all()
        return all(entry.name in troubled for entry in self._others(worker))

    def others_awake(self, worker: WorkerEntry) -> list[str]:
        """Other live workers of the same kind that do not rest, by name: so is the queue of each."""
        troubles = self.all()
        resting = {name for name, each in troubles.items() if self.wait_seconds(each) > 0}
        return [entry.name for entry in self._others(worker) if entry.name not in resting]

    def _others(self, worker: WorkerEntry) -> Iterator[WorkerEntry]:
        """Live workers of the same kind of device."""
        for entry in live_workers(self.client, self.pauses.lease_seconds):
            if entry.name != worker.name and entry.kind == worker.kind:
                yield entry


def pause_seconds(times: int, most: float) -> float:
    """How long to wait after so many failures in a row: 1, 2, 4 … seconds, `most` at most.

    With jitter: of one host's workers, not all look at once.
    """
    return min(most, 2.0 ** min(times - 1, DOUBLED_MOST)) * random.uniform(0.5, 1.0)


def seconds_to_rest(client: redis.Redis, worker: WorkerEntry, pauses: Pauses) -> float | None:
    """How long a worker has nothing to begin; 0 while a job may be tried. None: it is in no trouble.

    Asks about as many jobs as are looked at for a shard (dealing.lua).
    """
    ready: list[str] = []
    with suppress(values.Garbage), values.read_from(keys.ready(worker.kind)):
        ready = cast("list[str]", client.zrange(keys.ready(worker.kind), 0, JOBS_LOOKED_AT - 1))
    waits: list[float | None] = []
    for job_id in filter(values.JOB_ID.fullmatch, ready):
        register = TroubleRegister(client, job_id, pauses)
        with suppress(values.Garbage):  # no work of that job is dealt
            trouble = register.hasten(worker)
            waits.append(register.wait_seconds(trouble) if trouble else None)
    return None if set(waits) <= {None} else min(wait or 0.0 for wait in waits)


def read_troubles(client: redis.Redis, job_id: str) -> dict[str, Trouble]:
    """Every worker's trouble with a job, by its name."""
    with values.read_from(keys.trouble(job_id)):
        entries = cast("Mapping[str, str]", client.hgetall(keys.trouble(job_id)))
    troubles: dict[str, Trouble] = {}
    for worker, text in sorted(entries.items()):
        troubles.update((worker, trouble) for trouble in values.readable(_read, [text]))
    return troubles


def _read(text: str) -> Trouble:
    return values.entry(Trouble, text, "trouble")


def give_up_hopeless(
    register: TroubleRegister, manifest: CheckpointManifest, lease_seconds: float
) -> str | None:
    """End a job that no worker can begin; answers the reason, or None while there is hope."""
    reason = _why_hopeless(register, manifest, lease_seconds)
    return reason if reason and manifest.abandon(reason) else None


def _why_hopeless(
    register: TroubleRegister, manifest: CheckpointManifest, lease_seconds: float
) -> str | None:
    status, troubles = manifest.job_status(), register.all()
    if status is None or status.state is not JobState.RUNNING or status.shards[ShardState.RUNNING]:
        return None
    workers = _who_may_work(register.client, status.kind, lease_seconds)
    # One that has not come up yet may be a good one.
    missing = set(filter(None, status.queues.split(","))) - {entry.queue for entry in workers}
    young = abs(server_time(register.client) - status.announced) < COMES_BACK_LEASES * lease_seconds
    if not workers or (missing and young):
        return None
    names = {entry.name for entry in workers}
    lasting = {name: each for name, each in troubles.items() if name in names and each.is_lasting}
    if len(lasting) < len(names):
        return None
    latest = max(lasting.values(), key=lambda trouble: trouble.seen)
    times = sum(trouble.times for trouble in lasting.values())
    return f"{latest.text} ({count(times, 'time')} on {', '.join(sorted(lasting))})"


def _who_may_work(client: redis.Redis, kind: str, lease_seconds: float) -> list[WorkerEntry]:
    """Also who fell silent just now, for it may be on its way back: one bad worker is to end nothing."""
    recent = live_workers(client, COMES_BACK_LEASES * lease_seconds, with_dead=True)
    return [entry for entry in recent if entry.kind == kind]
