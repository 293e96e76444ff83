"""Chaos over three hosts: jobs one after another, until so many faults have struck.

Every output is held against that of a run that nothing happened to, again at the very end: what was cut off
may have come back after its job had ended.
"""

import heapq
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.campaigns.fleet.figures import Figure
from tests.campaigns.fleet.fleet import QUICK, Campaign, Fleet, Submission
from tests.campaigns.fleet.host import Host, Scratch
from tests.campaigns.fleet.random_faults import HOST_FAULTS, HostFault

NUM_HOSTS = 3
WORKERS_A_HOST = 1
NUM_RECORDS = (300, 600)
NUM_SHARDS = "9"
PACE = 1500.0
"""Tokens a second: an undisturbed job takes three workers about 5 or 10 s."""
PAUSE_SECONDS = 1.5
"""The mean time between two faults."""
FRESH_SECONDS = (0.0, 5.0)
STUCK_SECONDS = 90.0
"""Jobs of which, without any fault, for so long nothing is done or exported never end."""
POLL_SECONDS = 0.05


@dataclass(slots=True)
class HostChaos:
    """One run. `happened` counts what struck; `jobs` holds every job that was submitted."""

    campaign: Campaign
    fleet: Fleet
    rng: random.Random
    num_faults: int
    happened: Counter[str] = field(default_factory=Counter)
    jobs: list[Submission] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    _bag: list[HostFault] = field(default_factory=list)
    _later: list[tuple[float, int, Host | None, Callable[[], None]]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _next_fault: float = 0.0

    def run(self) -> None:
        for number in range(NUM_HOSTS):
            self._add_host(f"host{number}")
        self.fleet.wait_for_workers()
        while self.happened.total() < self.num_faults:
            self._one_job()
        for job in self.jobs:
            self._judge(job)

    def _one_job(self) -> None:
        """Submit one, and wait for its end; faults strike as long as there are any left."""
        input = self.campaign.input(self.rng.choice(NUM_RECORDS))
        job = self.fleet.submit(f"job{len(self.jobs):03d}", input, "--shards", NUM_SHARDS)
        self.jobs.append(job)
        moved, seen = time.monotonic(), (0, 0)
        while not job.is_exported():
            self._tick()
            now = (job.num_done(), self.happened.total())
            if now != seen:
                moved, seen = time.monotonic(), now
            if time.monotonic() > moved + STUCK_SECONDS:
                self.trouble.append(f"{job.output.name}: never ended, {job.state()}, {job.num_done()} shards")
                self.campaign.say(self.trouble[-1])
                return
        self.campaign.say(f"{job.output.name} ended: {job.verdict()}, {self.happened.total()} faults so far")

    def _judge(self, job: Submission) -> None:
        if job.is_exported() and not (verdict := job.verdict()).is_good:
            self.trouble.append(f"{job.output.name}: {verdict}")

    # ---- faults

    def _tick(self) -> None:
        while self._later and self._later[0][0] <= time.monotonic():
            _, _, host, action = heapq.heappop(self._later)
            if host is None or host.is_on():
                action()
        for host in self.fleet.hosts.values():
            if host.is_on() and not host.workers_are_up() and not self._is_hit(host):
                host.start_workers()
        if time.monotonic() >= self._next_fault and self.happened.total() < self.num_faults:
            self._strike()
            self._next_fault = time.monotonic() + self.rng.expovariate(1 / PAUSE_SECONDS)
        time.sleep(POLL_SECONDS)

    def _strike(self) -> None:
        if not self._bag:
            self._bag = [fault for fault in HOST_FAULTS for _ in range(fault.weight)]
            self.rng.shuffle(self._bag)
        fault = self._bag.pop()
        hit = fault.strike(self)
        if hit is None:  # nothing to hit just now
            self._bag.insert(self.rng.randint(0, len(self._bag)), fault)
            return
        self.happened[fault.name] += 1
        self.campaign.say(f"{self.happened.total()}: {fault.name}: {hit}")

    def pick_host(self) -> Host | None:
        whole = [each for each in self.fleet.hosts.values() if each.is_on() and not self._is_hit(each)]
        return self.rng.choice(whole) if whole else None

    def later(self, host: Host | None, action: Callable[[], None], seconds: tuple[float, float]) -> None:
        at = time.monotonic() + self.rng.uniform(*seconds)
        heapq.heappush(self._later, (at, next(self._numbers), host, action))

    def replace(self, host: Host) -> None:
        self.later(None, lambda: self._add_host(host.name), FRESH_SECONDS)

    def _is_hit(self, host: Host) -> bool:
        """Something of it is still to be mended."""
        return any(each is host for _, _, each, _ in self._later)

    def _add_host(self, name: str) -> None:
        self.fleet.add_host(name, tokens_per_second=PACE, workers=WORKERS_A_HOST, scratch=Scratch.SMALL)


def chaos_over_hosts(campaign: Campaign, num_faults: int, seed: int) -> Iterator[Figure]:
    """Strike so often, and judge every job. Workers know where jobs lie: a fresh host has worked in none."""
    with campaign.fleet("chaos", QUICK) as fleet:
        fleet.settings = {**QUICK, "HOLDFAST_ROOTS": str(fleet.shared)}
        chaos = HostChaos(campaign, fleet, random.Random(seed), num_faults)
        chaos.run()
    verdicts = [job.verdict() for job in chaos.jobs if job.is_exported()]
    found = (
        f"{chaos.happened.total()} faults, {len(verdicts)} of {len(chaos.jobs)} jobs ended, "
        f"{sum(each.lost for each in verdicts)} lost, "
        f"{sum(each.duplicated for each in verdicts)} duplicated, "
        f"{sum(each.wrong for each in verdicts)} wrong, {sum(each.identical for each in verdicts)} identical"
    )
    promised = "0 lost, 0 duplicated, 0 wrong, all identical"
    for name, times in sorted(chaos.happened.items()):
        campaign.say(f"{times} x {name}")
    for trouble in chaos.trouble:
        campaign.say(f"FAILED {trouble}")
    yield Figure(f"chaos over {NUM_HOSTS} hosts, seed {seed}", "-", promised, found, not chaos.trouble)
