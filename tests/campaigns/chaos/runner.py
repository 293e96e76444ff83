"""The run: jobs come and go, faults strike at random moments, and every job is held against the oracle."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.campaigns.chaos.faults import Fault, Hit, Kind
from tests.campaigns.chaos.inputs import make_inputs
from tests.campaigns.chaos.job_faults import job_faults
from tests.campaigns.chaos.jobs import Jobs, Manner, Submission
from tests.campaigns.chaos.machine_faults import MACHINE_FAULTS
from tests.campaigns.chaos.oracle import judge
from tests.campaigns.chaos.pace import QUICK, Pace
from tests.campaigns.chaos.process_faults import MEMORY_POINTS, POINTS, PROCESS_FAULTS, note_fired
from tests.campaigns.chaos.rework import Rework, find_rework
from tests.campaigns.chaos.server_faults import MESSAGE_FAULTS, SERVER_FAULTS
from tests.campaigns.chaos.stage import EPOCH, Stage

POLL_SECONDS = 0.03


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is to be. It goes on until it had enough jobs, kills, zombies and every fault, or
    time is up."""

    seed: int
    num_jobs: int
    minutes: float
    kills: int = 0
    zombies: int = 0
    model: str = "mock:16,delay_ms=40"
    pace: Pace = QUICK
    num_workers: int = 3
    jobs_at_once: int = 3
    pause_seconds: float = 1.2
    """The mean time between two faults."""
    alone: bool = False
    """Instead: every fault once, by itself, on a job of its own that no later fault helps to its end."""
    without: tuple[str, ...] = ()
    """Faults to leave out, by any part of their names."""
    timed: bool = True
    """Whether work that is repeated for longer than promised is a failure."""
    only: tuple[str, ...] = ()
    """The faults to strike with, in the same way; none: all."""

    def wants(self, fault: Fault) -> bool:
        wanted = not self.only or any(part in fault.name for part in self.only)
        return wanted and not any(part in fault.name for part in self.without)


