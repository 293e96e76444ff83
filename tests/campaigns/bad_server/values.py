"""Odd values under every family of keys, while real workers work: who is stopped by them, and for how long?

After each value every view is looked at, and some job is paused and cancelled: what answers is an error of
ours, or none. After every twenty a canary must come home. Where it does not, what was written is taken away
again, and then it must within a minute.
"""

import contextlib
import random
from collections.abc import Callable
from pathlib import Path

from queue_app.coordination import job_control
from queue_app.coordination.manifest import known_jobs
from queue_app.dashboard.board import JobReader
from queue_app.dashboard.job_list import JobListReader
from queue_app.dashboard.job_source import Place
from queue_app.errors import HoldfastError
from queue_app.preflight.check_server import examine_configured
from queue_app.settings import runtime_config
from queue_app.status.snapshot import snapshots
from queue_app.status.text import describe
from tests.campaigns.bad_server.harness import CANARY_EVERY, Report, Stage, stage
from tests.support.command_runs import holdfast
from tests.support.hostile_values import FOREIGN, Written, write_one
from tests.support.jobs_and_inputs import write_fasta

AT_WORK_WITHIN_SECONDS = 60.0


def campaign(folder: Path, number: int, seed: int) -> Report:
    """Half of them against a fleet without a key, half against one with."""
    report = Report()
    for with_key in (False, True):
        with stage(folder / f"key-{with_key}", num_workers=2, with_key=with_key) as made:
            report.add(strike(made, (number + with_key) // 2, random.Random(f"{seed} {with_key}")))
    return report


def strike(made: Stage, times: int, drawn: random.Random, every: int = CANARY_EVERY) -> Report:
    """Write so many odd values on a living fleet."""
    report = Report()
    report.canaries.append(made.canary())
    victims = [*known_jobs(made.client), waiting_job(made), FOREIGN]
    since: list[Written] = []
    for turn in range(1, times + 1):
        written = write_one(made.client, drawn, victims, made.names)
        since.append(written)
        report.written[written.kind] += 1
        report.broken += [f"{said} after {written}" for said in look(made.url, drawn.choice(victims))]
        if turn % every == 0 or turn == times:
            fly(made, report, since)
            since = []
    if dead := made.dead():
        report.broken.append(f"supervisors ended: {dead}")
    if "Traceback" in made.log():
        report.broken.append("a traceback in a worker's log")
    return report


def waiting_job(made: Stage) -> str:
    """A job that runs and waits for a device that nobody has; answers its id."""
    fasta = write_fasta(made.folder / "waiting.fasta", 40)
    said = holdfast(
        "enqueue", fasta, "-o", made.folder / "w.npy", "-m", "mock:8", "--queues", "gpu0", **made.env
    )
    return said.stdout.split()[0]


def fly(made: Stage, report: Report, since: list[Written]) -> None:
    """The canary; where it does not come home, once more without what was written."""
    try:
        report.canaries.append(made.canary())
        return
    except AssertionError as error:
        report.written["(a canary waited for the garbage's removal)"] += 1
        stopped = str(error)
    for written in since:
        made.client.delete(written.key)
    try:
        report.canaries.append(made.canary(within=AT_WORK_WITHIN_SECONDS))
    except AssertionError as error:
        report.broken.append(f"{stopped}; {error} after {since}")


def look(url: str, job_id: str) -> list[str]:
    """What anyone may look at, and do to a job; answers what ended in another way than it may."""
    place = Place(job_id=job_id, directory=None, broker=url)
    tries: dict[str, Callable[[], object]] = {
        "status": lambda: [(describe(each), each.as_json()) for each in snapshots(None, url)],
        "status of one": lambda: [(describe(each), each.as_json()) for each in snapshots(job_id, url)],
        "doctor": lambda: list(examine_configured(url, runtime_config())),
        "list": lambda: JobListReader(place).read().as_json(),
        "board": lambda: JobReader(place, job_id, runtime_config()).look(),
        "pause": lambda: job_control.pause(job_id, url),
        "cancel": lambda: job_control.cancel(job_id, url),
    }
    broken = []
    for name, attempt in tries.items():
        try:
            with contextlib.suppress(HoldfastError):
                attempt()
        except Exception as error:
            broken.append(f"{name}: {type(error).__name__}: {str(error)[:200]}")
    return broken
