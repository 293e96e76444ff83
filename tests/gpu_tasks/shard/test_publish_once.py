"""Holders of one shard that do not know of each other, in every order of their steps: one result counts, and
record, output and export agree on it.

Each holder has a store of its own, as on another host, and computes other bits.
"""

import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoint import CheckpointStore
from checkpoint.errors import StaleToken
from checkpoint.records import DoneRecord
from gpu_tasks import load_model
from gpu_tasks.shard import publish
from gpu_tasks.shard.shard_run import ShardRun
from queue_app.coordination.states import Lease
from queue_app.ingest.prepare import Prepared
from queue_app.ingest.request import EmbedRequest
from queue_app.job import done_records
from queue_app.job.directory import JobDir
from queue_app.job.done_records import (
    current_generation,
    finished_shards,
    published_result,
    read_done,
    reopen,
)
from queue_app.job.result_files import as_matrix, iter_result
from queue_app.job.spec import Job
from queue_app.outputs.export import export
from queue_app.outputs.verify import verify_job
from queue_app.settings import RuntimeConfig
from tests.support.inline_job import prepare_here
from tests.support.jobs_and_inputs import write_fasta

Order = tuple[str, ...]
NUM_RECORDS = 6
PATIENCE_SECONDS = 60
OLDER, NEWER = 1, 2
MARK = 300
"""No token of the mock's own: what a holder puts in front of sequences, for other vectors than the next."""


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    home = tmp_path_factory.mktemp("submitted")
    request = EmbedRequest(
        inputs=[write_fasta(home / "a.fasta", NUM_RECORDS)],
        model="mock:8",
        output=home / "a.npy",
        num_shards=1,
    )
    return prepare_here(request)


GATES = (
    (CheckpointStore, "set_done"), (publish, "create"), (publish, "reopen"), (done_records, "reopen"),
)  # fmt: skip
"""What others can see of publishing, and what a holder that is late does with it."""


class Actor:
    """Somebody who waits for his turn before each of his steps."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act
        self.answer: object = None
        self.error: BaseException | None = None
        self.has_ended = False
        self._turn, self._rest = threading.Semaphore(0), threading.Semaphore(0)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        assert self._rest.acquire(timeout=PATIENCE_SECONDS)

    def go_on(self) -> None:
        """His next step, to its end."""
        self._turn.release()
        assert self._rest.acquire(timeout=PATIENCE_SECONDS)

    def pause(self) -> None:
        """Called by his own thread, before a step."""
        self._rest.release()
        assert self._turn.acquire(timeout=PATIENCE_SECONDS)

    def _run(self) -> None:
        self.pause()
        try:
            self.answer = self.act()
        except StaleToken as error:
            self.error = error
        finally:
            self.has_ended = True
            self._rest.release()


class Stage:
    """A copy of the job and its actors, moved a step at a time."""

    def __init__(self, submitted: Prepared, home: Path) -> None:
        shutil.copytree(submitted.job_dir.path, home / "job")
        self.home = home
        self.job_dir = JobDir(home / "job")
        self.job: Job = replace(submitted.job, output=str(home / "a.npy"))
        self.job_dir.write(self.job)
        self.shard = self.job.shards[0]
        self.actors: dict[str, Actor] = {}

    def add(self, name: str, act: Callable[[], object]) -> None:
        self.actors[name] = Actor(act)

    def holder(self, token: int) -> ShardRun:
        """On a host of its own: another store, and other bits."""
        model: Any = replace(load_model("mock:8"), prefix=(MARK + token,))
        return ShardRun(
            job=self.job, job_dir=self.job_dir, lease=Lease(self.shard, token), model=model,
            config=RuntimeConfig(scratch=self.home / f"scratch{token}", keep_checkpoints=True),
            should_stop=lambda: False,
        )  # fmt: skip

    def play(self, order: Order = ()) -> Iterator[Order]:
        """Move the actors in this order, then each to his end; answers every order that parts from it after
        that."""
        taken: Order = ()
        while going := [name for name, actor in self.actors.items() if not actor.has_ended]:
            name = order[len(taken)] if len(taken) < len(order) else going[0]
            if len(taken) >= len(order):
                yield from ((*taken, other) for other in going[1:])
            self.actors[name].go_on()
            taken = (*taken, name)
            self._export_once()
        for actor in self.actors.values():
            actor.thread.join()

    def _export_once(self) -> None:
        """As soon as a holder has ended, while others go on."""
        if not Path(self.job.output).exists() and any(
            isinstance(actor.answer, DoneRecord) for actor in self.actors.values()
        ):
            export(self.job, self.job_dir, Path(self.job.output))

    def vectors(self, record: DoneRecord) -> np.ndarray:
        batches = iter_result(self.job_dir.results / record.file)
        return np.concatenate([as_matrix(batch.column("embedding")) for batch in batches])

    def check_agreement(self) -> DoneRecord:
        """One record counts, its result is whole, alone and what the output holds; answers the record."""
        record = read_done(self.job_dir, self.shard)
        assert record is not None
        assert published_result(self.job_dir, record) is not None
        np.testing.assert_array_equal(np.load(self.job.output), self.vectors(record))
        assert verify_job(self.job_dir).damage == ()
        return record


def by_name(actors: dict[str, Actor]) -> Actor | None:
    """The actor whose thread this is."""
    return next((actor for actor in actors.values() if actor.thread is threading.current_thread()), None)


@pytest.fixture
def stage_of(submitted: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Stage]:
    """Stages on which every step of publishing that another host can see waits for its turn."""
    stages: list[Stage] = []

    def in_turn(module: object, name: str) -> None:
        real = getattr(module, name)

        def step(*args: Any, **kwargs: Any) -> Any:
            if actor := by_name(stages[-1].actors):
                actor.pause()
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, step)

    for module, name in GATES:
        in_turn(module, name)

    def made() -> Stage:
        stages.append(Stage(submitted, tmp_path / str(len(stages))))
        return stages[-1]

    return made


def in_every_order(set_up: Callable[[], Stage]) -> Iterator[tuple[Order, Stage]]:
    """Plays in every order that the actors' steps can have; each stage, when all have ended."""
    waiting: list[Order] = [()]
    while waiting:
        order, stage = waiting.pop(), set_up()
        waiting += stage.play(order)
        yield order, stage


