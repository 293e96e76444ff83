"""The states of jobs and shards, and what the manifest's hashes say of them. Pure data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from queue_app.coordination import keys
from queue_app.coordination.trust import values
from queue_app.coordination.worker_figures import Figures
from queue_app.job.shard_table import Shard
from queue_app.shown import visible


class ShardState(StrEnum):
    """Where a shard stands."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


NUMBERS_OF_A_SHARD = 8
LETTERS = {state.value[0]: state for state in ShardState if state is not ShardState.CANCELLED}
"""How shards.lua writes them. Cancelled is a whole job."""


class JobState(StrEnum):
    """Where a job stands."""

    INGESTING = "ingesting"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    """Unfinished, and nobody works on it: said of a job directory alone, no server holds it."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write one shard, as long as no higher token was given out."""

    shard: Shard
    token: int
    signature: str = ""
    """Of its holder, where the fleet has a key (signed_entries.py)."""

    @property
    def label(self) -> str:
        """How log lines name it."""
        return f"job={self.shard.job_id} shard={self.shard.index} token={self.token}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a shard was not given: done, held, failed, cancelled, paused, exhausted, unknown, …"""

    reason: str
    detail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """One shard. `owner`, `beat` and `figures` are those of its lease; `worker` was sent a message for it."""

    index: int
    state: ShardState
    num_records: int
    cost: int
    token: int
    attempts: int
    batches_done: int
    sequences_done: int
    quarantined: int
    owner: str = ""
    beat: int = 0
    figures: Figures | None = None
    """None until the holder began to compute."""
    worker: str = ""
    error: str = ""

    @classmethod
    def of(cls, job_id: str, index: int, record: str, job: "JobStatus", **beside: Any) -> "ShardStatus":
        """Read the shard's line, and what the server keeps beside it. Raises Garbage.

        That a whole job was cancelled or given up is said of the job alone.
        """
        where = f"{keys.shards(job_id)} {index}"
        letter, *numbers = record.split(" ", len(fields(cls)))
        if letter not in LETTERS or len(numbers) != NUMBERS_OF_A_SHARD:
            raise values.Garbage(where, f"'{visible(record, values.SHOWN_MOST)}' is no shard")
        state: ShardState = LETTERS[letter]
        if job.ended_early and state in (ShardState.PENDING, ShardState.FAILED):
            state = job.ended_early
            beside["error"] = job.gave_up or beside.get("error", "")
        token = values.token(numbers.pop(2), where)
        records, cost, attempts, batches, sequences, quarantined, _ = (
            values.whole(number, where) for number in numbers
        )
        return cls(index, state, records, cost, token, attempts, batches, sequences, quarantined, **beside)


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job's hash: constant in size, however many shards there are."""

    state: JobState
    job_dir: str
    export_by: str
    num_shards: int
    shards: Mapping[ShardState, int]
    sequences_total: int
    sequences_done: int
    sequences_quarantined: int
    cost_total: int
    cost_done: int
    """As the shards count their cost; work under way counts by its share."""
    trouble: str
    """Why a shard failed last; empty as soon as any of the job gets on."""
    kind: str
    """Of the devices that it was planned for."""
    queues: str
    """Those that were named when it was announced last, with commas."""
    announced: float = field(compare=False)
    """When that was, in seconds by the server's clock."""
    one_kind: str
    """What alone computes it (checkpoint.Kind in words); empty where any may, and until a shard is begun."""
    gave_up: str
    """Why the whole job was given up; empty where it was not."""
    signature: str
    """Of who made it known; empty where the fleet has no key (signed_entries.py)."""

    @property
    def ended_early(self) -> ShardState | None:
        """What every shard counts as that is not done; None where each counts by itself."""
        if self.state is JobState.CANCELLED:
            return ShardState.CANCELLED
        return ShardState.FAILED if self.gave_up else None

    @property
    def num_left(self) -> int:
        """Sequences that are neither done nor quarantined."""
        return self.sequences_total - self.sequences_done - self.sequences_quarantined

    @classmethod
    def of(cls, job_id: str, found: Sequence[str | None]) -> "JobStatus | None":
        """Read the values of JOB_FIELDS in a job's hash; None of a job that is not known. Raises Garbage."""
        name = keys.job(job_id)
        told = {field: text for field, text in zip(JOB_FIELDS, found, strict=True) if text is not None}
        if "state" not in told:
            return None
        shards = {state: _count(told, state, name, values.INDEX_MOST) for state in ShardState}
        plain: dict[str, Any] = {field: _count(told, field, name, values.SUM_MOST) for field in SUMS}
        plain |= {field: values.short(told.get(field, ""), f"{name} {field}") for field in TEXTS}
        status = cls(
            shards=shards,
            state=values.word(JobState, told["state"], f"{name} state"),
            num_shards=_count(told, "num_shards", name, values.INDEX_MOST),
            announced=values.finite(told.get("announced", "0"), f"{name} announced"),
            **plain,
        )
        if status.ended_early:
            left = shards[ShardState.PENDING] + shards[ShardState.FAILED]
            shards |= {ShardState.PENDING: 0, ShardState.FAILED: 0} | {status.ended_early: left}
        return status


SUMS = ("sequences_total", "sequences_done", "sequences_quarantined", "cost_total", "cost_done")
TEXTS = ("job_dir", "export_by", "trouble", "kind", "queues", "one_kind", "gave_up", "signature")
JOB_FIELDS = ("state", "num_shards", "announced", *SUMS, *TEXTS, *map(str, ShardState))
"""What is read of a job's hash, whatever else somebody put there."""


def _count(told: Mapping[str, str], field: str, name: str, most: int) -> int:
    return values.whole(told.get(field, "0"), f"{name} {field}", most)


TIMES_MOST = 3
"""In a row and on every worker: then the job ends."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What one worker fails at, though another may do it.

    `times` counts failures in a row, `since` and `seen` are the first and the last of them, `retry_at` is
    when it is tried again: all in seconds by the server's clock. After `times_most` there is no hope.
    """

    text: str
    times: int
    since: float
    seen: float
    retry_at: float
    times_most: int = TIMES_MOST
    at_work: bool = False
    """It had the shard: only one that it completes shows that this is over."""

    @property
    def is_lasting(self) -> bool:
        """It came often enough to give this worker up for this job."""
        return self.times >= self.times_most
