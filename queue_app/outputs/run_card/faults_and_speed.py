"""What a job's history amounts to: on what it was computed, how fast, and what it survived."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

from queue_app.job.history import History, Outcome
from queue_app.job.spec import Job

REASONS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Device:
    """One kind of hardware, and how many workers on how many hosts computed on it."""

    name: str
    num_workers: int
    num_hosts: int


@dataclass(frozen=True, slots=True)
class Faults:
    """What the job went through and survived. `errors` are the first different ones."""

    command_starts: int
    worker_deaths: int
    server_deaths: int
    shards_recovered: int
    """Attempts whose worker died, or was cut off from the others."""
    shards_retried: int
    """Attempts that ended with an error."""
    shards_given_back: int
    """Attempts that stopped in order: a drain, a pause, Ctrl-C."""
    errors: tuple[str, ...] = ()

    @property
    def any(self) -> bool:
        deaths = self.worker_deaths + self.server_deaths
        return bool(deaths or self.shards_recovered or self.shards_retried)


@dataclass(frozen=True, slots=True)
class Throughput:
    """`busy_seconds` is how long at least one shard was under way, over all starts; rates are over that.

    None: the job directory does not tell.
    """

    began: str | None = None
    ended: str | None = None
    busy_seconds: float | None = None
    sequences_per_second: float | None = None
    num_tokens: int | None = None
    tokens_per_second: float | None = None
    fill: float | None = None


def devices_of(history: History) -> list[Device]:
    """Only of what has got somewhere: an attempt that died at once computed nothing."""
    workers: dict[str, set[str]] = {}
    for attempt in history.attempts:
        if attempt.num_tokens is not None:
            workers.setdefault(attempt.hardware, set()).add(attempt.worker)
    return [
        Device(name, len(found), len({worker.rpartition("@")[2] for worker in found}))
        for name, found in sorted(workers.items())
    ]


def independence_of(job: Job, history: History) -> str:
    """What the workers found of `--exact` at their start; empty where the job was not to be exact."""
    if not job.options.exact or job.model.family == "mock":
        return ""
    found = [attempt for attempt in history.attempts if attempt.num_tokens is not None]
    others = sorted({attempt.hardware for attempt in found if attempt.exact is False})
    if others:
        return f"its company, too, in its last bits: on {', '.join(others)} --exact did not hold"
    is_checked = found and all(attempt.exact for attempt in found)
    checked = "; checked at each worker's start" if is_checked else ""
    copied = "; for those that --reuse copied their own job's card says it" if job.reuse else ""
    return f"sequence, model, dtype and kind of device only{checked}{copied}"


def throughput_of(job: Job, history: History, num_embedded: int) -> Throughput:
    tokens, batches = total_of(job, history, "num_tokens"), total_of(job, history, "num_batches")
    busy = history.busy_seconds()
    if tokens is None or not batches or not busy:
        return Throughput()
    return Throughput(
        began=_iso(history.attempts[0].began),
        ended=_iso(max(attempt.seen for attempt in history.attempts)),
        busy_seconds=round(busy, 3),
        sequences_per_second=round(num_embedded / busy, 3),
        num_tokens=tokens,
        tokens_per_second=round(tokens / busy, 3),
        fill=round(tokens / (batches * job.options.toks_per_batch), 4),
    )


def total_of(job: Job, history: History, name: str) -> int | None:
    """A count of the plans, over all shards that were computed; None where one is not known."""
    latest = history.latest()
    computed = [shard.index for shard in job.shards if not shard.reused]
    if any(index not in latest for index in computed):
        return None
    return sum(int(getattr(latest[index], name)) for index in computed)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def faults_of(history: History) -> Faults:
    outcomes = Counter(attempt.outcome for attempt in history.attempts)
    errors = dict.fromkeys(attempt.reason for attempt in history.attempts if attempt.reason)
    return Faults(
        command_starts=len(history.starts),
        worker_deaths=sum(start.worker_deaths for start in history.starts),
        server_deaths=sum(start.server_deaths for start in history.starts),
        shards_recovered=outcomes[None] + outcomes[Outcome.LOST],
        shards_retried=outcomes[Outcome.FAILED],
        shards_given_back=outcomes[Outcome.STOPPED],
        errors=tuple(errors)[:REASONS_SHOWN],
    )
