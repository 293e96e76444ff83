"""CheckpointManifest: what Redis knows of one job. An index, never the truth.

Every change is one call of the server's script (shards.lua says what is kept). Reading is plain reads.
"""

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from typing import cast

import redis

from checkpoint.records import QuarantineEntry
from queue_app.coordination import keys
from queue_app.coordination.job_speed import ProgressSample
from queue_app.coordination.redis_client import ring_of
from queue_app.coordination.script import Script
from queue_app.coordination.states import (
    JOB_FIELDS,
    JobState,
    JobStatus,
    Lease,
    Refusal,
    ShardState,
    ShardStatus,
)
from queue_app.coordination.trust import values
from queue_app.coordination.trust.signed_entries import require_signed_job, sign_job, sign_lease
from queue_app.coordination.trust.values import Garbage
from queue_app.coordination.worker_figures import Figures
from queue_app.coordination.workers import server_time
from queue_app.job.shard_table import Shard
from queue_app.job.spec import Job, Progress

LISTED_AT_A_TIME = 1_000
ID_MOST = 5_000
"""Characters of a record's id that a server is told, however long one may be in its job; JSON writes twelve
for each at most."""
"""Quarantine entries in one call: Lua takes fewer than 8,000 arguments."""
JOBS_MOST = 10_000
"""So many are listed, whatever the server holds."""
RUNNING_MOST = 100_000
"""Shards that are shown as leased: more than there are devices."""
SAMPLES_MOST = 200
ADDED_AT_A_TIME = 500
"""Shards in one call, which holds up the server for a millisecond or two."""


