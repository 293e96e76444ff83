"""A server that forgets, a host that is gone for good, and two fleets that share nothing but a directory."""

import time
from collections.abc import Iterator

from tests.campaigns.fleet.figures import Figure
from tests.campaigns.fleet.fleet import QUICK, Campaign, Fleet, Submission
from tests.campaigns.fleet.host import until
from tests.campaigns.fleet.log_events import events_of

NUM_RECORDS = 2000
NUM_SHARDS = "32"
PACE = 1000.0
"""Tokens a second: a job takes three hosts about 50 s."""
STARTED_SECONDS = 60.0
PATIENCE_SECONDS = 180.0
IN_FLIGHT_SECONDS = 0.3
"""What is begun so soon after a flush was granted before it."""
TAKE_OVER_SECONDS = 25.0
"""Promised of another host, from the death of a holder to the next commit of its shard."""


def emptied_server(campaign: Campaign) -> Iterator[Figure]:
    """FLUSHALL while three hosts are at work that were started with the documented commands."""
    with campaign.fleet("emptied") as fleet:
        submitted = _begin(campaign, fleet)
        flushed = time.time()
        fleet.server.flush()
        until(lambda: _begun_after(submitted, flushed + IN_FLIGHT_SECONDS), PATIENCE_SECONDS / 2)
        begun = _begun_after(submitted, flushed + IN_FLIGHT_SECONDS)
        ended = begun is not None and until(submitted.is_exported, PATIENCE_SECONDS)
        found = "nothing is begun again" if begun is None else f"goes on after {begun - flushed:.1f} s"
        found += f", {submitted.verdict()}" if ended else f", {submitted.num_done()} of {NUM_SHARDS} shards"
        good = ended and submitted.verdict().is_good
        yield Figure("emptied Redis", "nothing ever resumes", "resumes by itself", found, good)


def host_gone_for_good(campaign: Campaign) -> Iterator[Figure]:
    """The power of one of three hosts fails in the middle of a shard, and it never comes back."""
    with campaign.fleet("gone") as fleet:
        submitted = _begin(campaign, fleet)
        gone = fleet.hosts["host0"]
        until(lambda: _shard_at(submitted, gone.name) is not None, STARTED_SECONDS)
        shard, died = _shard_at(submitted, gone.name), time.time()
        gone.power_off()
        ended = until(submitted.is_exported, PATIENCE_SECONDS)
        later = [
            event.at - died
            for event in submitted.events("committed")
            if event.shard == shard and event.at > died
        ]
        found = f"its shard goes on after {min(later):.1f} s" if later else "its shard does not go on"
        verdict = submitted.verdict() if ended else None
        good = bool(later) and min(later) <= TAKE_OVER_SECONDS and verdict is not None and verdict.is_good
        promised = f"its shard elsewhere within {TAKE_OVER_SECONDS:g} s"
        yield Figure(
            "a host gone for good", "goes to the end of its queue", promised, f"{found}, {verdict}", good
        )


def two_fleets(campaign: Campaign) -> Iterator[Figure]:
    """Two servers, each with a host and a job of its own, and one directory that both search for jobs."""
    shared = campaign.home / "two-fleets" / "shared"
    settings = {**QUICK, "HOLDFAST_ROOTS": str(shared)}
    fleets = [
        Fleet(campaign.home / "two-fleets" / name, campaign.network, shared, settings) for name in ("a", "b")
    ]
    with fleets[0].running(), fleets[1].running():
        for number, fleet in enumerate(fleets):
            fleet.add_host(f"host{number}", tokens_per_second=4 * PACE)
            fleet.wait_for_workers()
        jobs = [
            fleet.submit(f"job{number}", campaign.input(NUM_RECORDS // 2), "--shards", "8")
            for number, fleet in enumerate(fleets)
        ]
        ended = all(until(job.is_exported, PATIENCE_SECONDS) for job in jobs)
        strangers = [num_shards_of(jobs[number], fleets[1 - number]) for number in range(2)]
        verdicts = [str(job.verdict()) for job in jobs] if ended else ["not done"]
        found = f"{sum(strangers)} shards computed by the other fleet; {'; '.join(verdicts)}"
        good = ended and not sum(strangers) and all(job.verdict().is_good for job in jobs)
        yield Figure("two fleets over one directory", "compute each other's jobs", "0 shards", found, good)


def num_shards_of(submitted: Submission, fleet: Fleet) -> int:
    """How many shards of a job the hosts of a fleet began."""
    logs = [(host.name, host.log) for host in fleet.hosts.values()]
    return sum(event.what == "computing" for event in events_of(submitted.job.job_id, logs))


def _begin(campaign: Campaign, fleet: Fleet) -> Submission:
    """Three hosts at work, each of which has ended a shard."""
    for number in range(3):
        fleet.add_host(f"host{number}", tokens_per_second=PACE)
    fleet.wait_for_workers()
    submitted = fleet.submit("job", campaign.input(NUM_RECORDS), "--shards", NUM_SHARDS)
    until(lambda: len({event.host for event in submitted.events("done")}) == 3, STARTED_SECONDS)
    return submitted


def _begun_after(submitted: Submission, at: float) -> float | None:
    """When the first shard was begun after that."""
    return next((event.at for event in submitted.events("computing") if event.at > at), None)


def _shard_at(submitted: Submission, host: str) -> int | None:
    """What a host is computing, if it has committed some of it."""
    last = next((event for event in reversed(submitted.events()) if event.host == host), None)
    return last.shard if last is not None and last.what == "committed" else None
