"""A holder that is cut off from the server alone, and goes on after its shard was retaken and exported.

Its device gives other last bits, so that whatever it replaces shows. Both hosts live through all rounds.
"""

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from queue_app.outputs.verify import verify_job
from tests.campaigns.chaos.inputs import Input
from tests.campaigns.chaos.journal import WORK_ENDED
from tests.campaigns.chaos.oracle import ids_of
from tests.campaigns.fleet.figures import Figure
from tests.campaigns.fleet.fleet import QUICK, Campaign, Fleet, Submission, holdfast
from tests.campaigns.fleet.host import Host, until

GATES = ("before-commit", "before-done-record", "after-done-record", "before-completion")
"""Where the holder stands while it is cut off."""
NUM_RECORDS = 60
PACE = 4000.0
HELD_SECONDS = 40.0
RETAKEN_SECONDS = 60.0
BACK_SECONDS = 60.0
HEAL_SECONDS_MOST = 1.5
BEFORE = "rewrites the record back; output and export differ, verify says sound"


@dataclass(frozen=True, slots=True)
class Published:
    """What readers go by: the done records, and the output with its ids."""

    records: Mapping[str, bytes]
    output: bytes
    ids: bytes

    @classmethod
    def of(cls, submitted: Submission, output: Path | None = None) -> "Published":
        """With the output of the job, or another one of the same."""
        path = output or submitted.output
        records = {done.name: done.read_bytes() for done in sorted(submitted.directory.dones.iterdir())}
        return cls(records, path.read_bytes(), path.with_suffix(".ids.txt").read_bytes())


def cut_off_holders(campaign: Campaign) -> Iterator[Figure]:
    """Each round has a job of its own."""
    rounds = campaign.rounds
    trouble: list[str] = []
    rng = random.Random(rounds)
    with campaign.fleet("zombies", QUICK) as fleet:
        zombie = fleet.add_host("zombie", tokens_per_second=PACE, FLEET_OTHER_BITS="1")
        fleet.add_host("other", tokens_per_second=PACE)
        fleet.wait_for_workers()
        for number in range(rounds):
            gate = GATES[number % len(GATES)]
            faults = _round(fleet, zombie, f"round{number:03d}", gate, campaign.input(NUM_RECORDS), rng)
            trouble += [f"round {number}, held {gate}: {each}" for each in faults]
            campaign.say(f"round {number}, held {gate}: {'; '.join(faults) or 'agree'}")
    agree = rounds - len({each.partition(",")[0] for each in trouble})
    found = f"{agree} of {rounds} agree" + "".join(f"; {each}" for each in trouble[:3])
    yield Figure("a holder cut off, its shard retaken", BEFORE, "all agree", found, not trouble)


def _round(fleet: Fleet, zombie: Host, name: str, gate: str, input: Input, rng: random.Random) -> list[str]:
    """Answers what does not agree, or did not come about."""
    held = zombie.gates / f"{gate}.held"
    (zombie.gates / gate).touch()
    submitted = fleet.submit(name, input, "--shards", "4")
    if not until(held.exists, HELD_SECONDS):
        (zombie.gates / gate).unlink(missing_ok=True)
        return ["the holder never got there"]
    zombie.cut()
    try:
        if not until(submitted.is_exported, RETAKEN_SECONDS):
            return ["its shard was not retaken, or not exported"]
        before, ends = Published.of(submitted), _num_ended(zombie)
        steps: list[Callable[[], None]] = [held.unlink, zombie.heal]
        if rng.random() < 0.5:
            steps.reverse()
        for step in steps:
            step()
            time.sleep(rng.uniform(0, HEAL_SECONDS_MOST))
    finally:
        held.unlink(missing_ok=True)
        zombie.heal()
    if not until(lambda: _num_ended(zombie) > ends and fleet.num_workers() == 2, BACK_SECONDS):
        return ["the holder does not come back"]
    return list(_disagreements(submitted, before))


def _num_ended(host: Host) -> int:
    """How often a shard's task, or a process that was at one, has ended there."""
    texts = (line.partition("] ")[2] for line in host.log.read_text(errors="replace").splitlines())
    return sum(WORK_ENDED.match(text) is not None for text in texts)


def _disagreements(submitted: Submission, before: Published) -> Iterator[str]:
    """What records, output, export and verify do not say alike."""
    after = Published.of(submitted)
    for record, content in before.records.items():
        if after.records[record] != content:
            fell = _token(after.records[record]) < _token(content)
            yield f"record {record} {'fell back to an older token' if fell else 'was replaced'}"
    if (after.output, after.ids) != (before.output, before.ids):
        yield "the output changed"
    again = submitted.output.with_name(f"{submitted.output.stem}-again.npy")
    ended = holdfast("export", submitted.directory.path, "-o", again)
    if ended.returncode:
        yield f"it cannot be exported again: {ended.stderr.strip()}"
    elif Published.of(submitted, again) != after:
        yield "another export differs from the output"
    if damage := verify_job(submitted.directory).damage:
        yield f"verify: {damage}"
    if wrong := _num_wrong(submitted.output, submitted.input.undisturbed):
        yield f"{wrong} rows wrong"


def _token(record: bytes) -> int:
    """The token in the name of the file that a done record names."""
    named = re.search(rb"\d{5}-(\d+)[^\"]*\.parquet", record)
    return int(named[1]) if named else 0


def _num_wrong(output: Path, undisturbed: Path) -> int:
    """Rows that are neither this device's nor the other's; of another id; missing or too many."""
    ids, expected_ids = ids_of(output), ids_of(undisturbed)
    if ids != expected_ids:
        return abs(len(ids) - len(expected_ids)) + sum(
            a != b for a, b in zip(ids, expected_ids, strict=False)
        )
    rows, expected = np.load(output), np.load(undisturbed)
    other = np.nextafter(expected, np.float32(np.inf))
    return int((~((rows == expected).all(axis=1) | (rows == other).all(axis=1))).sum())
