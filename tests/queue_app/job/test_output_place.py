"""Where a job's output goes, by the note that its directory holds."""

import json
from pathlib import Path

import pytest

from queue_app import Job
from queue_app.errors import OtherVersion
from queue_app.job.directory import JobDir, locked_job_directory
from queue_app.job.output_place import (
    CARD_SCHEMA,
    check_output,
    claim,
    exported,
    exported_card,
    output_of,
    take_place,
)
from queue_app.outputs.export import export
from queue_app.outputs.verify import verify_job
from tests.support.inline_job import InlineJob, embedded, submitted
from tests.support.jobs_and_inputs import write_fasta


def test_another_way_to_the_same_directory_is_no_move(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    job = submitted(home / "out.npy", [write_fasta(tmp_path / "a.fasta", 3)])
    take_place(job.job_dir, home / "out.npy")
    (tmp_path / "way").symlink_to(home)
    assert Job.open(tmp_path / "way" / "out.npy.holdfast").output == home / "out.npy"


def test_without_a_note_the_output_is_that_of_the_submit(tmp_path: Path) -> None:
    job = submitted(tmp_path / "out.npy", [write_fasta(tmp_path / "a.fasta", 3)])
    assert output_of(job.job, job.job_dir) == tmp_path / "out.npy"
    (job.job_dir.path / "place.json").write_text("half a no")
    assert output_of(job.job, job.job_dir) == tmp_path / "out.npy"


# ---- the card beside it


@pytest.fixture
def finished(tmp_path: Path) -> InlineJob:
    return embedded(tmp_path / "out.npy", [write_fasta(tmp_path / "a.fasta", 3)])


def change_card(tmp_path: Path, **changed: object) -> None:
    path = tmp_path / "out.npy.card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def test_a_card_of_a_newer_schema_is_refused_in_a_line_that_says_what_to_do(
    finished: InlineJob, tmp_path: Path
) -> None:
    change_card(tmp_path, schema=CARD_SCHEMA + 1)
    assert exported(finished.job, finished.job_dir) is not None, "the output is there all the same"
    with pytest.raises(
        OtherVersion, match=r"card\.json: written by a newer Holdfast \(schema 2, .* reads 1\);"
    ):
        exported_card(finished.job, finished.job_dir)
    with pytest.raises(
        OtherVersion, match=r"or holdfast export .*out\.npy\.holdfast -o .*out\.npy writes it anew"
    ):
        verify_job(finished.job_dir)
    with pytest.raises(OtherVersion, match="newer Holdfast"):
        Job.open(tmp_path / "out.npy").result()
    finished.export()
    assert verify_job(finished.job_dir).sound


@pytest.mark.parametrize("changed", [{"schema": "one"}, {"job": "another"}], ids=str)
def test_what_is_no_card_of_the_job_tells_nothing_of_its_output(
    finished: InlineJob, tmp_path: Path, changed: dict[str, object]
) -> None:
    change_card(tmp_path, **changed)
    assert exported(finished.job, finished.job_dir) is None


def test_a_card_says_nothing_while_its_output_is_written_anew(finished: InlineJob, tmp_path: Path) -> None:
    claim(finished.job_dir, tmp_path / "out.npy")
    assert exported(finished.job, finished.job_dir) is None
    finished.export()
    assert exported(finished.job, finished.job_dir) is not None


def test_two_files_lie_beside_an_output_and_what_an_earlier_version_wrote_goes(
    finished: InlineJob, tmp_path: Path
) -> None:
    meta = tmp_path / "out.npy.meta.json"
    meta.write_text(json.dumps({"job": "another", "content_digest": ""}))
    finished.export()
    assert meta.exists(), "it is another job's"
    meta.write_text(json.dumps({"job": finished.job.job_id, "content_digest": ""}))
    finished.export()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.fasta", "out.ids.txt", "out.npy", "out.npy.card.json", "out.npy.card.md", "out.npy.holdfast",
    ]  # fmt: skip


def test_the_directories_above_an_output_are_made_when_its_job_stands(tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "a.fasta", 3)
    output = tmp_path / "new" / "er" / "out.npy"
    check_output(output)
    assert not output.parent.exists()  # looking makes nothing
    job = submitted(output, [fasta], job_dir=tmp_path / "jobs" / "one")
    take_place(job.job_dir, output)
    assert output.parent.is_dir()


def test_an_export_makes_the_directories_above_its_output(finished: InlineJob, tmp_path: Path) -> None:
    export(finished.job, finished.job_dir, tmp_path / "new" / "er" / "out.npy")
    assert (tmp_path / "new" / "er" / "out.npy").exists()


def test_directories_that_were_made_for_a_job_that_did_not_come_to_be_are_gone_again(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()

    path = there / "new" / "er" / "out.h5.holdfast"
    with locked_job_directory(JobDir(path)):
        assert path.is_dir()
    assert list(there.iterdir()) == []
    (there / "new").mkdir()
    with locked_job_directory(JobDir(path)):
        assert path.is_dir()
    assert list(there.rglob("*")) == [there / "new"]
