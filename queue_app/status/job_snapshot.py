"""A job and its workers at a glance."""

from dataclasses import asdict, dataclass
from typing import Any

from queue_app.coordination.events import Event, EventKind
from queue_app.coordination.states import JobState, Trouble
from queue_app.coordination.worker_figures import Figures


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker as `status` shows it; `shard` is None while it is idle."""

    name: str
    queue: str
    device: str
    host: str
    pid: int
    child_pid: int
    shard: int | None
    shard_done: int = 0
    """Records of its shard that are committed or quarantined, of `shard_total`."""
    shard_total: int = 0
    figures: Figures | None = None
    """What it computes; None while it is idle, and until its shard is under way."""
    trouble: Trouble | None = None
    """What keeps it from beginning a shard of the job; it tries again all the same."""


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """Counts of one job.

    `rate` is sequences a second over the last minute, 0 unless the job runs. `eta_seconds` is what is left of
    the computation at its speed; None where that is not known, and while nothing is computed.
    """

    job: str
    state: JobState
    total: int
    done: int
    quarantined: int
    num_shards: int
    shards: dict[str, int]
    rate: float
    eta_seconds: float | None
    workers: tuple[WorkerView, ...] = ()
    trouble: str = ""
    """Why nothing gets on; it is tried again all the same."""
    events: tuple[Event, ...] = ()
    """The latest, in the order in which they happened."""
    remedy: str = ""
    """How to go on, where nobody works on the job."""
    one_kind: str = ""
    """What alone computes it (checkpoint.Kind in words); empty where any may."""

    @property
    def ended(self) -> bool:
        return self.state in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)

    @property
    def reason(self) -> str:
        """Why a failed job was given up, as far as it is known."""
        failed = [event.text for event in self.events if event.kind is EventKind.FAILED]
        return failed[-1] if failed and self.state is JobState.FAILED else ""

    @property
    def tokens_per_second(self) -> float:
        """Of all workers together."""
        return sum((worker.figures.tokens_per_second for worker in self.workers if worker.figures), 0.0)

    def as_json(self) -> dict[str, Any]:
        """The layout of `status --json`."""
        return {
            "job": self.job,
            "state": str(self.state),
            "sequences": {"total": self.total, "done": self.done, "quarantined": self.quarantined},
            "shards": {"total": self.num_shards, **self.shards},
            "rate": round(self.rate, 3),
            "tokens_per_second": round(self.tokens_per_second, 3),
            "eta_seconds": None if self.eta_seconds is None else round(self.eta_seconds, 1),
            "workers": [asdict(worker) for worker in self.workers],
            "trouble": self.trouble or None,
            "remedy": self.remedy or None,
            "one_kind": self.one_kind or None,
            "events": [asdict(event) for event in self.events],
        }
