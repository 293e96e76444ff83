"""The next shard, made ready beside the present one: real shards, and a server that is pretended."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpu_tasks import load_model
from gpu_tasks.shard.overlap import next_shard
from gpu_tasks.shard.overlap.next_shard import NOTE, Here, NextShard
from gpu_tasks.shard.reading import ReadShard
from queue_app.coordination.dealing import Dealt
from queue_app.coordination.states import Lease
from tests.support.inline_job import InlineJob, submitted
from tests.support.jobs_and_inputs import write_fasta


class Attempt:
    """Notes what is done with it."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.read: ReadShard | None = None
        self.let_go_as: list[str] = []

    def make_ready(self, read: ReadShard | None = None) -> None:
        self.read = read

    def let_go(self, reason: str) -> None:
        self.let_go_as.append(reason)


class House:
    def __init__(self, job: InlineJob, monkeypatch: pytest.MonkeyPatch) -> None:
        self.job = job
        self.attempts: list[Attempt] = []
        monkeypatch.setattr(next_shard, "acquire", lambda _m, _d, job, index: Lease(job.shards[index], 7))
        manifest: Any = None
        model = load_model("mock:8")
        self.here = Here(manifest, job.job, job.job_dir, model, self.attempt)

    def attempt(self, lease: Lease) -> Attempt:
        self.attempts.append(Attempt(lease))
        return self.attempts[-1]

    def next_shard(self, ask: Callable[[], Dealt | None] | None = None) -> NextShard[Attempt]:
        return NextShard(self.here, self.job.job.shards[0], ask or (lambda: Dealt("", self.job_id, 1)))

    @property
    def job_id(self) -> str:
        return self.job.job.job_id

    @property
    def note(self) -> Path:
        place = self.job.job_dir.checkpoint(0, self.job_id, None)
        place.mkdir(parents=True, exist_ok=True)
        return place / NOTE


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    fasta = write_fasta(tmp_path / "a.fasta", 60)
    house = House(submitted(tmp_path / "a.npy", [fasta]), monkeypatch)
    assert not house.note.exists()
    return house


def test_the_task_finds_it_read_and_leased(house: House) -> None:
    following = house.next_shard()
    assert following.is_dealt()
    attempt = following.claim(house.job_id, 1)
    assert attempt is not None
    assert attempt.lease.shard.index == 1
    assert attempt.read is not None
    assert len(attempt.read.records.ids) == house.job.job.shards[1].num_rows
    assert not house.note.exists()
    following.drop()
    assert attempt.let_go_as == []


def test_it_is_given_back_when_the_worker_turns_to_another_shard(house: House) -> None:
    following = house.next_shard()
    assert following.is_dealt()
    following._is_settled.wait()
    assert following.claim(house.job_id, 2) is None
    assert [attempt.let_go_as for attempt in house.attempts] == [["not begun"]]


def test_it_is_given_back_when_no_task_comes_for_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(next_shard, "NOT_TAKEN_SECONDS", 0.0)
    following = house.next_shard()
    assert following.is_dealt()
    following.end_present()
    following._thread.join(30)
    assert [attempt.let_go_as for attempt in house.attempts] == [["not begun"]]
    assert following.claim(house.job_id, 1) is None


def test_beside_a_shard_in_which_reading_ahead_was_cut_short_nothing_is_read_or_leased(house: House) -> None:
    house.note.touch()
    following = house.next_shard()
    assert following.is_dealt()
    assert following.claim(house.job_id, 1) is None
    assert house.attempts == []


def test_a_shard_in_whose_texts_a_process_may_have_died_is_left_to_its_holder(house: House) -> None:
    place = house.job.job_dir.checkpoint(1, house.job_id, None)
    place.mkdir(parents=True)
    (place / "tokenizing.json").write_text("{}")
    following = house.next_shard()
    assert following.is_dealt()
    assert following.claim(house.job_id, 1) is None
    assert house.attempts == []


def test_what_fails_at_it_is_forgotten(house: House) -> None:
    house.job.job_dir.shard(1).unlink()
    following = house.next_shard()
    assert following.is_dealt()
    assert following.claim(house.job_id, 1) is None
    assert not house.note.exists(), "no process has died of it"


def test_a_server_that_does_not_answer_keeps_nothing_from_being_published(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(next_shard, "ANSWER_SECONDS", 0.0)
    answered = threading.Event()

    def ask() -> None:
        answered.wait()

    following = house.next_shard(ask)
    assert not following.is_dealt()
    answered.set()
    following.drop()
