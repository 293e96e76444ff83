"""One shard from its file to its published result: real job directory, real store, mock model."""

import logging
import re
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from checkpoint import CheckpointStore, CheckpointTrigger, CheckpointWriter
from checkpoint.errors import StaleToken
from checkpoint.records import DoneRecord
from gpu_tasks import load_model
from gpu_tasks.errors import JobHopeless
from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.runner import RESUMED, AsyncInferenceRunner
from gpu_tasks.shard import publish, shard_run
from gpu_tasks.shard.observers import ProgressReport
from gpu_tasks.shard.plan_shard import plan_shard
from gpu_tasks.shard.shard_run import ShardRun
from queue_app.coordination.states import Lease
from queue_app.errors import Damage
from queue_app.ingest.prepare import Prepared
from queue_app.ingest.request import EmbedRequest
from queue_app.job.done_records import read_done
from queue_app.job.result_files import as_matrix, write_result
from queue_app.job.shard_files import read_shard
from queue_app.job.spec import Progress
from queue_app.settings import RuntimeConfig
from tests.support.blocks_and_stores import damage_block
from tests.support.inline_job import prepare_here
from tests.support.jobs_and_inputs import protein, write_fasta
from tests.support.model_directories import change_weights, embed, save_esm2, with_contact_head

FINAL_NORM = "encoder.emb_layer_norm_after.weight"
W = 22
"""The number of tryptophan among ESM-2's tokens."""
EVERY_BATCH: Any = {"commit_seconds": 3600, "commit_sequences": 1}
NEVER: Any = {"commit_seconds": 3600, "commit_sequences": 10**9}


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Prepared]:
    """A job of one shard with about 40 batches."""

    def made(commits: Any = EVERY_BATCH, *, extra: str = "") -> Prepared:
        fasta = write_fasta(tmp_path / "a.fasta", 200)
        fasta.write_text(fasta.read_text() + extra)
        request = EmbedRequest(
            inputs=[fasta], model="mock:8", output=tmp_path / "a.npy",
            toks_per_batch=400, num_shards=1, **commits,
        )  # fmt: skip
        return prepare_here(request)

    return made


@dataclass
class Attempt:
    """One attempt at the shard, stopped before batch number `stop_before` of those it computes."""

    prepared: Prepared
    token: int = 1
    stop_before: int | None = None
    reports: list[Progress] = field(default_factory=list)
    asked: int = 0

    def run(self) -> DoneRecord | None:
        return self.shard_run.run()

    @property
    def shard_run(self) -> ShardRun:
        job = self.prepared.job
        return ShardRun(
            job=job, job_dir=self.prepared.job_dir, lease=Lease(job.shards[0], self.token),
            model=load_model("mock:8"), config=RuntimeConfig(),
            observer=ProgressReport(self.reports.append), should_stop=self._should_stop,
        )  # fmt: skip

    def _should_stop(self) -> bool:
        self.asked += 1
        return self.stop_before is not None and self.asked > self.stop_before

    @property
    def store_path(self) -> Path:
        return self.shard_run.store_path

    def plan(self) -> BatchPlan:
        job = self.prepared.job
        records = read_shard(self.prepared.job_dir.shard(0), job.shards[0])
        return plan_shard(job, load_model("mock:8"), records)


def vectors_of(prepared: Prepared, done: DoneRecord | None) -> np.ndarray:
    assert done is not None
    return as_matrix(pq.read_table(prepared.job_dir.results / done.file)["embedding"])


def commits(caplog: pytest.LogCaptureFixture) -> list[int]:
    """Every batch that was committed, as often as it was, in order."""
    lines = re.findall(r"committed \S+ shard=0 token=\d+ batches=([\d,]+)", caplog.text)
    return [int(batch) for line in lines for batch in line.split(",")]


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_it_checkpoints_while_it_runs(make: Callable[..., Prepared]) -> None:
    attempt = Attempt(make())
    attempt.run()
    done = [report.batches_done for report in attempt.reports]
    assert len(set(done)) > 5
    assert done == sorted(done)
    assert attempt.reports[-1] == Progress(attempt.plan().num_batches, 200, 0, share=1.0)


