"""Faults that come with a job of their own: its producer is killed or doubled, its records do harm."""

from collections.abc import Iterator

from tests.campaigns.chaos.faults import Fault, Hit, Kind
from tests.campaigns.chaos.jobs import Jobs, Manner
from tests.campaigns.chaos.stage import Stage


def job_faults(jobs: Jobs, *, at_once: int) -> Iterator[Fault]:
    """`at_once`: while so many jobs run, none is added."""
    for manner in (Manner.KILLED, Manner.TWO_AT_ONCE):

        def submit(_: Stage, manner: Manner = manner) -> Hit | None:
            if len(jobs.running()) >= at_once:
                return None
            jobs.submit(manner)
            return ()

        yield Fault(str(manner), Kind.PRODUCER, submit)

    def poison(_: Stage) -> Hit | None:
        if len(jobs.running()) >= at_once:
            return None
        jobs.submit(Manner.PLAIN, input=jobs.poisoned())
        return ()

    if jobs.poisoned():
        yield Fault("records that kill, fail, give NaN", Kind.POISON, poison)
