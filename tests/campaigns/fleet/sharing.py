"""How evenly the work is shared, beside the ideal split: all workers at work until the same moment."""

import time
from collections.abc import Iterator, Sequence

from tests.campaigns.fleet.figures import Figure
from tests.campaigns.fleet.fleet import Campaign, Fleet
from tests.campaigns.fleet.host import until

NUM_RECORDS = 2800
PACE = 1000.0
"""Tokens a second of an ordinary device: the job takes one of them about 200 s."""
ALLOWED = 1.10
PROMISED = f"within {ALLOWED:.2f} of the ideal split"
PATIENCE = 4.0
"""In multiples of the ideal split."""


def slow_device(campaign: Campaign) -> Iterator[Figure]:
    """Four hosts, the device of one of them ten times slower."""
    with campaign.fleet("slow-device") as fleet:
        paces = [PACE, PACE, PACE, PACE / 10]
        for number, pace in enumerate(paces):
            fleet.add_host(f"host{number}", tokens_per_second=pace)
        yield _judge(campaign, fleet, "a device ten times slower", "1.4 to 2.1", paces)


def uneven_hosts(campaign: Campaign) -> Iterator[Figure]:
    """Three hosts of one, two and four workers, all of one pace."""
    with campaign.fleet("uneven-hosts") as fleet:
        for workers in (1, 2, 4):
            fleet.add_host(f"host{workers}", tokens_per_second=PACE / 2, workers=workers)
        yield _judge(campaign, fleet, "hosts of 1, 2 and 4 workers", "1.9 to 2.3", [PACE / 2] * 7)


def five_big_inputs(campaign: Campaign) -> Iterator[Figure]:
    """Five files on four workers, cut as the product does by itself; and cut in five as the user asked."""
    for options, before in (((), "-"), (("--shards", "5"), "1.85")):
        with campaign.fleet(f"five-big-{len(options)}") as fleet:
            for number in range(4):
                fleet.add_host(f"host{number}", tokens_per_second=PACE)
            scenario = " ".join(["5 big inputs on 4 workers", *options])
            yield _judge(campaign, fleet, scenario, before, [PACE] * 4, *options, files=5)


def small_behind_large(campaign: Campaign) -> Iterator[Figure]:
    """A small job comes when four workers are at a large one that came before it."""
    with campaign.fleet("small-behind-large") as fleet:
        paces = [PACE] * 4
        for number, pace in enumerate(paces):
            fleet.add_host(f"host{number}", tokens_per_second=pace)
        fleet.wait_for_workers()
        large = fleet.submit("large", campaign.input(NUM_RECORDS), "--shards", "32")
        alone_seconds = large.tokens / sum(paces)
        until(lambda: large.events("done"), alone_seconds)
        small = fleet.submit("small", campaign.input(NUM_RECORDS // 20), "--shards", "4")
        until(lambda: small.events("committed") or large.has_ended(), PATIENCE * alone_seconds)
        first = small.events("committed")
        waited = (first[0].at if first else time.time()) - small.at
        shards = waited / (large.tokens / len(large.job.shards) / PACE)
        found = f"{waited:.1f} s, {shards:.2f} shard times" + ("" if first else ", not begun")
        promised = "first batch within one shard's time"
        good = bool(first) and shards <= 1
        yield Figure("a small job behind a large one", "waits for all of it", promised, found, good)


def _judge(
    campaign: Campaign,
    fleet: Fleet,
    scenario: str,
    before: str,
    paces: Sequence[float],
    *options: str,
    files: int = 1,
) -> Figure:
    fleet.wait_for_workers()
    submitted = fleet.submit("job", campaign.input(NUM_RECORDS, files), *options)
    ideal_seconds = submitted.tokens / sum(paces)
    until(submitted.has_ended, PATIENCE * ideal_seconds)
    if not submitted.is_exported():
        return Figure(scenario, before, PROMISED, f"{submitted.state()}, not done in time", False)
    ratio, verdict = submitted.seconds_taken() / ideal_seconds, submitted.verdict()
    return Figure(scenario, before, PROMISED, f"{ratio:.2f}, {verdict}", verdict.is_good and ratio <= ALLOWED)