def test_a_resume_skips_what_is_committed_and_computes_the_rest_once(
    make: Callable[..., Prepared], caplog: pytest.LogCaptureFixture
) -> None:
    prepared = make()
    assert Attempt(prepared, stop_before=7).run() is None
    assert commits(caplog) == list(range(7))
    second = Attempt(prepared, token=2)
    assert second.run() is not None
    assert commits(caplog) == list(range(second.plan().num_batches))


def test_resumed_data_is_marked_and_names_the_committed_records(make: Callable[..., Prepared]) -> None:
    attempt = Attempt(make(), stop_before=7)
    attempt.run()
    with CheckpointStore.open_readonly(attempt.store_path) as store:
        committed, ordinals = store.committed(), store.committed_ordinals()
    first, *rest = AsyncInferenceRunner(load_model("mock:8")).run(attempt.plan(), skip=committed)
    assert first.batch_idx == RESUMED == -1
    np.testing.assert_array_equal(first.ordinals, ordinals)
    assert first.embeddings.shape == (0, 8)
    assert {result.batch_idx for result in rest} == set(range(attempt.plan().num_batches)) - committed


def test_the_last_checkpoint_captures_what_no_interval_did(make: Callable[..., Prepared]) -> None:
    attempt = Attempt(make(NEVER), stop_before=5)
    attempt.run()
    with CheckpointStore.open_readonly(attempt.store_path) as store:
        assert store.committed() == set(range(5))


def test_a_checkpoint_holds_whole_batches_alone(make: Callable[..., Prepared]) -> None:
    attempt = Attempt(make(), stop_before=9)
    attempt.run()
    with CheckpointStore.open_readonly(attempt.store_path) as store:
        for block in store.blocks():
            np.testing.assert_array_equal(block.ordinals, attempt.plan().ordinals(block.batch_idx))


def test_the_output_does_not_depend_on_where_it_was_stopped(
    make: Callable[..., Prepared], tmp_path: Path
) -> None:
    prepared = make()
    token, done = 0, None
    while done is None:
        token += 1
        done = Attempt(prepared, token=token, stop_before=3).run()
    assert token > 5
    model = load_model("mock:8")
    plan = Attempt(prepared).plan()
    alone = {
        int(ordinal): vector
        for result in AsyncInferenceRunner(model).run(plan)
        for ordinal, vector in zip(result.ordinals, result.embeddings, strict=True)
    }
    expected = np.stack([alone[ordinal] for ordinal in range(200)])
    np.testing.assert_array_equal(vectors_of(prepared, done), expected)


def test_damage_that_nobody_knew_of_costs_its_batches_alone(
    make: Callable[..., Prepared], caplog: pytest.LogCaptureFixture
) -> None:
    """The store was closed in order and the bits rotted later: nothing but publishing looks at them."""
    prepared = make()
    attempt = Attempt(prepared, stop_before=7)
    attempt.run()
    damage_block(attempt.store_path, 2)
    damage_block(attempt.store_path, 5)
    caplog.clear()
    done = Attempt(prepared, token=2).run()
    assert sorted(commits(caplog)) == sorted([2, 5, *range(7, attempt.plan().num_batches)])
    assert vectors_of(prepared, done).shape == (200, 8)


def test_a_damaged_result_drops_its_done_record_and_is_published_again(
    make: Callable[..., Prepared], caplog: pytest.LogCaptureFixture
) -> None:
    prepared = make()
    first = Attempt(prepared).run()
    before = vectors_of(prepared, first)
    assert first is not None
    (prepared.job_dir.results / first.file).write_bytes(b"PAR1")
    caplog.clear()
    second = Attempt(prepared, token=2).run()
    assert second is not None
    assert second.file != first.file
    assert read_done(prepared.job_dir, prepared.job.shards[0]) == second
    np.testing.assert_array_equal(vectors_of(prepared, second), before)
    assert commits(caplog) == []  # the vectors still lay in the store