@dataclass(slots=True)
class Chaos:
    """One run. `happened` counts what struck; `jobs` holds every job with its verdict."""

    plan: Plan
    stage: Stage
    jobs: Jobs
    say: Callable[[str], None]
    happened: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    rework: Rework = field(default_factory=Rework)
    _bag: list[Fault] = field(default_factory=list)
    _next_fault: float = 0.0

    @property
    def faults(self) -> list[Fault]:
        """All that can strike here."""
        return [fault for fault in self._wanted() if self._why_not(fault) is None]

    def left_out(self) -> list[str]:
        """Faults that this machine does not let us do, or the model, and why."""
        reasons = [(fault.name, self._why_not(fault)) for fault in self._wanted()]
        found = [f"{name} ({reason})" for name, reason in reasons if reason]
        return found if self.jobs.poisoned() else [*found, "records that do harm (only the mock has them)"]

    def _wanted(self) -> list[Fault]:
        of_jobs = job_faults(self.jobs, at_once=2 * self.plan.jobs_at_once + 1)
        every = [*PROCESS_FAULTS, *SERVER_FAULTS, *MESSAGE_FAULTS, *MACHINE_FAULTS, *of_jobs]
        return [fault for fault in every if self.plan.wants(fault)]

    def _why_not(self, fault: Fault) -> str | None:
        if fault.needs_small_disk and self.stage.small_disk is None:
            return "no mount namespace here"
        return "no libfaketime here" if fault.needs_clocks and not self.stage.clocks else None

    # ---- the run

    def run(self) -> None:
        started = time.monotonic()
        if self.plan.alone:
            self._one_by_one()
        else:
            self._at_random()
        self.seconds = time.monotonic() - started
        self.rework = find_rework(self.stage.events, self.stage.ends)
        self._judge_again()

    def _at_random(self) -> None:
        started = time.monotonic()
        while not self._had_enough(time.monotonic() - started):
            self._feed()
            if time.monotonic() >= self._next_fault:
                self._strike(self._draw())
                pause = self.stage.rng.expovariate(1 / self.plan.pause_seconds)
                self._next_fault = time.monotonic() + pause
            self._tick()
        self._disarm()
        self._drain()

    def _one_by_one(self) -> None:
        """Faults that come later may mend what an earlier one broke (a flush has every job rebuilt)."""
        for fault in self.faults:
            self.jobs.submit(Manner.PLAIN, small_disk=fault.needs_small_disk)
            self._tick_until(self._all_computing, self.plan.pace.stuck_seconds)
            self._strike(fault)
            self._drain()
            self._disarm()

    def _all_computing(self) -> bool:
        return all(self.stage.journal.shard_of(queue) for queue in self.stage.queues)

    def _had_enough(self, elapsed: float) -> bool:
        if elapsed > 60 * self.plan.minutes:
            return True
        return not self.missing() and self._had_many() and len(self.jobs.all) >= self.plan.num_jobs

    def _had_many(self) -> bool:
        return self.total(Kind.KILL) >= self.plan.kills and self.total(Kind.ZOMBIE) >= self.plan.zombies

    def total(self, kind: Kind) -> int:
        return sum(self.happened[fault.name] for fault in self.faults if fault.kind is kind)

    def _feed(self) -> None:
        while len(self.jobs.running()) < self.plan.jobs_at_once:
            self.jobs.submit_plain()

    def _tick(self) -> None:
        self.stage.tick()
        self.jobs.tick()
        self._note_fired()
        for job in self.jobs.running():
            if job.has_ended():
                self._judge(job)
                self.say(f"{job.name} ended: {job.verdict}")
        time.sleep(POLL_SECONDS)

    # ---- faults

    def _strike(self, fault: Fault) -> None:
        at = EPOCH + time.monotonic()
        self.stage.striking = fault.name
        hit = fault.strike(self.stage)
        if hit is not None:
            self._note(fault.name, at, hit)
        elif fault.name not in POINTS.values():  # nothing to hit just now
            self._bag.insert(self.stage.rng.randint(0, len(self._bag)), fault)

    def _draw(self) -> Fault:
        """From a bag that holds each fault as often as it weighs, so that every round has them all.

        Once there were enough kills, only what has not struck yet is left to come: some faults need a job
        that gets to its end.
        """
        if not self._bag:
            missing = [fault for fault in self.faults if not self.happened[fault.name]]
            seen_enough = self.happened and missing and self._had_many()
            self._bag = missing if seen_enough else [each for each in self.faults for _ in range(each.weight)]
            self.stage.rng.shuffle(self._bag)
        return self._bag.pop()

    def _note(self, name: str, at: float, hit: Hit) -> None:
        self.happened[name] += 1
        self.stage.journal.note_fault(name, at, hit)
        for job in self.jobs.running():
            job.faults.append(name)
        self.say(f"{name}: {', '.join(hit)}")

    def _note_fired(self) -> None:
        """Points strike when a worker reaches them."""
        for fired in self.stage.kill_points.glob("*.fired"):
            name, hit = note_fired(self.stage, fired)
            self._note(name, fired.stat().st_ctime, hit)
            fired.unlink()

    def _disarm(self) -> None:
        for point in POINTS:
            (self.stage.kill_points / point).unlink(missing_ok=True)

    # ---- verdicts

    def _judge(self, job: Submission) -> None:
        assert job.job is not None
        self.stage.journal.read()
        twice = self.stage.journal.committed_twice(job.job.job_id)
        split = self._split_ids(job)
        job.verdict = judge(job.output, job.input, committed_twice=twice, split=split)

    def _split_ids(self, job: Submission) -> frozenset[str]:
        """Records of the job that were computed in a batch that was split. The mock's vectors are the same
        in whatever company."""
        if self.plan.model.startswith("mock:") or MEMORY_POINTS["out-of-memory-twice"] not in job.faults:
            return frozenset()
        stores = find_rework(self.stage.events, ()).split.items()
        home = str(job.directory.path)
        return frozenset(
            job.input.ids[each] for path, split in stores if path.startswith(home) for each in split
        )

    def _judge_again(self) -> None:
        """A zombie may have come back after its job had ended."""
        for job in self.jobs.all:
            if job.verdict is not None:
                self._judge(job)

    def _drain(self) -> None:
        """No more faults: what still runs has to end by itself."""
        self._tick_while_it_moves()
        stuck = self.jobs.running()
        for job in stuck:
            # A failure already; but whether the same command again, on new workers, ends it is worth knowing.
            self.say(f"{job.name} does not end; it is submitted again, to new workers")
            job.trouble.append("never ended")
            job.submitted = False
            self.jobs.start_producer(job)
        if stuck:
            self.stage.renew_workers()
            self._tick_until(self._is_over, self.plan.pace.stuck_seconds / 2)
        for job in stuck:
            job.trouble.append(
                "submitted again, it ended" if job.verdict else "submitted again, it did not end"
            )
            job.given_up = job.verdict is None

    def _is_over(self) -> bool:
        return not self.jobs.running() and self.stage.is_quiet()

    def _tick_while_it_moves(self) -> None:
        """A crowded machine is slow, which is no fault of the product."""
        moved, seen = time.monotonic(), (0, 0)
        while not self._is_over() and time.monotonic() < moved + self.plan.pace.stuck_seconds:
            self._tick()
            now = (self.stage.journal.commits.total(), len(self.jobs.running()))
            if now != seen:
                moved, seen = time.monotonic(), now

    def _tick_until(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            self._tick()

    # ---- the outcome

    def failures(self) -> list[str]:
        """One line for everything that must not be; empty when all promises held."""
        found = [f"{job.name}: {trouble}" for job in self.jobs.all for trouble in job.trouble]
        found += [
            f"{job.name} after {dict(Counter(job.faults))}: {job.verdict}"
            for job in self.jobs.all
            if job.verdict is not None and not job.verdict.is_good
        ]
        return [*found, *self.rework.failures(self.plan.pace.commit_seconds, timed=self.plan.timed)]

    def missing(self) -> list[str]:
        """Faults that never struck."""
        return [fault.name for fault in self.faults if not self.happened[fault.name]]

    def evidence(self) -> list[str]:
        """The logs of what failed."""
        bad = [job for job in self.jobs.all if job.trouble or (job.verdict and not job.verdict.is_good)]
        return [line for job in bad if job.job for line in self.stage.journal.about(job.job.job_id)]


def run_chaos(plan: Plan, home: Path, say: Callable[[str], None]) -> Chaos:
    """Make the inputs, set the stage, run, and clear the stage again whatever happens."""
    rng = random.Random(plan.seed)
    stage = Stage(home / "stage", rng, [f"cpu{number}" for number in range(plan.num_workers)], plan.pace)
    with stage.running():
        inputs = make_inputs(
            home / "undisturbed", plan.model, plan.pace.options, plan.num_workers, peaceful(stage)
        )
        jobs = Jobs(stage, inputs)
        chaos = Chaos(plan, stage, jobs, say)
        try:
            chaos.run()
        finally:
            jobs.stop()
    return chaos


def peaceful(stage: Stage) -> dict[str, str]:
    """The environment of the undisturbed runs: their own server, no root in common with the chaos."""
    env = stage.environment()
    del env["HOLDFAST_BROKER_URL"], env["HOLDFAST_ROOTS"]
    return env
