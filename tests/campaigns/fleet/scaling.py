"""From 1 to 32 workers: does each of them add as much as the first?"""

from collections.abc import Iterator

from tests.campaigns.fleet.figures import Figure
from tests.campaigns.fleet.fleet import Campaign, Submission
from tests.campaigns.fleet.host import until

WORKERS = (1, 2, 4, 8, 16, 32)
WORKERS_A_HOST = 8
RECORDS_A_WORKER = 1000
PACE = 1000.0
"""Each worker has about 75 s to do: compute sleeps, but the cores start and end shards."""
PATIENCE_SECONDS = 400.0
ALLOWED = 0.97


def one_to_many(campaign: Campaign) -> Iterator[Figure]:
    """Each fleet has a job as large as itself."""
    alone = 0.0
    for workers in WORKERS:
        with campaign.fleet(f"scaling-{workers}") as fleet:
            for first in range(0, workers, WORKERS_A_HOST):
                on_host = min(WORKERS_A_HOST, workers - first)
                fleet.add_host(f"host{first}", tokens_per_second=PACE, workers=on_host)
            fleet.wait_for_workers()
            # Cut as the product does by itself: in 32 to 128 shards here.
            submitted = fleet.submit("job", campaign.input(RECORDS_A_WORKER * workers))
            until(submitted.has_ended, PATIENCE_SECONDS)
            yield _judge(submitted, workers, alone)
            alone = alone or _tokens_per_second(submitted)


def _judge(submitted: Submission, workers: int, alone: float) -> Figure:
    scenario, promised = f"{workers} workers, compute replaced by sleep", f"{ALLOWED} of linear"
    if not submitted.is_exported():
        return Figure(scenario, "-", promised, f"{submitted.state()}, not done in time", False)
    linear = workers * (alone or _tokens_per_second(submitted))
    share, verdict = _tokens_per_second(submitted) / linear, submitted.verdict()
    ideal = _tokens_per_second(submitted) / (workers * PACE)
    found = f"{share:.3f} of linear, {ideal:.3f} of all that they could, {verdict}"
    return Figure(scenario, "-", promised, found, verdict.is_good and share >= ALLOWED)


def _tokens_per_second(submitted: Submission) -> float:
    if not submitted.is_exported():
        return 0.0
    return submitted.tokens / submitted.seconds_taken()