def pooling_run(output: Path, pool: str) -> ShardRun:
    """A shard of 400 proteins, some in windows, committed at its end unless its size says otherwise."""
    request = EmbedRequest(
        inputs=[write_fasta(output.parent / "a.fasta", 400)], model="mock:512", output=output,
        pool=pool, max_length=60, toks_per_batch=4_000, num_shards=1, **NEVER,
    )  # fmt: skip
    prepared = prepare_here(request)
    return replace(Attempt(prepared).shard_run, model=load_model("mock:512", pool=pool))


@pytest.mark.parametrize(("pool", "size_bytes"), [("none", 8 << 20), ("mean", 256 << 20)])
def test_vectors_of_every_token_are_committed_by_their_size_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: str, size_bytes: int
) -> None:
    """Of other vectors only what must not wait in memory at all: when to commit is for the user to say."""
    triggers = []

    def noted(*args: Any, trigger: CheckpointTrigger, **kwargs: Any) -> CheckpointWriter:
        triggers.append(trigger)
        return CheckpointWriter(*args, trigger=trigger, **kwargs)

    monkeypatch.setattr(shard_run, "CheckpointWriter", noted)
    assert pooling_run(tmp_path / "a.h5", pool).run() is not None
    assert [trigger.size_bytes for trigger in triggers] == [size_bytes]