class CheckpointManifest:
    """The keys of one job. Raises redis errors as they come: the caller knows what is at stake."""

    def __init__(self, client: redis.Redis, job_id: str) -> None:
        self.client = client
        self.job_id = job_id
        self._script = Script(client)
        self._ring = ring_of(client)

    # ---- the producer's side

    def initialize(
        self, job: Job, job_dir: str, done: Mapping[int, Progress], queues: Sequence[str] = ()
    ) -> None:
        """Make the job and its shards known; what is known already stays as it is. Raises Garbage."""
        pipe = self.client.pipeline(transaction=False)
        pipe.hset(keys.JOBS, self.job_id, job_dir)
        name = keys.job(self.job_id)
        pipe.hset(
            name,
            mapping={
                "job_dir": job_dir,
                "queues": ",".join(queues),
                "announced": server_time(self.client),
                "signature": sign_job(self._ring, job, job_dir),
            },
        )
        for field, value in {
            "state": str(JobState.INGESTING),
            "num_shards": len(job.shards),
            "sequences_total": job.counts.num_records,
            "export_by": "workers",
            "kind": job.options.device_class,
            "priority": job.run.priority,
            "max_workers": job.run.max_workers or "",
        }.items():
            pipe.hsetnx(name, field, str(value))
        with values.read_from(name):
            pipe.execute()
        for first in range(0, len(job.shards), ADDED_AT_A_TIME):
            some = job.shards[first : first + ADDED_AT_A_TIME]
            self._call("add", first, *(_line(shard, done.get(shard.index)) for shard in some))
        self._call("open")

    def set_exporter(self, exporter: str) -> None:
        """Who writes the output when the last shard is done: `workers` or `coordinator`."""
        with values.read_from(keys.job(self.job_id)):
            self.client.hset(keys.job(self.job_id), "export_by", exporter)
        if exporter != "workers":
            self.note_exported()

    def note_exported(self) -> None:
        """Nobody needs to be asked for the output any more."""
        with values.read_from(keys.UNEXPORTED):
            self.client.srem(keys.UNEXPORTED, self.job_id)

    def note_one_kind(self, kind: str) -> None:
        """Show what alone computes the job; kind.json in its directory decides it."""
        with values.read_from(keys.job(self.job_id)):
            self.client.hset(keys.job(self.job_id), "one_kind", kind)

    def note_unsound(self, fault: Garbage) -> None:
        """Have the job made known anew by whoever sees its directory; until then it is dealt no more."""
        self._script("note_unsound", self.job_id, fault.where)

    def look_again(self) -> None:
        """Deal the job again, if what was garbage is none any more. Raises Garbage."""
        self._call("look_again")

    def require_signed(self, job: Job) -> None:
        """Make sure that somebody of this fleet has made the job known. Raises Garbage.

        Costs a round trip where the fleet has a key, and nothing where it has none.
        """
        if self._ring is None:
            return
        name = keys.job(self.job_id)
        with values.read_from(name):
            job_dir, signature = cast("list[str | None]", self.client.hmget(name, "job_dir", "signature"))
        require_signed_job(self._ring, job, job_dir or "", signature or "", name)

    # ---- the worker's side

    def acquire(
        self, shard: Shard, *, owner: str, floor: int, attempt_limit: int, request: str | None = None
    ) -> Lease | Refusal:
        """Ask for a shard. The token is above every earlier one and above `floor`, the store's own.

        `request` makes a repeated call answer as the first did; by default each call is a new one.

        Raises:
            Garbage: the server's answer is no token that can have been given by now.
        """
        request = request or uuid.uuid4().hex
        answer = self._call("acquire", shard.index, owner, floor, request, attempt_limit)
        if answer[0] == "ok":
            token = values.token(answer[1], f"{keys.held(self.job_id)} {shard.index}")
            return Lease(shard, token, sign_lease(self._ring, self.job_id, shard.index, owner, token))
        return Refusal(answer[0], tuple(answer[1:]))

    def beat(
        self, lease: Lease, progress: Progress | None = None, figures: Figures | None = None
    ) -> JobState | None:
        """Show that the holder lives, its pace, and how far it is, once it knows. None: the lease is lost."""
        counts: tuple[float, ...] = ()
        if progress is not None:
            counts = progress.batches_done, progress.sequences_done, progress.quarantined, progress.share
        pace = "" if figures is None else figures.encode()
        answer = self._call("beat", lease.shard.index, lease.token, lease.signature, pace, *counts)
        return self._state(answer) if answer[0] == "ok" else None

    def complete(
        self, lease: Lease, progress: Progress, quarantine: Iterable[QuarantineEntry] = ()
    ) -> tuple[JobState, str] | Refusal:
        """Report a shard as published. Answers the job's state and who exports.

        Refused as `lost` when the token is no longer the shard's, as `incomplete` when embedded and
        quarantined records do not add up to the shard's.
        """
        entries = [replace(each, id=each.id[:ID_MOST]) for each in quarantine]
        for start in range(0, len(entries), LISTED_AT_A_TIME):
            some = entries[start : start + LISTED_AT_A_TIME]
            view = [part for each in some for part in (str(each.ordinal), json.dumps(asdict(each)))]
            self._call("list", lease.shard.index, lease.token, *view)
        counts = (progress.batches_done, progress.sequences_done, progress.quarantined)
        answer = self._call("complete", lease.shard.index, lease.token, *counts, _set_aside(entries))
        if answer[0] == "ok":
            return self._state(answer), answer[2]
        return Refusal(answer[0], tuple(answer[1:]))

    def release(self, lease: Lease, reason: str, *, delay_seconds: float = 0.0, counts: bool = True) -> bool:
        """Give a shard back; `counts=False` when the attempt was ended from outside."""
        why = reason[: values.TEXT_MOST]
        return self._is_done("release", lease.shard.index, lease.token, why, delay_seconds, int(counts))

    def fail(self, lease: Lease, reason: str, *, whole_job: bool = False) -> bool:
        """Give a shard up, or with it every one that is not done."""
        op = "fail_job" if whole_job else "fail"
        return self._is_done(op, lease.shard.index, lease.token, reason[: values.TEXT_MOST])

    # ---- the observer's side

    def expire(self, index: int, token: int, beat: int, reason: str) -> bool:
        """Take a lease away, if token and beat are still those that were observed."""
        return self._is_done("expire", index, token, beat, reason)

    def undeal(self, index: int) -> bool:
        """Put back what was dealt and not begun: another worker is to have it."""
        return self._is_done("undeal", index)

    def reopen(self, index: int) -> bool:
        """Put a finished shard back to pending, because its result was found damaged."""
        return self._is_done("reopen", index)

    def restore(self, index: int, done: Progress) -> bool:
        """Take a shard for done that the job directory says is done."""
        return self._is_done("restore", index, done.sequences_done, done.quarantined)

    def abandon(self, reason: str) -> bool:
        """Give up every shard that waits, as no worker can begin one; not while any is at work."""
        return self._is_done("abandon", reason)

    def cancel(self) -> JobState:
        """Cancel every shard that is not done. A job that is done stays done."""
        return self._state_after("cancel")

    def pause(self) -> JobState:
        """Give out nothing any more, and have holders stop at their next batch; only a running job pauses."""
        return self._state_after("pause")

    def unpause(self) -> JobState:
        """End a pause. The messages that were refused meanwhile must be sent again."""
        return self._state_after("unpause")

    def revive(self) -> int:
        """Give failed and cancelled shards another chance; answers how many there were."""
        self.client.unlink(keys.trouble(self.job_id))  # as if no worker had tried yet
        status = self.job_status()
        while self._call("revive", ADDED_AT_A_TIME)[0] == "more":
            pass
        return status.shards[ShardState.FAILED] + status.shards[ShardState.CANCELLED] if status else 0

    # ---- reading

    def job_status(self) -> JobStatus | None:
        """None when the server does not know the job. Raises Garbage."""
        with values.read_from(keys.job(self.job_id)):
            found = cast("list[str | None]", self.client.hmget(keys.job(self.job_id), *JOB_FIELDS))
        return JobStatus.of(self.job_id, found)

    def shard_status(self, index: int) -> ShardStatus | None:
        """None when the server does not know the shard. Raises Garbage."""
        statuses = self.shard_statuses([index])
        return statuses[0] if statuses else None

    def shard_statuses(self, indices: Iterable[int]) -> list[ShardStatus]:
        """Several shards in one round trip; unknown ones are left out. Raises Garbage."""
        return [read() for read in self._shards_told(indices)]

    def readable_statuses(self, indices: Iterable[int]) -> list[ShardStatus]:
        """As `shard_statuses`, but for those of which the server holds garbage: for who only watches."""
        return list(values.readable(lambda read: read(), self._shards_told(indices)))

    def _shards_told(self, indices: Iterable[int]) -> list[Callable[[], ShardStatus]]:
        """For each shard that is known what reads its status."""
        wanted = list(indices)
        if not wanted:
            return []
        pipe = self.client.pipeline(transaction=False)
        pipe.hmget(keys.job(self.job_id), *JOB_FIELDS)
        for key in (keys.shards, keys.held, keys.beats, keys.figures, keys.dealt, keys.errors):
            pipe.hmget(key(self.job_id), [str(index) for index in wanted])
        with values.read_from(keys.shards(self.job_id)):
            fields, *columns = pipe.execute()
        job = JobStatus.of(self.job_id, fields)
        if job is None:
            return []
        told = zip(wanted, *columns, strict=True)
        return [partial(_shard_status, self.job_id, job, *each) for each in told if each[1]]

    def all_statuses(self, num_shards: int) -> Iterator[ShardStatus]:
        """Every shard, some at a time: for who begins or rebuilds a job, and for nobody who only watches.

        `num_shards` is that of job.json. Raises Garbage.
        """
        for some in _chunks(num_shards):
            yield from self.shard_statuses(some)

    def every_readable_status(self, num_shards: int) -> Iterator[ShardStatus]:
        """As `all_statuses`, for who only watches: `num_shards` may be what the server says.

        No more are read than it holds.
        """
        with values.read_from(keys.shards(self.job_id)):
            held = self.client.hlen(keys.shards(self.job_id))
        for some in _chunks(min(num_shards, held)):
            yield from self.readable_statuses(some)

    def running(self) -> list[int]:
        """The indices of the shards that are leased, so many as are ever looked at."""
        name = keys.running(self.job_id)
        with values.read_from(name):
            members = cast("list[str]", self.client.zrange(name, 0, RUNNING_MOST - 1))
        return sorted(values.readable(lambda each: values.whole(each, name, values.INDEX_MOST), members))

    def quarantine(self) -> list[QuarantineEntry]:
        """What finished shards quarantined, by ordinal; garbage left out."""
        name = keys.quarantine(self.job_id)
        with values.read_from(name):
            view = cast("dict[str, str]", self.client.hgetall(name))
        entries = values.readable(lambda text: values.entry(QuarantineEntry, text, name), view.values())
        return sorted(entries, key=lambda e: e.ordinal)

    def samples(self) -> list[ProgressSample]:
        """How far the job was, every few seconds of the last minute or two, newest first."""
        name = keys.samples(self.job_id)
        with values.read_from(name):
            lines = cast("list[str]", self.client.lrange(name, 0, SAMPLES_MOST - 1))
        return list(values.readable(ProgressSample.decode, lines))

    def forget(self) -> None:
        """Remove every key of the job."""
        self._call("forget")

    def _is_done(self, operation: str, *arguments: str | int | float) -> bool:
        return self._call(operation, *arguments)[0] == "ok"

    def _state_after(self, operation: str) -> JobState:
        return self._state(self._call(operation))

    def _state(self, answer: Sequence[str | None]) -> JobState:
        """As an answer says it after its first word. Raises Garbage."""
        return values.word(JobState, (*answer, None)[1] or "", f"{keys.job(self.job_id)} state")

    def _call(self, operation: str, *arguments: str | int | float) -> list[str]:
        return self._script(operation, self.job_id, *arguments)


