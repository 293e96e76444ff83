"""What is not the job's own is not touched: neither a file at the output's place nor one beside it."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from queue_app.errors import UsageError
from queue_app.ingest.prepare import prepare
from queue_app.ingest.request import EmbedRequest
from queue_app.ingest.settle import settle
from queue_app.job.directory import JobDir
from queue_app.job.output_place import check_output, claim
from queue_app.job.spec import Job
from queue_app.outputs import export as exporting
from queue_app.outputs.export import export
from tests.support.command_runs import HOLDFAST, environment, holdfast
from tests.support.inline_job import submitted
from tests.support.jobs_and_inputs import make_job, publish, write_fasta
from tests.support.output_files import EVERY_FORMAT

CPU = ["--device", "cpu", "--workers", "1", "--quiet"]
PRECIOUS = b"the work of years"


@pytest.fixture
def job(tmp_path: Path) -> tuple[Job, JobDir]:
    job, job_dir = make_job(num_shards=2, records_per_shard=3), JobDir(tmp_path / "job")
    publish(job, job_dir)
    return job, job_dir


def precious(path: Path) -> Path:
    path.write_bytes(PRECIOUS)
    return path


def refused(home: Path, *arguments: str | Path) -> str:
    command = [*HOLDFAST, *map(str, arguments)]
    ended = subprocess.run(command, cwd=home, capture_output=True, text=True, env=environment(), timeout=60)
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.splitlines()
    return line


def test_a_file_that_is_not_the_jobs_is_refused_at_once_and_replaced_only_when_told(tmp_path: Path) -> None:
    fasta, output = write_fasta(tmp_path / "a.fasta", 5), precious(tmp_path / "out.npy")
    embed = ["embed", fasta, "-m", "mock:8", "-o", output, *CPU]
    assert "out.npy: is there already, not written by this job" in refused(tmp_path, *embed)
    enqueue = ["enqueue", fasta, "-m", "mock:8", "-o", output, "--queues", "cpu0"]
    assert "--overwrite" in refused(tmp_path, *enqueue)
    assert output.read_bytes() == PRECIOUS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.fasta", "out.npy"]
    holdfast(*embed, "--overwrite")
    assert np.load(output).shape == (5, 8)
    holdfast(*embed)  # now it is the job's
    shutil.rmtree(tmp_path / "out.npy.holdfast")
    assert "the output of job " in refused(tmp_path, *embed)


@pytest.mark.parametrize(
    "name", ["out.ids.txt", "out.npy.card.json", "out.npy.card.md", "out.npy.quarantine.tsv"]
)
def test_a_file_beside_the_output_is_not_replaced_either(
    tmp_path: Path, job: tuple[Job, JobDir], name: str
) -> None:
    precious(tmp_path / name)
    with pytest.raises(UsageError, match=f"{name}: is there already, and .*out.npy would replace it"):
        export(*job, tmp_path / "out.npy")
    assert (tmp_path / name).read_bytes() == PRECIOUS
    assert not (tmp_path / "out.npy").exists()
    export(*job, tmp_path / "out.npy", overwrite=True)
    export(*job, tmp_path / "out.npy")


@pytest.mark.parametrize(
    ("name", "beside"),
    [("out.safetensors", "out.safetensors.ids.txt"), ("out.npy", "out.ranges.npy")],
)
def test_what_an_output_also_consists_of_is_not_replaced_either(
    tmp_path: Path, job: tuple[Job, JobDir], name: str, beside: str
) -> None:
    precious(tmp_path / beside)
    with pytest.raises(UsageError, match=f"{beside}: is there already, and .*{name} would replace it"):
        export(*job, tmp_path / name)
    assert (tmp_path / beside).read_bytes() == PRECIOUS


@pytest.mark.parametrize("name", [name for name in EVERY_FORMAT if name != "out"])
def test_a_file_called_like_an_output_of_whatever_format_is_refused(
    tmp_path: Path, job: tuple[Job, JobDir], name: str
) -> None:
    if name == "out.lance":
        (tmp_path / name / "data").mkdir(parents=True)
    path = precious(tmp_path / name / "data" / "a" if name == "out.lance" else tmp_path / name)
    with pytest.raises(UsageError, match=f"{name}: is there already, not written by this job"):
        export(*job, tmp_path / name)
    assert path.read_bytes() == PRECIOUS


def test_a_directory_of_another_job_is_refused_and_an_empty_one_is_a_place(
    tmp_path: Path, job: tuple[Job, JobDir]
) -> None:
    (tmp_path / "theirs").mkdir()
    precious(tmp_path / "theirs" / "00000.parquet")
    with pytest.raises(UsageError, match="theirs: is there already, not written by this job"):
        export(*job, tmp_path / "theirs")
    (tmp_path / "empty").mkdir()
    export(*job, tmp_path / "empty")
    export(*job, tmp_path / "empty")
    assert (tmp_path / "theirs" / "00000.parquet").read_bytes() == PRECIOUS


def test_what_holdfast_left_beside_an_output_that_is_gone_is_no_obstacle(
    tmp_path: Path, job: tuple[Job, JobDir]
) -> None:
    export(*job, tmp_path / "out.npy")
    (tmp_path / "out.npy").unlink()
    other = make_job(num_shards=1, records_per_shard=2, job_id="ba" * 6 + "-cafecafe")
    publish(other, JobDir(tmp_path / "b"))
    export(other, JobDir(tmp_path / "b"), tmp_path / "out.npy")
    assert np.load(tmp_path / "out.npy").shape == (2, 8)


def test_an_export_that_was_killed_half_way_goes_on_over_its_own_files(
    tmp_path: Path, job: tuple[Job, JobDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(exporting, "_write_companions", killed)
        with pytest.raises(KeyboardInterrupt):
            export(*job, tmp_path / "out.npy")
    assert (tmp_path / "out.npy").exists()
    export(*job, tmp_path / "out.npy")


def test_what_may_be_replaced_stays_so_for_the_run_that_goes_on(tmp_path: Path) -> None:
    fasta, output = write_fasta(tmp_path / "a.fasta", 5), precious(tmp_path / "out.npy")
    request = EmbedRequest(inputs=[fasta], model="mock:8", output=output, overwrite=True)
    request.directory.path.mkdir()
    prepare(request, settle(request), device_class="cpu", threads=1)
    settle(EmbedRequest(inputs=[fasta], model="mock:8", output=output))


def test_a_claim_moves_with_its_directory(tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "a.fasta", 5)
    (tmp_path / "old").mkdir()
    job = submitted(tmp_path / "old" / "out.npy", [fasta])
    claim(job.job_dir, precious(tmp_path / "old" / "out.npy"))
    (tmp_path / "old").rename(tmp_path / "new")
    settle(EmbedRequest(inputs=[fasta], model="mock:8", output=tmp_path / "new" / "out.npy"))


def test_a_file_that_its_owner_made_read_only_is_refused_also_to_root(
    tmp_path: Path, job: tuple[Job, JobDir]
) -> None:
    export(*job, tmp_path / "out.npy")
    (tmp_path / "out.npy").chmod(0o400)
    with pytest.raises(UsageError, match="is not writable"):
        export(*job, tmp_path / "out.npy", overwrite=True)


@pytest.mark.parametrize("name", EVERY_FORMAT)
@pytest.mark.parametrize("target", ["none", "ours"])
def test_a_link_stays_one_and_the_file_that_it_leads_to_is_written(
    tmp_path: Path, job: tuple[Job, JobDir], name: str, target: str
) -> None:
    (tmp_path / "big").mkdir()
    (tmp_path / name).symlink_to(Path("big") / name)
    (tmp_path / f"{name}.card.json").symlink_to(Path("big") / "card.json")
    if target == "ours":
        export(*job, tmp_path / name)
    export(*job, tmp_path / name)
    assert (tmp_path / name).is_symlink()
    assert (tmp_path / f"{name}.card.json").is_symlink()
    assert (tmp_path / "big" / name).exists()
    assert not [path for path in tmp_path.rglob(".*") if path.suffix in (".tmp", ".old")]


def test_what_lies_behind_a_link_is_not_replaced_unless_it_is_ours(
    tmp_path: Path, job: tuple[Job, JobDir]
) -> None:
    (tmp_path / "out.npy").symlink_to(precious(tmp_path / "theirs.npy"))
    with pytest.raises(UsageError, match="is there already"):
        export(*job, tmp_path / "out.npy")
    export(*job, tmp_path / "out.npy", overwrite=True)
    assert np.load(tmp_path / "theirs.npy").shape == (6, 8)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def astray(path: Path) -> None:
    path.symlink_to(Path("nowhere") / path.name)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (loop, "a link that leads to itself"),
        (astray, "nowhere is no directory"),
        (os.mkfifo, "neither a file nor"),
    ],
)
def test_a_link_that_leads_nowhere_and_a_pipe_are_no_place_for_an_output(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "out.npy")
    with pytest.raises(UsageError, match=message):
        check_output(tmp_path / "out.npy")