@pytest.mark.parametrize("pool", ["mean", "none"])
def test_publishing_holds_a_portion_of_the_shard_at_a_time_and_changes_no_vector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: str
) -> None:
    def traced(path: Path, schema: pa.Schema, rows: Iterable[pa.RecordBatch]) -> str:
        def watched() -> Iterator[pa.RecordBatch]:
            tracemalloc.start()
            yield from rows
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()

        return write_result(path, schema, watched())

    def published(name: str, portion_bytes: int) -> np.ndarray:
        run = pooling_run(tmp_path / name, pool)
        monkeypatch.setattr(publish, "PORTION_BYTES", portion_bytes)
        return vectors_of(Prepared(run.job, run.job_dir, created=True), run.run())

    monkeypatch.setattr(publish, "write_result", traced)
    peaks: list[int] = []
    whole = published("whole.h5", 1 << 30)
    in_portions = published("portions.h5", whole.nbytes // 32)
    assert peaks[0] > whole.nbytes
    assert peaks[1] < whole.nbytes / 2
    np.testing.assert_array_equal(in_portions, whole)


def test_a_published_shard_is_not_computed_again(
    make: Callable[..., Prepared], caplog: pytest.LogCaptureFixture
) -> None:
    prepared = make()
    first = Attempt(prepared).run()
    caplog.clear()
    assert Attempt(prepared, token=2).run() == first
    assert commits(caplog) == []


def test_a_fenced_attempt_writes_nothing(make: Callable[..., Prepared]) -> None:
    prepared = make()
    Attempt(prepared, token=5, stop_before=3).run()
    with pytest.raises(StaleToken):
        Attempt(prepared, token=4).run()
    assert read_done(prepared.job_dir, prepared.job.shards[0]) is None
    with CheckpointStore.open_readonly(Attempt(prepared).store_path) as store:
        assert store.committed() == set(range(3))


def test_bad_records_are_accounted_for_and_never_computed(make: Callable[..., Prepared]) -> None:
    prepared = make(extra=">empty\n\n>digit\nM4\n>good\nMKV\n")
    done = Attempt(prepared).run()
    assert done is not None
    assert [(entry.ordinal, entry.id) for entry in done.quarantine] == [(200, "empty"), (201, "digit")]
    assert (done.num_records, done.num_embedded) == (203, 201)


def test_a_shard_of_bad_records_alone_is_done_without_a_batch(tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(">a\n\n>b\nM4\n")
    request = EmbedRequest(inputs=[tmp_path / "a.fasta"], model="mock:8", output=tmp_path / "a.npy")
    done = Attempt(prepare_here(request)).run()
    assert done is not None
    assert (done.num_embedded, len(done.quarantine)) == (0, 2)


def test_a_changed_shard_file_is_damage(make: Callable[..., Prepared]) -> None:
    prepared = make()
    path = prepared.job_dir.shard(0)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Damage, match="not the shard that was submitted"):
        Attempt(prepared).run()


def contacts_of(tmp_path: Path, model: Path, proteins: Iterable[str]) -> DoneRecord | None:
    fasta = tmp_path / "a.fasta"
    fasta.write_text("".join(f">{number}\n{each}\n" for number, each in enumerate(proteins)))
    request = EmbedRequest(
        inputs=[fasta], model=str(model), output=tmp_path / "a.h5", pool="contacts", num_shards=1
    )
    prepared = prepare_here(request)
    return ShardRun(
        job=prepared.job, job_dir=prepared.job_dir, lease=Lease(prepared.job.shards[0], 1),
        model=load_model(str(model), pool="contacts"), config=RuntimeConfig(), should_stop=lambda: False,
    ).run()  # fmt: skip


def test_single_residues_have_the_same_contacts_and_are_no_sign_of_a_collapsed_model(tmp_path: Path) -> None:
    model = with_contact_head(save_esm2(tmp_path / "esm2"))
    done = contacts_of(tmp_path, model, "ACDEFGHIKLMNPQRSTVWY")
    assert done is not None
    assert done.num_embedded == 20


def test_a_model_that_sees_the_same_contacts_everywhere_is_refused(tmp_path: Path) -> None:
    model = with_contact_head(save_esm2(tmp_path / "esm2"), scale=0.0)
    with pytest.raises(JobHopeless, match="10 of 10 different sequences have one and the same vector"):
        contacts_of(tmp_path, model, map(protein, range(10)))


def test_a_record_that_overflows_in_half_precision_is_computed_again_alone_in_float32(tmp_path: Path) -> None:
    path = save_esm2(tmp_path / "esm2")
    fits_float32_alone = 3e5  # float16 ends at 65,504
    change_weights(path, lambda weights: weights[FINAL_NORM].mul_(fits_float32_alone))
    request = EmbedRequest(
        inputs=[write_fasta(tmp_path / "a.fasta", 5)], model=str(path), output=tmp_path / "a.npy",
        dtype="float16", num_shards=1,
    )  # fmt: skip
    prepared = prepare_here(request)
    half, exact = load_model(str(path), dtype="float16"), load_model(str(path))
    job = prepared.job
    run = ShardRun(
        job=job, job_dir=prepared.job_dir, lease=Lease(job.shards[0], 1), model=half,
        config=RuntimeConfig(), should_stop=lambda: False, load_float32=lambda device: exact,
    )  # fmt: skip
    done = run.run()
    assert done is not None
    assert done.num_embedded == 5
    vectors = vectors_of(prepared, done)
    assert np.abs(vectors).max() > 65_504
    np.testing.assert_allclose(vectors, embed(exact, [protein(number) for number in range(5)]), rtol=1e-4)


@pytest.mark.parametrize("pool", ["mean", "none"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_only_the_stored_float16_cannot_hold_says_so_and_how_to_keep_it(
    tmp_path: Path, dtype: Any, pool: str
) -> None:
    path = save_esm2(tmp_path / "esm2")

    def harm(weights: dict[str, Any]) -> None:
        weights[FINAL_NORM].mul_(3e5)
        weights["embeddings.word_embeddings.weight"][W] = float("nan")

    change_weights(path, harm)
    (tmp_path / "a.fasta").write_text(">large\nMKV\n>nan\nMKW\n")
    request = EmbedRequest(
        inputs=[tmp_path / "a.fasta"], model=str(path), output=tmp_path / "a.h5", pool=pool,
        dtype=dtype, store_dtype="float16", num_shards=1,
    )  # fmt: skip
    prepared = prepare_here(request)
    exact = load_model(str(path), pool=pool)
    run = ShardRun(
        job=prepared.job, job_dir=prepared.job_dir, lease=Lease(prepared.job.shards[0], 1),
        model=load_model(str(path), dtype=dtype, pool=pool), config=RuntimeConfig(),
        should_stop=lambda: False, load_float32=None if dtype == "float32" else lambda device: exact,
    )  # fmt: skip
    done = run.run()
    assert done is not None
    reasons = {entry.id: entry.reason for entry in done.quarantine}
    assert "65,504" in reasons["large"]
    assert "--store-dtype float32" in reasons["large"]
    assert reasons["nan"] == "the model's output is not finite, in float32 either"