def _shard_status(
    job_id: str,
    job: JobStatus,
    index: int,
    record: str,
    held: str | None,
    beat: str | None,
    figures: str | None,
    worker: str | None,
    error: str | None,
) -> ShardStatus:
    """From what the server holds of it. Raises Garbage."""
    return ShardStatus.of(
        job_id,
        index,
        record,
        job,
        owner=(held or "").partition(" ")[2].split(" ", 3)[-1] if held else "",
        beat=values.whole(beat or "0", f"{keys.beats(job_id)} {index}"),
        figures=Figures.decode(figures or ""),
        worker=worker or "",
        error=(error or "")[: values.TEXT_MOST],
    )


def _chunks(num_shards: int) -> Iterator[range]:
    for first in range(0, num_shards, LISTED_AT_A_TIME):
        yield range(first, min(first + LISTED_AT_A_TIME, num_shards))


def _line(shard: Shard, done: Progress | None) -> str:
    """As `add` of manifest.lua reads it."""
    counted = f" {done.sequences_done} {done.quarantined}" if done else ""
    return f"{shard.num_records} {shard.cost}{counted}"


def known_jobs(client: redis.Redis) -> dict[str, str]:
    """Job id -> where the job was said to lie, of the jobs that the server knows. Raises Garbage."""
    with values.read_from(keys.JOBS):
        found = list(islice(client.hscan_iter(keys.JOBS, count=LISTED_AT_A_TIME), JOBS_MOST))
    return {job_id: path for job_id, path in sorted(found) if values.JOB_ID.fullmatch(job_id)}


