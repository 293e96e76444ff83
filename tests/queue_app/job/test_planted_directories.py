"""A job directory that another user could have filled is not used, by whatever it is named."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from checkpoint.process_identity import identify
from queue_app.host.own_files import NotOurs
from queue_app.job.directory import JobDir, find_job_directory, locked_job_directory
from queue_app.status.known_jobs import jobs_of_folder
from tests.support.command_runs import holdfast
from tests.support.jobs_and_inputs import make_job, write_fasta
from tests.support.other_user import PRECIOUS, needs_root, of_nobody, precious

JOB = make_job(num_shards=2, records_per_shard=5)


def theirs(home: Path) -> None:
    of_nobody(home)


def open_to_others(home: Path) -> None:
    home.chmod(0o777)


def their_link(home: Path) -> None:
    home.rename(home.with_name("elsewhere"))
    home.symlink_to("elsewhere")
    of_nobody(home)


def link_inside(home: Path) -> None:
    (home / "logs").symlink_to("/etc")


def lock_is_a_link(home: Path) -> None:
    (home / "lock").symlink_to(home.parent / "precious")


def their_folder(home: Path) -> None:
    (home / "history").mkdir()
    of_nobody(home / "history")


PLANTED = [theirs, open_to_others, their_link, link_inside, lock_is_a_link, their_folder]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The job directory of an output, which is yet to be spoiled."""
    precious(tmp_path / "precious")
    made = tmp_path / "out.npy.holdfast"
    made.mkdir(mode=0o700)
    JobDir(made).write(JOB)
    return made


@needs_root
@pytest.mark.parametrize("spoil", PLANTED)
def test_a_planted_directory_is_refused_by_whoever_would_use_it(
    spoil: Callable[[Path], None], home: Path
) -> None:
    spoil(home)
    for use in (
        lambda: find_job_directory(home),
        lambda: find_job_directory(home.with_suffix("")),
        lambda: locked_job_directory(JobDir(home)).__enter__(),
    ):
        with pytest.raises(NotOurs):
            use()
    assert jobs_of_folder(home.parent) == []
    assert (home.parent / "precious").read_text() == PRECIOUS


@needs_root
@pytest.mark.parametrize("command", ["embed", "resume"])
def test_a_planted_directory_ends_a_command_with_one_line_and_nothing_else(
    command: str, home: Path, tmp_path: Path
) -> None:
    """It would have had this process ended, a file truncated, and a server of another started."""
    listed = {"gpu0": {"pid": os.getpid(), "start_time": getattr(identify(os.getpid()), "start_time", 0)}}
    (home / "processes.json").write_text(json.dumps(listed))
    (home / "server.json").write_text(json.dumps({"port": 7001, "password": "x\nloadmodule /tmp/x.so"}))
    lock_is_a_link(home)
    of_nobody(home)
    fasta = write_fasta(tmp_path / "a.fasta", 3)
    arguments = {
        "embed": ["embed", fasta, "-m", "mock:8", "-o", tmp_path / "out.npy", "--overwrite"],
        "resume": ["resume", tmp_path / "out.npy"],
    }[command]
    (line,) = holdfast(*arguments, expect=2).stderr.splitlines()
    assert "out.npy.holdfast: of another user (uid 65534); choose another place (-o or --job-dir)" in line
    assert (tmp_path / "precious").read_text() == PRECIOUS
    assert not (tmp_path / "out.npy").exists()


def test_a_new_directory_is_for_this_user_alone(tmp_path: Path) -> None:
    with locked_job_directory(JobDir(tmp_path / "deep/job")):
        assert (tmp_path / "deep/job").stat().st_mode & 0o7777 == 0o700
        assert (tmp_path / "deep/job/lock").stat().st_mode & 0o7777 == 0o600
        (tmp_path / "deep/job/job.json").touch()
