"""When a worker ends by itself, by a clock of the test's and on a real server."""

from dataclasses import replace
from pathlib import Path

import pytest
import redis

from queue_app.coordination import keys
from queue_app.coordination.dealing import has_work, leave, tick
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.workers import Owner, WorkerEntry
from queue_app.worker import own_end
from queue_app.worker.drain import request_drain, still_there
from queue_app.worker.own_end import OwnEnd
from tests.support.jobs_and_inputs import make_job

NAME = "cpu0@here"
ENTRY = WorkerEntry(NAME, "cpu0", "cpu", "here", 7, 8, Owner.current(NAME).encode())


class Worker:
    """One that only notes that it was told to end."""

    def __init__(self, client: redis.Redis, idle_seconds: float | None = None) -> None:
        self.client, self.ends, self.now, self.entry = client, 0, 0.0, ENTRY
        self.own_end = OwnEnd(idle_seconds, self._end, lambda: self.now)

    def _end(self) -> None:
        self.ends += 1

    def look_for(self, seconds: float) -> bool:
        """Once a second; answers whether it has ended."""
        for _ in range(int(seconds)):
            self.now += 1
            self.own_end.look(self.client, self.entry, tick(self.client, self.entry))
        return bool(self.ends)


def job(client: redis.Redis, tmp_path: Path) -> CheckpointManifest:
    """Two shards for processors."""
    manifest = CheckpointManifest(client, "0123456789ab-cafecafe")
    manifest.initialize(make_job(num_shards=2, records_per_shard=1), str(tmp_path), {}, ["cpu0"])
    return manifest


def test_a_worker_stays_for_ever_unless_it_is_told_otherwise(client: redis.Redis) -> None:
    assert not Worker(client).look_for(1000)


def test_idle_for_so_long_it_ends_once(client: redis.Redis) -> None:
    worker = Worker(client, 10)
    assert not worker.look_for(9)
    assert worker.look_for(4)
    worker.look_for(20)
    assert worker.ends == 1


def test_what_waits_for_its_kind_of_device_keeps_it(client: redis.Redis, tmp_path: Path) -> None:
    manifest = job(client, tmp_path)
    worker = Worker(client, 10)
    assert not worker.look_for(30)
    manifest.pause()
    assert worker.look_for(20)


def test_work_of_another_kind_does_not(client: redis.Redis, tmp_path: Path) -> None:
    job(client, tmp_path)
    assert has_work(client, "cpu")
    assert not has_work(client, "cuda")


def test_a_shard_that_was_dealt_and_one_that_rests_are_work(client: redis.Redis, tmp_path: Path) -> None:
    job(client, tmp_path)
    client.zadd(keys.dealt_of("cpu"), {"0123456789ab-cafecafe 0": 1.0})
    client.delete(keys.ready("cpu"))
    assert has_work(client, "cpu")
    client.rename(keys.dealt_of("cpu"), keys.DELAYED)
    assert has_work(client, "cpu")
    assert not has_work(client, "cuda")
    client.delete(keys.DELAYED)
    assert not has_work(client, "cpu")


@pytest.mark.parametrize("queue", ["cpu0", NAME])
def test_a_message_that_waits_keeps_it(queue: str, client: redis.Redis) -> None:
    client.rpush(queue, "an export")
    worker = Worker(client, 10)
    assert not worker.look_for(30)
    client.delete(queue)
    assert worker.look_for(20)


def test_the_time_counts_from_the_end_of_its_own_work(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(client, 10)
    monkeypatch.setattr(own_end, "is_at_work", lambda: True)
    assert not worker.look_for(30)
    monkeypatch.setattr(own_end, "is_at_work", lambda: False)
    assert not worker.look_for(9)
    assert worker.look_for(4)


def test_neither_a_child_that_still_starts_nor_a_server_that_was_away_is_idleness(
    client: redis.Redis,
) -> None:
    worker = Worker(client, 10)
    worker.entry = replace(ENTRY, child_pid=0)
    assert not worker.look_for(30)
    worker.entry = ENTRY
    worker.look_for(2)
    worker.now += 1000
    worker.own_end.look(client, ENTRY, None)
    assert not worker.look_for(9)
    assert worker.look_for(4)


def test_a_request_to_drain_ends_it_and_an_older_one_does_not(client: redis.Redis) -> None:
    client.hset(keys.DRAIN, NAME, 1.0)
    worker = Worker(client)
    assert not worker.look_for(2)
    assert [asked.name for asked in request_drain(client, "here", 60)] == [NAME]
    assert worker.look_for(1)


def test_who_was_asked_has_left_when_it_is_gone_or_another_process_has_its_name(client: redis.Redis) -> None:
    tick(client, ENTRY)
    asked = request_drain(client, NAME, 60)
    assert still_there(client, asked, 60) == asked
    tick(client, replace(ENTRY, owner=Owner.current(NAME).encode().replace("|", "|x", 1)))
    assert still_there(client, asked, 60) == []
    client.hset(keys.DRAIN, NAME, 1.0)
    leave(client, NAME)
    assert still_there(client, asked, 60) == []
    assert client.hlen(keys.DRAIN) == 0