def job_statuses(client: redis.Redis, job_ids: Iterable[str]) -> dict[str, JobStatus | Garbage]:
    """Of several jobs that it knows, in one round trip: what is wrong with one is said of it alone."""
    wanted = list(job_ids)
    pipe = client.pipeline(transaction=False)
    for job_id in wanted:
        pipe.hmget(keys.job(job_id), *JOB_FIELDS)
    told = zip(wanted, pipe.execute(raise_on_error=False), strict=True)
    found = {job_id: _status_or_fault(job_id, answer) for job_id, answer in told}
    return {job_id: status for job_id, status in found.items() if status is not None}


def _status_or_fault(job_id: str, answer: list[str | None] | Exception) -> JobStatus | Garbage | None:
    try:
        with values.read_from(keys.job(job_id)):
            if isinstance(answer, Exception):
                raise answer
            return JobStatus.of(job_id, answer)
    except Garbage as fault:
        return fault


def forgetting(client: redis.Redis) -> Callable[[str], None]:
    """Removes every key of the job whose id it is given."""
    return lambda job_id: CheckpointManifest(client, job_id).forget()


def _set_aside(entries: Sequence[QuarantineEntry]) -> str:
    """What a person is told of a shard's quarantined records: how many, and one by name."""
    if not entries:
        return ""
    more = f", and {len(entries) - 1} more" if len(entries) > 1 else ""
    return f"record {entries[0].id} quarantined ({entries[0].reason}){more}"
