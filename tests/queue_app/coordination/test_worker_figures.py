"""A worker's pace, counted on one thread and read on another."""

import redis

from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.owner import Owner
from queue_app.coordination.states import Lease
from queue_app.coordination.worker_figures import WINDOW_SECONDS, Figures, Pace
from queue_app.coordination.workers import WorkerEntry, register
from queue_app.job.spec import Progress
from queue_app.status.snapshot import snapshot
from tests.support.jobs_and_inputs import make_job


class Clock:
    """A clock that stands until it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_rates_are_what_was_counted_over_the_time_it_took() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.begin(0.9)
    clock.now += 2
    pace.add(sequences=10, tokens=500, waited=0.5)
    assert pace.figures() == Figures(5.0, 250.0, fill=0.9, wait_share=0.25)


def test_the_pace_goes_on_over_shards_and_waiting_is_counted_anew_in_each() -> None:
    clock = Clock()
    pace = Pace(clock)
    for _ in range(2):
        pace.begin(0.5)
        clock.now += 1
        pace.add(sequences=4, tokens=100, waited=0.5)
    assert pace.figures() == Figures(4.0, 100.0, fill=0.5, wait_share=0.5)


def test_what_lies_before_the_window_is_forgotten() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.begin(0.5)
    for step in range(60):
        clock.now += 1
        pace.add(sequences=1 if step < 30 else 3, tokens=0, waited=0.0)
        pace.figures()
    assert pace.figures().sequences_per_second == 3.0


def test_a_computation_that_stands_still_slows_down() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.begin(0.5)
    clock.now += 1
    pace.add(sequences=10, tokens=0, waited=0.0)
    pace.figures()
    clock.now += 9
    assert pace.figures().sequences_per_second == 1.0
    clock.now += WINDOW_SECONDS + 1
    assert pace.figures().sequences_per_second == 0.0


def test_a_long_pause_between_shards_does_not_count() -> None:
    clock = Clock()
    pace = Pace(clock)
    clock.now += 3600
    pace.begin(0.5)
    clock.now += 1
    pace.add(sequences=7, tokens=0, waited=0.0)
    assert pace.figures().sequences_per_second == 7.0


def test_what_is_no_figures_is_none() -> None:
    assert Figures.decode("") is None
    assert Figures.decode('{"other": 1}') is None
    assert Figures.decode(Figures(1.0, 2.0, fill=0.5).encode()) == Figures(1.0, 2.0, fill=0.5)


def test_a_snapshot_shows_each_worker_with_its_shards_progress_and_figures(client: redis.Redis) -> None:
    job = make_job(num_shards=2, records_per_shard=10)
    manifest = CheckpointManifest(client, job.job_id)
    manifest.initialize(job, "/jobs/a", {}, {})
    for name in ("cpu0@host", "cpu1@host"):
        owner = Owner.current(name).encode()
        register(client, WorkerEntry(name, name[:4], "cpu", "host", 1, 2, owner))
    lease = manifest.acquire(
        job.shards[1], owner=Owner.current("cpu0@host").encode(), floor=0, attempt_limit=3
    )
    assert isinstance(lease, Lease)
    manifest.beat(lease, Progress(1, 3, 1), Figures(12.0, 900.0, fill=0.97, wait_share=0.01))
    now = snapshot(client, job.job_id, lease_seconds=15)
    assert now is not None
    busy, idle = now.workers
    assert (busy.shard, busy.shard_done, busy.shard_total) == (1, 4, 10)
    assert busy.figures == Figures(12.0, 900.0, fill=0.97, wait_share=0.01)
    assert (idle.shard, idle.figures) == (None, None)
    assert now.tokens_per_second == 900.0
    shown = now.as_json()
    assert shown["tokens_per_second"] == 900.0
    assert shown["workers"][0]["figures"]["fill"] == 0.97


def test_a_beat_without_figures_and_a_new_lease_leave_none_behind(client: redis.Redis) -> None:
    job = make_job(num_shards=1, records_per_shard=10)
    manifest = CheckpointManifest(client, job.job_id)
    manifest.initialize(job, "/jobs/a", {}, {})
    lease = manifest.acquire(job.shards[0], owner="me", floor=0, attempt_limit=3)
    assert isinstance(lease, Lease)
    manifest.beat(lease, None, Figures(1.0, 2.0))
    manifest.release(lease, "test")
    manifest.acquire(job.shards[0], owner="you", floor=0, attempt_limit=3)
    status = manifest.shard_status(0)
    assert status is not None
    assert status.figures is None
