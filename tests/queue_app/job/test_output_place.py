"""Where a job's output goes, by the note that its directory holds."""

from pathlib import Path

from queue_app import Job
from queue_app.job.directory import JobDir, locked_job_directory
from queue_app.job.output_place import check_output, output_of, take_place
from queue_app.outputs.export import export
from tests.support.inline_job import submitted
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


def test_the_directories_above_an_output_are_made_when_its_job_stands(tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "a.fasta", 3)
    output = tmp_path / "new" / "er" / "out.npy"
    check_output(output)
    assert not output.parent.exists()  # looking makes nothing
    job = submitted(output, [fasta], job_dir=tmp_path / "jobs" / "one")
    take_place(job.job_dir, output)
    assert output.parent.is_dir()


def test_an_export_makes_the_directories_above_its_output(finished: Path, tmp_path: Path) -> None:
    job = Job.open(finished / "out.h5")
    export(job.job, job.job_dir, tmp_path / "new" / "er" / "out.npy")
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