def test_two_holders_in_every_order_end_with_one_result_that_record_and_output_agree_on(
    stage_of: Callable[[], Stage],
) -> None:
    def set_up() -> Stage:
        stage = stage_of()
        stage.add("older", stage.holder(OLDER).run)
        stage.add("newer", stage.holder(NEWER).run)
        return stage

    winners = Counter[str]()
    for order, stage in in_every_order(set_up):
        record = stage.check_agreement()
        winners[record.file] += 1
        assert [actor.answer for actor in stage.actors.values()] == [record, record], order
        assert [path.name for path in stage.job_dir.results.iterdir()] == [record.file], order
        for token in (OLDER, NEWER):
            with CheckpointStore.open_readonly(stage.holder(token).store_path) as store:
                assert store.done_record() in (None, record), order
    assert set(winners) == {"00000-1.parquet", "00000-2.parquet"}
    assert winners.total() >= 20


# ---- shards that are reopened


def test_whoever_reopens_what_was_damaged_never_takes_away_what_came_in_its_place(
    stage_of: Callable[[], Stage],
) -> None:
    def set_up() -> Stage:
        stage = stage_of()
        record = stage.holder(OLDER).run()
        assert record is not None
        (stage.job_dir.results / record.file).write_bytes(b"PAR1")
        stage.add("mender", lambda: finished_shards(stage.job, stage.job_dir, remove_damaged=True))
        stage.add("holder", stage.holder(NEWER).run)
        return stage

    num_orders = 0
    for order, stage in in_every_order(set_up):
        record = stage.check_agreement()
        assert stage.actors["holder"].answer == record, order
        assert (record.file, record.generation) == ("00000-2.parquet", 1), order
        num_orders += 1
    assert num_orders >= 10


@pytest.mark.parametrize("is_published_again", [False, True])
def test_a_zombie_of_the_time_before_a_reopening_publishes_nothing(
    stage_of: Callable[[], Stage], is_published_again: bool
) -> None:
    """It has all but created its done record when the shard is published, retried, and published again."""
    stage = stage_of()
    stage.add("zombie", stage.holder(OLDER).run)
    zombie = stage.actors["zombie"]
    zombie.go_on()
    zombie.go_on()
    assert stage.holder(NEWER).run() is not None
    reopen(stage.job_dir, stage.shard, current_generation(stage.job_dir, stage.shard))
    again = stage.holder(NEWER + 1).run() if is_published_again else None
    list(stage.play())
    now = current_generation(stage.job_dir, stage.shard)
    assert (now.number, now.record, now.is_taken) == (1, again, is_published_again)
    if again is None:
        assert isinstance(zombie.error, StaleToken)
    else:
        assert zombie.answer == stage.check_agreement() == again


def test_what_only_a_store_has_recorded_is_good_for_its_own_generation_alone(
    stage_of: Callable[[], Stage],
) -> None:
    """A host that kept its checkpoints gets the shard again after a retry."""
    stage = stage_of()
    first = stage.holder(OLDER).run()
    assert first is not None
    reopen(stage.job_dir, stage.shard, current_generation(stage.job_dir, stage.shard))
    run = replace(stage.holder(OLDER), lease=Lease(stage.shard, NEWER))
    again = run.run()
    assert again is not None
    assert (again.file, again.generation, again.digest) == ("00000-2.parquet", 1, first.digest)
