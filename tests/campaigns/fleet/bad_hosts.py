"""A host that cannot work hurts itself only: the job is done, and the others take no longer for it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.campaigns.fleet.figures import Figure
from tests.campaigns.fleet.fleet import Campaign, Fleet, Submission
from tests.campaigns.fleet.host import Host, Scratch, until

JOB = "job"
ALONE = "good-hosts-alone"
NUM_RECORDS = 2000
SMALL_RECORDS = 100
NUM_SHARDS = 32
GOOD_HOSTS = 3
PACE = 1000.0
"""Tokens a second of each good host: the job takes them about 50 s."""
PATIENCE = 4.0
"""In multiples of what the good hosts need."""
PROMISED = "done; the others' time within 1.10"
ALLOWED = 1.10


def without_scratch(campaign: Campaign) -> Iterator[Figure]:
    """One host's local directory is read-only, full, or cannot be made."""
    before = "the whole job fails within 57 to 65 s, 20 of 32 shards"
    for scratch in (Scratch.READ_ONLY, Scratch.FULL, Scratch.MISSING):
        with campaign.fleet(f"scratch-{scratch.name.lower()}") as fleet:
            fleet.add_host("bad", tokens_per_second=PACE, scratch=scratch)
            yield _judge(campaign, fleet, f"one host's scratch {scratch}", before)


def without_shared_directory(campaign: Campaign) -> Iterator[Figure]:
    """One host does not see the shared directory: an empty one lies in its place; one in which another job
    has the path of ours; or it is gone while the host is at work."""
    before = "14 of 32 shards after 400 s, nothing shown"
    with campaign.fleet("no-mount") as fleet:
        fleet.add_host("bad", tokens_per_second=PACE, shared=False)
        yield _judge(campaign, fleet, "one host without the shared mount", before)
    with campaign.fleet("wrong-mount") as fleet:
        _mount_another(campaign, fleet, fleet.add_host("bad", tokens_per_second=PACE, shared=False))
        yield _judge(campaign, fleet, "one host with another directory there", before)
    with campaign.fleet("lost-mount") as fleet:
        bad = fleet.add_host("bad", tokens_per_second=PACE)
        yield _judge(campaign, fleet, "one host's shared mount gone while it works", "-", bad.hide_shared)


def _mount_another(campaign: Campaign, fleet: Fleet, bad: Host) -> None:
    """What the host sees has the directory of another job under the name of the one that will come."""
    fleet.wait_for_workers()
    other = fleet.submit("other", campaign.input(SMALL_RECORDS))
    seen = Path(f"/proc/{bad.first}/root{fleet.shared}")
    shutil.copytree(other.directory.path, seen / f"{JOB}.npy.holdfast")
    shutil.rmtree(other.directory.path)


def _submit(campaign: Campaign, fleet: Fleet) -> Submission:
    """The job, to a fleet that has its good hosts as well from here on."""
    for number in range(GOOD_HOSTS):
        fleet.add_host(f"good{number}", tokens_per_second=PACE)
    fleet.wait_for_workers()
    return fleet.submit(JOB, campaign.input(NUM_RECORDS), "--shards", str(NUM_SHARDS))


def _seconds_alone(campaign: Campaign) -> float:
    """What the job takes the good hosts when there is no other; measured once."""
    if ALONE not in campaign.measured:
        with campaign.fleet(ALONE) as fleet:
            submitted = _submit(campaign, fleet)
            if not until(submitted.is_exported, PATIENCE * submitted.tokens / PACE / GOOD_HOSTS):
                raise RuntimeError(f"{ALONE} do not end the job: {submitted.state()}")
            campaign.measured[ALONE] = submitted.seconds_taken()
    return campaign.measured[ALONE]


def _judge(
    campaign: Campaign, fleet: Fleet, scenario: str, before: str, harm: Callable[[], None] | None = None
) -> Figure:
    """`harm` is done to the bad host while it is at work."""
    alone = _seconds_alone(campaign)
    submitted = _submit(campaign, fleet)
    if harm:
        until(lambda: any(each.host == "bad" for each in submitted.events("committed")), alone)
        harm()
    until(submitted.has_ended, PATIENCE * alone)
    found = f"{submitted.state()}, {submitted.num_done()} of {NUM_SHARDS} shards"
    if not submitted.is_exported():
        return Figure(scenario, before, PROMISED, found, False)
    ratio, verdict = submitted.seconds_taken() / alone, submitted.verdict()
    good = verdict.is_good and ratio <= ALLOWED
    return Figure(scenario, before, PROMISED, f"{found}, {ratio:.2f} of the others' time, {verdict}", good)
