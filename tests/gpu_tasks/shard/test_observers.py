"""What of an attempt at a shard is counted. What a whole worker counts is in test_queue_app_metrics."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.plan_batches import plan_batches
from gpu_tasks.inference.runner import Timings
from gpu_tasks.shard.observers import WINDOW_SECONDS, CommitCounters, Observers, RateMeter, ShardObserver
from queue_app.coordination.worker_figures import Figures
from queue_app.job.spec import Progress
from queue_app.worker.metrics.counters import Count, Counters


def plan_of(*lengths: int) -> BatchPlan:
    """Records of so many tokens, beside two special ones each; a batch holds 20."""
    tokens = [np.ones(length, np.int32) for length in lengths]
    return plan_batches(
        tokens, list(range(len(lengths))), prefix=(0,), suffix=(2,),
        toks_per_batch=20, max_length=100, long="window", window_overlap=10,
    )  # fmt: skip


def counters(counted: Counters, plan: BatchPlan, timings: Timings, resumed: Progress) -> CommitCounters:
    made = CommitCounters(counted)
    made.planned(plan)
    made.computing(resumed, timings)
    return made


def test_a_commit_counts_its_batches_with_all_their_tokens() -> None:
    plan, counted = plan_of(18, 8, 8), Counters()
    counters(counted, plan, Timings(), Progress()).committed([0, 1], Progress(2, 3), 0.1)
    assert plan.num_batches == 2
    assert counted.total(Count.BATCHES) == 2
    assert counted.total(Count.TOKENS_EMBEDDED) == plan.num_tokens == 40
    assert counted.total(Count.COMMITTING) == 0.1


def test_what_earlier_attempts_committed_is_not_counted_again() -> None:
    counted = Counters()
    meter = counters(counted, plan_of(18, 18), Timings(), Progress(batches_done=1, sequences_done=1))
    meter.committed([1], Progress(2, 2), 0.1)
    assert counted.total(Count.SEQUENCES_EMBEDDED) == 1
    assert counted.total(Count.TOKENS_EMBEDDED) == 20


def test_a_count_never_sinks_and_ends_at_what_was_embedded() -> None:
    counted = Counters()
    meter = counters(counted, plan_of(18, 18), Timings(), Progress())
    seen = []
    for batches, done in (([0], 7), ([], 5), ([1], 9)):
        meter.committed(batches, Progress(1, done), 0.1)
        seen.append(counted.total(Count.SEQUENCES_EMBEDDED))
    assert seen == [7, 7, 9]


def test_the_loops_own_timings_are_counted_at_each_commit() -> None:
    counted, timings = Counters(), Timings()
    meter = counters(counted, plan_of(18), timings, Progress())
    timings.launch, timings.wait = 2.0, 0.5
    meter.committed([0], Progress(1, 1), 0.1)
    timings.launch = 3.0
    assert (counted.total(Count.LAUNCH), counted.total(Count.WAIT)) == (2.0, 0.5)
    meter.committed([], Progress(1, 1), 0.1)
    assert (counted.total(Count.LAUNCH), counted.total(Count.WAIT)) == (3.0, 0.5)


# ---- how fast it goes


class Clock:
    """A clock that stands until it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def begin(meter: RateMeter, *, fill: float = 0.5, sequences: int = 0, tokens: int = 0) -> Timings:
    """A shard each of whose batches has so much in it."""
    plan: Any = SimpleNamespace(
        fill=fill, num_completed=lambda batch_idx: sequences, tokens_of=lambda batch_idx: tokens
    )
    timings = Timings()
    meter.planned(plan)
    meter.computing(Progress(), timings)
    return timings


def test_rates_are_what_was_counted_over_the_time_it_took() -> None:
    clock = Clock()
    meter = RateMeter(clock)
    timings = begin(meter, fill=0.9, sequences=10, tokens=500)
    clock.now += 2
    timings.wait = 0.5
    meter.computed(0)
    assert meter.figures() == Figures(5.0, 250.0, fill=0.9, wait_share=0.25)


def test_the_rate_goes_on_over_shards_and_waiting_is_counted_anew_in_each() -> None:
    clock = Clock()
    meter = RateMeter(clock)
    for _ in range(2):
        timings = begin(meter, sequences=4, tokens=100)
        clock.now += 1
        timings.wait = 0.5
        meter.computed(0)
    assert meter.figures() == Figures(4.0, 100.0, fill=0.5, wait_share=0.5)


def test_what_lies_before_the_window_is_forgotten() -> None:
    clock = Clock()
    meter = RateMeter(clock)
    for sequences in (1, 3):
        begin(meter, sequences=sequences)
        for _ in range(30):
            clock.now += 1
            meter.computed(0)
            meter.figures()
    assert meter.figures().sequences_per_second == 3.0


def test_a_computation_that_stands_still_slows_down() -> None:
    clock = Clock()
    meter = RateMeter(clock)
    begin(meter, sequences=10)
    clock.now += 1
    meter.computed(0)
    meter.figures()
    clock.now += 9
    assert meter.figures().sequences_per_second == 1.0
    clock.now += WINDOW_SECONDS + 1
    assert meter.figures().sequences_per_second == 0.0


def test_a_long_pause_between_shards_does_not_count() -> None:
    clock = Clock()
    meter = RateMeter(clock)
    clock.now += 3600
    begin(meter, sequences=7)
    clock.now += 1
    meter.computed(0)
    assert meter.figures().sequences_per_second == 7.0


# ---- all of them


def test_every_observer_is_told_everything_in_turn() -> None:
    told: list[tuple[str, str]] = []
    calls = ("planned", "computing", "computed", "committed")

    class Told(ShardObserver):
        def __init__(self, name: str) -> None:
            for call in calls:
                setattr(self, call, partial(self.note, name, call))

        def note(self, name: str, call: str, *_: Any) -> None:
            told.append((name, call))

    observers = Observers(Told("a"), Told("b"))
    observers.planned(plan_of(18))
    observers.computing(Progress(), Timings())
    observers.computed(0)
    observers.committed([0], Progress(1, 1), 0.1)
    assert told == [(name, call) for call in calls for name in ("a", "b")]
