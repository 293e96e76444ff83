"""The promises of the time that is left: told by the work, not by the number of sequences."""

import pytest
import redis

from queue_app.coordination.job_speed import ProgressSample, Speed, speed_of
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import Lease
from queue_app.job.spec import Job, Progress
from queue_app.status.job_snapshot import JobSnapshot
from queue_app.status.snapshot import snapshot


def samples(*of: tuple[float, int, int]) -> list[ProgressSample]:
    """As the manifest has them, from what is told in the order of time."""
    return [ProgressSample(*each) for each in reversed(of)]


def test_time_is_told_by_cost_as_long_sequences_come_first() -> None:
    # Two sequences a second of the long ones, later twenty of the short: the same work.
    speed = speed_of(samples((0, 0, 0), (10, 20, 1_000), (20, 40, 2_000), (30, 240, 3_000)), now=30)
    assert speed.seconds_for(7_000) == pytest.approx(70)


def test_the_wait_for_the_first_commit_and_what_a_resume_finds_are_no_speed() -> None:
    begun = samples((0, 0, 0), (9, 0, 0), (10, 900, 9_000), (12, 920, 9_200), (14, 940, 9_400))
    assert speed_of(begun, now=14) == Speed(sequences=10, cost=100)
    assert speed_of(begun[2:], now=10) == Speed()


def test_a_job_that_stands_still_slows_down_and_at_last_its_time_is_not_known() -> None:
    moving = [(second, second, 10 * second) for second in range(0, 62, 2)]
    standing = samples(*moving, *[(second, 60, 600) for second in range(62, 200, 2)])
    speeds = [speed_of([each for each in standing if each.time <= now], now).cost for now in (60, 90, 110)]
    assert speeds == sorted(speeds, reverse=True)
    stood = speed_of(standing[:40], now=198)
    assert stood.cost == 0
    assert stood.seconds_for(1_000) is None
    assert stood.seconds_for(0) == 0


def test_samples_of_another_day_tell_nothing() -> None:
    assert speed_of(samples((0, 0, 0), (10, 10, 10), (20, 20, 20)), now=5_000) == Speed()


# ---- in the manifest


def lease_of(manifest: CheckpointManifest, job: Job, index: int = 0) -> Lease:
    answer = manifest.acquire(job.shards[index], owner="me", floor=0, attempt_limit=20)
    assert isinstance(answer, Lease)
    return answer


def costs(manifest: CheckpointManifest) -> tuple[int, int]:
    status = manifest.job_status()
    assert status is not None
    return status.cost_done, status.cost_total


def look(manifest: CheckpointManifest) -> JobSnapshot:
    now = snapshot(manifest.client, manifest.job_id, lease_seconds=15)
    assert now is not None
    return now


def note(manifest: CheckpointManifest, *of: tuple[float, int, int]) -> None:
    """Have samples of so many seconds ago."""
    now = float(manifest.client.time()[0])  # type: ignore[index]
    lines = [f"{now - ago} {done} {cost}" for ago, done, cost in of]
    manifest.client.lpush(f"holdfast:{{{manifest.job_id}}}:samples", *lines)


def test_cost_is_counted_by_the_share_that_is_committed_and_never_twice(
    manifest: CheckpointManifest, job: Job
) -> None:
    first, second = (shard.cost for shard in job.shards)
    lease = lease_of(manifest, job)
    for _ in range(2):
        manifest.beat(lease, Progress(1, 2, 0, share=0.25))
    assert costs(manifest) == (round(first * 0.25), first + second)
    manifest.complete(lease, Progress(4, 10, 0, share=1.0))
    assert costs(manifest) == (first, first + second)
    manifest.reopen(0)
    assert costs(manifest) == (0, first + second)
    manifest.restore(0, Progress(0, 10, 0))
    assert costs(manifest) == (first, first + second)


def test_what_was_done_before_the_server_knew_the_job_counts(client: redis.Redis, job: Job) -> None:
    manifest = CheckpointManifest(client, job.job_id)
    manifest.initialize(job, "/jobs/a", {1: Progress(0, 10, 0)})
    assert costs(manifest) == (job.shards[1].cost, sum(shard.cost for shard in job.shards))


def test_the_time_left_is_that_of_the_cost_left(manifest: CheckpointManifest, job: Job) -> None:
    cost = job.shards[0].cost
    note(manifest, (13, 0, 0), (12, 1, cost // 4), (2, 4, cost // 2))
    manifest.complete(lease_of(manifest, job), Progress(4, 10, 0))
    left = look(manifest).eta_seconds
    # Three quarters in twelve seconds, and another shard of the same cost is left.
    assert left == pytest.approx(12 / 0.75, rel=0.15)


def test_a_paused_job_has_neither_rate_nor_time_and_the_pause_is_no_speed(
    manifest: CheckpointManifest, job: Job
) -> None:
    lease_of(manifest, job)
    note(manifest, (12, 0, 0), (8, 2, 20), (4, 4, 40))
    assert look(manifest).eta_seconds is not None
    manifest.pause()
    assert (look(manifest).rate, look(manifest).eta_seconds) == (0.0, None)
    manifest.unpause()
    assert manifest.samples() == []


def test_the_time_between_two_runs_is_no_speed(manifest: CheckpointManifest, job: Job) -> None:
    lease = lease_of(manifest, job)
    note(manifest, (40, 0, 0), (30, 4, 40))
    manifest.revive()
    assert len(manifest.samples()) == 2, "a second producer came by while the job runs"
    manifest.release(lease, "killed", counts=False)
    manifest.revive()
    assert manifest.samples() == []
