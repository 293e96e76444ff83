"""Where a job's output goes, by the note that its directory holds."""

from pathlib import Path

from queue_app import Job
from queue_app.job.output_place import output_of, take_place
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
