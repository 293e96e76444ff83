"""A job for one kind of device: the first to begin fixes it, and no other kind gets in."""

import contextlib
import dataclasses
import multiprocessing
import os
import re
from importlib.metadata import version
from pathlib import Path

import pytest
import redis
import torch

from checkpoint import Kind
from gpu_tasks.errors import DeviceUnavailable, OtherKind
from gpu_tasks.models.linears.prepacked import can_prepack
from gpu_tasks.shard import acquire, kind
from gpu_tasks.shard.job_model import load_and_check
from gpu_tasks.shard.kind import fix_kind, kind_here
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import Lease, ShardState
from queue_app.errors import Damage, JobChanged, UsageError
from queue_app.host.devices import processor_name
from queue_app.host.durable_files import create_durably
from queue_app.job.directory import JobDir
from queue_app.job.done_records import read_done
from queue_app.job.spec import Job
from tests.support.inline_job import InlineJob, embedded, submitted, write_numbered
from tests.support.jobs_and_inputs import make_job
from tests.support.model_directories import save_esm2

ONEDNN = ", oneDNN" if can_prepack(torch.device("cpu"), torch.float32) else ""
OTHER = Kind("another processor", "2.13.0", "float32")


@pytest.fixture
def job() -> Job:
    made = make_job(num_shards=2, records_per_shard=3)
    return dataclasses.replace(made, run=dataclasses.replace(made.run, one_kind=True))


@pytest.fixture
def directory(tmp_path: Path) -> JobDir:
    return JobDir(tmp_path)


def become(monkeypatch: pytest.MonkeyPatch, other: Kind) -> None:
    monkeypatch.setattr(kind, "kind_here", lambda _: other)


# ---- what it is


def test_a_processor_is_named_with_its_instructions_and_with_what_multiplies_there(tmp_path: Path) -> None:
    """A job that an earlier version began, which had torch's own library do it, is of two kinds then."""
    fasta = write_numbered(tmp_path / "a.fasta", range(20))
    job = embedded(tmp_path / "a.npy", [fasta], model=str(save_esm2(tmp_path / "esm2")))
    capability = torch.backends.cpu.get_cpu_capability()
    expected = Kind(f"{processor_name()} ({capability})", version("torch") + ONEDNN, "float32")
    records = [read_done(job.job_dir, shard) for shard in job.job.shards]
    assert [record and record.kinds for record in records] == [(expected,)] * 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a host without a GPU")
def test_a_gpu_that_is_gone_is_said_to_be(job: Job) -> None:
    options = dataclasses.replace(job.options, device_class="cuda")
    model = dataclasses.replace(job.model, family="esm2")
    with pytest.raises(DeviceUnavailable, match="torch sees 0 CUDA devices"):
        kind_here(dataclasses.replace(job, options=options, model=model))


@pytest.mark.parametrize(
    ("options", "fused", "said"),
    [
        ({}, "triton 3.7.1", ", triton 3.7.1"),
        ({}, None, ""),
        ({"kernels": "plain"}, "triton 3.7.1", ""),
        ({"device_class": "cpu"}, "triton 3.7.1", ONEDNN),
    ],
)
def test_a_gpu_with_fused_kernels_is_another_kind_than_one_with_plain_ones(
    job: Job, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], fused: str | None, said: str
) -> None:
    monkeypatch.setattr("gpu_tasks.models.kernels.choose.fused_by", lambda _: fused)
    monkeypatch.setattr(kind, "_device", lambda _: "NVIDIA H200")
    asked = dataclasses.replace(job.options, **{"device_class": "cuda", **options})
    model = dataclasses.replace(job.model, family="esm2")
    here = kind_here(dataclasses.replace(job, options=asked, model=model))
    assert here == Kind("NVIDIA H200", version("torch") + said, job.options.dtype)


def test_a_shard_that_one_kind_began_and_another_ended_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submitted(tmp_path / "a.npy", [write_numbered(tmp_path / "a.fasta", range(60))], num_shards=1)
    first = kind_here(job.job)
    job.compute(num_batches=2)
    monkeypatch.setattr("gpu_tasks.shard.shard_run.kind_here", lambda _: OTHER)
    job.compute()
    done = read_done(job.job_dir, job.job.shards[0])
    assert done is not None
    assert done.kinds == (first, OTHER)


def test_a_kind_that_committed_nothing_has_no_part_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submitted(tmp_path / "a.npy", [write_numbered(tmp_path / "a.fasta", range(60))], num_shards=1)
    job.compute(num_batches=0)
    monkeypatch.setattr("gpu_tasks.shard.shard_run.kind_here", lambda _: OTHER)
    job.compute()
    done = read_done(job.job_dir, job.job.shards[0])
    assert done is not None
    assert done.kinds == (OTHER,)


# ---- who fixes it


