"""What of an attempt at a shard is counted. What a whole worker counts is in test_queue_app_metrics."""

import numpy as np

from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.planner import plan_batches
from gpu_tasks.inference.runner import Timings
from gpu_tasks.shard.observers import Meter
from queue_app.job.spec import Progress
from queue_app.worker.metrics.counters import Count, Tally


def plan_of(*lengths: int) -> BatchPlan:
    """Records of so many tokens, beside two special ones each; a batch holds 20."""
    tokens = [np.ones(length, np.int32) for length in lengths]
    return plan_batches(
        tokens, list(range(len(lengths))), prefix=(0,), suffix=(2,),
        toks_per_batch=20, max_length=100, long="window", window_overlap=10,
    )  # fmt: skip


def test_a_commit_counts_its_batches_with_all_their_tokens() -> None:
    plan, tally = plan_of(18, 8, 8), Tally()
    Meter(tally, plan, Timings(), Progress()).committed([0, 1], Progress(2, 3), 0.1)
    assert plan.num_batches == 2
    assert tally.total(Count.BATCHES) == 2
    assert tally.total(Count.TOKENS_EMBEDDED) == plan.num_tokens == 40
    assert tally.total(Count.COMMITTING) == 0.1


def test_what_earlier_attempts_committed_is_not_counted_again() -> None:
    tally = Tally()
    meter = Meter(tally, plan_of(18, 18), Timings(), Progress(batches_done=1, sequences_done=1))
    meter.committed([1], Progress(2, 2), 0.1)
    assert tally.total(Count.SEQUENCES_EMBEDDED) == 1
    assert tally.total(Count.TOKENS_EMBEDDED) == 20


def test_a_count_never_sinks_and_ends_at_what_was_embedded() -> None:
    tally = Tally()
    meter = Meter(tally, plan_of(18, 18), Timings(), Progress())
    seen = []
    for batches, done in (([0], 7), ([], 5), ([1], 9)):
        meter.committed(batches, Progress(1, done), 0.1)
        seen.append(tally.total(Count.SEQUENCES_EMBEDDED))
    assert seen == [7, 7, 9]


def test_the_loops_own_timings_are_counted_at_each_commit() -> None:
    tally, timings = Tally(), Timings()
    meter = Meter(tally, plan_of(18), timings, Progress())
    timings.launch, timings.wait = 2.0, 0.5
    meter.committed([0], Progress(1, 1), 0.1)
    timings.launch = 3.0
    assert (tally.total(Count.LAUNCH), tally.total(Count.WAIT)) == (2.0, 0.5)
    meter.committed([], Progress(1, 1), 0.1)
    assert (tally.total(Count.LAUNCH), tally.total(Count.WAIT)) == (3.0, 0.5)
