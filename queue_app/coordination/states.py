"""The states of jobs and shards, and what the manifest's hashes say of them. Pure data."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from queue_app.coordination.worker_figures import Figures
from queue_app.job.shard_table import Shard


class ShardState(StrEnum):
    """Where a shard stands."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


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
    def of(cls, index: int, record: str, job: "JobStatus", **beside: Any) -> "ShardStatus":
        """Read the shard's line, and what the server keeps beside it.

        That a whole job was cancelled or given up is said of the job alone.
        """
        letter, *numbers = record.split()
        state: ShardState = LETTERS[letter]
        if job.ended_early and state in (ShardState.PENDING, ShardState.FAILED):
            state = job.ended_early
            beside["error"] = job.gave_up or beside.get("error", "")
        records, cost, token, attempts, batches, sequences, quarantined, _ = map(int, numbers)
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
    def of(cls, told: Mapping[str, str]) -> "JobStatus":
        """Read the job's hash."""
        shards = {state: int(told.get(state, 0)) for state in ShardState}
        plain = {
            each.name: each.type(told[each.name]) if each.name in told else each.type()  # type: ignore[operator]
            for each in fields(cls)
            if each.name != "shards"
        }
        status = cls(shards=shards, **plain)
        if status.ended_early:
            left = shards[ShardState.PENDING] + shards[ShardState.FAILED]
            shards |= {ShardState.PENDING: 0, ShardState.FAILED: 0} | {status.ended_early: left}
        return status


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
