"""Hosts that nothing happens to, as a measure for all others."""

from collections.abc import Iterator

from tests.campaigns.fleet.figures import Figure
from tests.campaigns.fleet.fleet import QUICK, Campaign
from tests.campaigns.fleet.host import until

PATIENCE_SECONDS = 60.0


def three_hosts(campaign: Campaign) -> Iterator[Figure]:
    """A job on three hosts has the bytes of one that was run by one worker beside its server."""
    with campaign.fleet("undisturbed", QUICK) as fleet:
        for number in range(3):
            fleet.add_host(f"host{number}", tokens_per_second=4000)
        fleet.wait_for_workers()
        submitted = fleet.submit("job", campaign.input(400), "--shards", "9")
        ended = until(submitted.is_exported, PATIENCE_SECONDS)
        verdict = submitted.verdict() if ended else None
        good = verdict is not None and verdict.is_good
        busy = {event.host for event in submitted.events("done")}
        yield Figure(
            "three hosts, undisturbed", "identical", "identical", f"{verdict}, {len(busy)} hosts", good
        )
