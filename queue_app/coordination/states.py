"""The states of jobs and shards, and what the manifest's hashes say of them. Pure data."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from queue_app.coordination.worker_figures import Figures
from queue_app.job.spec import Shard


class ShardState(StrEnum):
    """Where a shard stands."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


LEGAL_TRANSITIONS: Mapping[ShardState, frozenset[ShardState]] = {
    ShardState.PENDING: frozenset(
        {ShardState.RUNNING, ShardState.FAILED, ShardState.CANCELLED, ShardState.DONE}
    ),
    ShardState.RUNNING: frozenset(
        {ShardState.PENDING, ShardState.DONE, ShardState.FAILED, ShardState.CANCELLED}
    ),
    ShardState.DONE: frozenset({ShardState.PENDING}),
    ShardState.FAILED: frozenset({ShardState.PENDING, ShardState.CANCELLED, ShardState.DONE}),
    ShardState.CANCELLED: frozenset({ShardState.PENDING, ShardState.DONE}),
}
"""What manifest.lua allows; the tests hold the two against each other."""


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
    """One shard's hash."""

    index: int
    state: ShardState
    queue: str
    owner: str
    token: int
    beat: int
    attempts: int
    batches_done: int
    sequences_done: int
    quarantined: int
    sent_at: float
    not_before: float
    error: str
    num_records: int
    figures: Figures | None
    """Of its holder; None until it began to compute."""

    @classmethod
    def of(cls, index: int, fields: Mapping[str, str]) -> "ShardStatus":
        """Read the shard's hash."""
        return cls(
            index=index,
            state=ShardState(fields["state"]),
            queue=fields["queue"],
            owner=fields["owner"],
            token=int(fields["token"]),
            beat=int(fields["beat"]),
            attempts=int(fields["attempts"]),
            batches_done=int(fields["batches_done"]),
            sequences_done=int(fields["sequences_done"]),
            quarantined=int(fields["quarantined"]),
            sent_at=float(fields["sent_at"]),
            not_before=float(fields["not_before"]),
            error=fields["error"],
            num_records=int(fields["num_records"]),
            figures=Figures.decode(fields.get("figures", "")),
        )


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
    """As the shards count their cost; of work under way, by its share."""
    trouble: str
    """Why a shard failed last; empty as soon as any of the job gets on."""

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> "JobStatus":
        """Read the job's hash."""
        return cls(
            state=JobState(fields["state"]),
            job_dir=fields.get("job_dir", ""),
            export_by=fields.get("export_by", ""),
            num_shards=int(fields.get("num_shards", 0)),
            shards={state: int(fields.get(state, 0)) for state in ShardState},
            sequences_total=int(fields.get("sequences_total", 0)),
            sequences_done=int(fields.get("sequences_done", 0)),
            sequences_quarantined=int(fields.get("sequences_quarantined", 0)),
            cost_total=int(fields.get("cost_total", 0)),
            cost_done=int(fields.get("cost_done", 0)),
            trouble=fields.get("trouble", ""),
        )