def test_the_first_fixes_the_kind_and_another_is_refused_with_both_names(
    job: Job, directory: JobDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = fix_kind(job, directory)
    assert fix_kind(job, directory) == ours
    become(monkeypatch, OTHER)
    with pytest.raises(OtherKind, match=rf"begun on {re.escape(str(ours))}, and this worker is {OTHER}"):
        fix_kind(job, directory)
    assert Kind.decode(directory.kind.read_bytes()) == ours


def test_another_kind_is_refused_before_it_loads_the_model(
    job: Job, directory: JobDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    fix_kind(job, directory)
    become(monkeypatch, OTHER)
    missing = dataclasses.replace(job, model=dataclasses.replace(job.model, path="/nowhere"))
    with pytest.raises(OtherKind):
        load_and_check(missing, directory)


def test_a_job_for_any_kind_fixes_none(client: redis.Redis, directory: JobDir) -> None:
    job = make_job(num_shards=2, records_per_shard=3)
    manifest = CheckpointManifest(client, job.job_id)
    manifest.initialize(job, str(directory.path), {}, {})
    assert isinstance(acquire.acquire(manifest, directory, job, 0), Lease)
    assert not directory.kind.exists()


def test_a_shard_goes_back_unspent_where_another_kind_was_quicker(
    client: redis.Redis, job: Job, directory: JobDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = CheckpointManifest(client, job.job_id)
    manifest.initialize(job, str(directory.path), {}, {})
    create_durably(directory.kind, OTHER.encode())
    with pytest.raises(OtherKind):
        acquire.acquire(manifest, directory, job, 0)
    shard = manifest.shard_status(0)
    assert shard is not None
    assert (shard.state, shard.attempts, manifest.running()) == (ShardState.PENDING, 0, [])
    become(monkeypatch, OTHER)
    assert isinstance(acquire.acquire(manifest, directory, job, 0), Lease)
    status = manifest.job_status()
    assert status is not None
    assert status.one_kind == str(OTHER)


def test_an_unreadable_kind_is_damage_and_no_licence(job: Job, directory: JobDir) -> None:
    directory.kind.write_text("{")
    with pytest.raises(Damage, match=r"kind\.json: not readable"):
        fix_kind(job, directory)


def test_of_many_hosts_that_begin_at_once_one_fixes_the_kind(job: Job, directory: JobDir) -> None:
    """Each a process of its own, and another kind than all others."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(8)

    def begin(number: int) -> None:
        kind.kind_here = lambda _: dataclasses.replace(OTHER, device=f"device {number}")
        start.wait()
        with contextlib.suppress(OtherKind):
            fix_kind(job, directory)
            os._exit(1)

    begun = [context.Process(target=begin, args=(number,)) for number in range(8)]
    for each in begun:
        each.start()
    for each in begun:
        each.join()
    (won,) = [number for number, each in enumerate(begun) if each.exitcode == 1]
    assert Kind.decode(directory.kind.read_bytes()).device == f"device {won}"


# ---- the job's directory


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    return write_numbered(tmp_path / "a.fasta", range(30))


def test_a_job_that_replaces_another_has_no_kind_yet(tmp_path: Path, fasta: Path) -> None:
    one = submitted(tmp_path / "a.npy", [fasta], one_kind=True)
    fix_kind(one.job, one.job_dir)
    assert submitted(tmp_path / "a.npy", [fasta], one_kind=True).job_dir.kind.exists()
    submitted(tmp_path / "a.npy", [fasta], one_kind=True, overwrite=True)
    assert not one.job_dir.kind.exists()


def test_what_any_kind_may_have_begun_is_not_promised_to_be_of_one(tmp_path: Path, fasta: Path) -> None:
    submitted(tmp_path / "a.npy", [fasta])
    with pytest.raises(JobChanged, match="one-kind: no -> yes"):
        submitted(tmp_path / "a.npy", [fasta], one_kind=True)


def test_how_a_job_is_run_is_no_part_of_its_digest(tmp_path: Path, fasta: Path) -> None:
    plain = submitted(tmp_path / "a.npy", [fasta]).job
    changed = submitted(tmp_path / "b.npy", [fasta], one_kind=True, priority=7, max_workers=2).job
    assert plain.digest == changed.digest
    assert (plain.run.one_kind, plain.run.priority, plain.run.max_workers) == (False, 0, None)
    assert (changed.run.one_kind, changed.run.priority, changed.run.max_workers) == (True, 7, 2)


# ---- vectors of an earlier job


def grown(tmp_path: Path, before: InlineJob) -> InlineJob:
    more = write_numbered(tmp_path / "more.fasta", range(40))
    return submitted(tmp_path / "b.npy", [more], reuse=Path(before.job.output), one_kind=True)


def test_vectors_that_are_copied_keep_the_name_of_what_computed_them(tmp_path: Path, fasta: Path) -> None:
    before = embedded(tmp_path / "a.npy", [fasta])
    job = grown(tmp_path, before)
    (copied,) = [shard for shard in job.job.shards if shard.reused]
    done = read_done(job.job_dir, copied)
    assert done is not None
    assert done.kinds == (kind_here(before.job),)


def test_copied_vectors_fix_the_kind_of_the_job(
    tmp_path: Path, fasta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = grown(tmp_path, embedded(tmp_path / "a.npy", [fasta]))
    become(monkeypatch, OTHER)
    with pytest.raises(OtherKind):
        fix_kind(job.job, job.job_dir)


def test_vectors_of_several_kinds_are_not_copied_into_a_job_of_one(
    tmp_path: Path, fasta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = submitted(tmp_path / "a.npy", [fasta])
    before.compute([0])
    monkeypatch.setattr("gpu_tasks.shard.shard_run.kind_here", lambda _: OTHER)
    before.compute()
    with pytest.raises(UsageError, match=f"were not computed by one kind .*{OTHER}"):
        grown(tmp_path, before)
    assert not (tmp_path / "b.npy.holdfast" / "job.json").exists()
