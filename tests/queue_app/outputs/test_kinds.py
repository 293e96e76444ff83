"""Whoever reads an output learns of every kind of device that computed a part of it."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from checkpoint import DoneRecord, Kind
from queue_app.job.directory import JobDir
from queue_app.job.done_records import read_done
from queue_app.job.spec import Job
from queue_app.outputs.export import export
from queue_app.outputs.kinds import mixed_text, shares_of
from queue_app.outputs.run_card.markdown import card_markdown
from queue_app.outputs.verify import verify_job
from tests.support.jobs_and_inputs import make_job, publish

H200 = Kind("NVIDIA H200", "2.13.0", "bfloat16")
A100 = Kind("NVIDIA A100", "2.13.0", "bfloat16")
NEWER = dataclasses.replace(H200, torch="2.14.0")
OTHERWISE = dataclasses.replace(H200, dtype="float16")


def record(num_embedded: int, *kinds: Kind) -> DoneRecord:
    return DoneRecord("00000-1.parquet", "ab" * 16, num_embedded, num_embedded, kinds=kinds)


@pytest.mark.parametrize("kinds", [(), (H200,)])
def test_a_job_of_one_kind_says_nothing(kinds: Sequence[Kind]) -> None:
    assert mixed_text(shares_of([record(3, *kinds), record(4, *kinds), record(0)])) == ""


@pytest.mark.parametrize("other", [A100, NEWER, OTHERWISE])
def test_another_device_torch_or_dtype_is_another_kind(other: Kind) -> None:
    told = mixed_text(shares_of([record(3, H200), record(1000, H200), record(4, other)]))
    assert told == (
        "Computed by 2 kinds of device, whose vectors may differ in their last bits: "
        f"{H200} (2 shards, 1,003 sequences); {other} (1 shard, 4 sequences)"
    )


def test_a_shard_that_two_kinds_computed_is_told_as_such() -> None:
    told = mixed_text(shares_of([record(3, A100, H200)]))
    assert told.endswith(f": {A100} and {H200} (1 shard, 3 sequences)")


def test_what_nobody_said_may_be_another_kind() -> None:
    assert mixed_text(shares_of([record(3, H200), record(4)])).startswith("Computed by 2 kinds")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return dataclasses.replace(make_job(num_shards=3, records_per_shard=5), output=str(tmp_path / "out.npy"))


@pytest.fixture
def job_dir(job: Job, tmp_path: Path) -> JobDir:
    made = JobDir(tmp_path / "job")
    publish(job, made)
    return made


def computed_by(job_dir: JobDir, *kinds: Kind) -> None:
    """One for each shard."""
    for shard, kind in zip(job_dir.load().shards, kinds, strict=True):
        done = read_done(job_dir, shard)
        assert done is not None
        job_dir.done(shard.index).write_bytes(dataclasses.replace(done, kinds=(kind,)).encode())


def test_a_mixed_job_says_so_in_both_cards_and_when_it_is_verified(job: Job, job_dir: JobDir) -> None:
    computed_by(job_dir, H200, A100, H200)
    card = export(job, job_dir, Path(job.output)).card
    line = card.mixed_kinds
    assert f"{H200} (2 shards, 10 sequences); {A100} (1 shard, 5 sequences)" in line
    assert f"Note: {line}." in card_markdown(card)
    told = json.loads(Path(job.output).with_name("out.npy.card.json").read_text())
    assert told["mixed_kinds"] == line
    assert [share["num_shards"] for share in told["kinds"]] == [2, 1]
    report = verify_job(job_dir)
    assert line in report.lines()
    assert report.as_json()["mixed_kinds"] == line


def test_a_job_of_one_kind_names_it_and_warns_of_nothing(job: Job, job_dir: JobDir) -> None:
    computed_by(job_dir, H200, H200, H200)
    card = export(job, job_dir, Path(job.output)).card
    told = json.loads(Path(job.output).with_name("out.npy.card.json").read_text())
    (share,) = told["kinds"]
    assert (share["kinds"], share["num_shards"]) == ([dataclasses.asdict(H200)], 3)
    assert told["mixed_kinds"] is None
    assert "kinds of device" not in card_markdown(card)
    assert verify_job(job_dir).as_json()["mixed_kinds"] is None
