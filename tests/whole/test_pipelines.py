"""examples/pipelines/: each tool runs its file, a process is killed half-way, and the next try goes on.

Three bad records are allowed, and the vectors are those of an undisturbed run. Where Snakemake or Nextflow is
not installed its test is skipped; sbatch is replaced by the variables that it sets.
"""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from queue_app.host.processes import kill_session
from tests.support import ROOT
from tests.support.command_runs import committed_batches, holdfast, wait_for_progress
from tests.support.pipeline_runs import (
    EXAMPLES,
    MODEL,
    MODULE,
    OPTIONS,
    nextflow_script,
    set_up,
    started,
    surroundings,
    vectors,
)
from tests.support.waiting import wait_for

JOB = "embeddings/a.h5.holdfast"
PAGE = ROOT / "docs/pipelines.md"
SBATCH = ("bash", "embed.sbatch", MODEL)
ARRAY = {"SLURM_JOB_ID": "8", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1", "OPTIONS": OPTIONS}
MAKE = ("make", f"MODEL={MODEL}", f"OPTIONS={OPTIONS}")
SNAKEMAKE = (
    sys.executable, "-m", "snakemake", "--cores", "1", "--quiet", "all",
    "--config", f"model='{MODEL}'", f"options='{OPTIONS}'",
)  # fmt: skip
needs_snakemake = pytest.mark.skipif(
    importlib.util.find_spec("snakemake") is None, reason="no snakemake here: pip install snakemake"
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """What a run gives that nothing happened to."""
    home = set_up(tmp_path_factory.mktemp("undisturbed"))
    output = home / "a.h5"
    model = MODEL.partition(",")[0]
    holdfast("embed", home / "proteins/a.fasta", "-m", model, "-o", output, *OPTIONS.split(), expect=3)
    return vectors(output)


def kill_embed(job_dir: Path) -> None:
    """SIGKILL the command that holds the job, as the kernel does where memory runs out."""
    os.kill(int((job_dir / "lock").read_text()), signal.SIGKILL)


def interrupted(home: Path, job: str, process: "subprocess.Popen[str]") -> "Callable[[], None]":
    """Wait until a part is committed; what is returned checks, in the end, that it was not computed again."""
    wait_for_progress(home / job, 0.2, process)
    before = committed_batches(home / job)
    assert before

    def check() -> None:
        after = committed_batches(home / job)
        assert after.total() > before.total()
        assert {after[batch] for batch in before} == {1}

    return check


def check_output(output: Path, undisturbed: tuple[bytes, bytes]) -> None:
    assert vectors(output) == undisturbed
    listed = output.with_name(output.name + ".quarantine.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[1] for line in listed] == ["bad0", "bad1", "bad2"]


# ---- Snakemake


@needs_snakemake
def test_snakemake_tries_a_killed_rule_again_and_it_goes_on(
    undisturbed: tuple[bytes, bytes], tmp_path: Path
) -> None:
    home = set_up(tmp_path, "Snakefile")
    with started(home, *SNAKEMAKE) as run:
        check = interrupted(home, JOB, run)
        kill_embed(home / JOB)
        assert run.wait(timeout=120) == 0, (home / "log.txt").read_text()
    check()
    check_output(home / "embeddings/a.h5", undisturbed)


@needs_snakemake
def test_snakemake_goes_on_after_it_was_killed_itself(
    undisturbed: tuple[bytes, bytes], tmp_path: Path
) -> None:
    home = set_up(tmp_path, "Snakefile")
    with started(home, *SNAKEMAKE) as run:
        check = interrupted(home, JOB, run)
        kill_session(run.pid)
        run.wait()
    for command in ((*SNAKEMAKE, "--unlock"), (*SNAKEMAKE, "--rerun-incomplete")):
        with started(home, *command) as again:
            assert again.wait(timeout=120) == 0, (home / "log.txt").read_text()
    check()
    check_output(home / "embeddings/a.h5", undisturbed)


# ---- make


def make(home: Path, *more: str) -> int:
    ended = subprocess.run(
        [*MAKE, *more], cwd=home, env=surroundings(home), capture_output=True, text=True, timeout=120
    )
    return ended.returncode


def test_make_goes_on_after_a_kill_and_has_nothing_to_do_then(
    undisturbed: tuple[bytes, bytes], tmp_path: Path
) -> None:
    home = set_up(tmp_path, "Makefile")
    with started(home, *MAKE) as run:
        check = interrupted(home, JOB, run)
        kill_embed(home / JOB)
        assert run.wait(timeout=30) == 2  # make's own
    assert make(home) == 0
    check()
    check_output(home / "embeddings/a.h5", undisturbed)
    assert make(home, "--question") == 0


def test_an_input_that_changes_is_computed_anew_and_a_fourth_bad_record_stops_the_pipeline(
    tmp_path: Path,
) -> None:
    home = set_up(tmp_path, "Makefile", num_bad=0)
    quick = "MODEL=mock:16"
    assert make(home, quick) == 0
    first = vectors(home / "embeddings/a.h5")
    fasta = home / "proteins/a.fasta"
    fasta.write_text(fasta.read_text() + ">new\nMKT\n")
    assert make(home, quick) == 0
    ids, embeddings = vectors(home / "embeddings/a.h5")
    assert (ids, len(embeddings)) == (first[0] + b"\nnew", len(first[1]) + 16 * 4)
    fasta.write_text(fasta.read_text() + "".join(f">bad{number}\nMK1V\n" for number in range(4)))
    assert make(home, quick) == 2
    assert not (home / "embeddings/a.h5").exists()


# ---- a Slurm array


def test_a_task_of_an_array_goes_on_where_a_node_was_lost(
    undisturbed: tuple[bytes, bytes], tmp_path: Path
) -> None:
    home = set_up(tmp_path, "embed.sbatch")
    (home / "files.txt").write_text("proteins/a.fasta\n")
    scratch = {"TMPDIR": str(home)}
    with started(home, *SBATCH, **ARRAY, **scratch) as task:
        check = interrupted_in_scratch(home, task)
        kill_session(task.pid)
        task.wait()
    with started(home, *SBATCH, **ARRAY, **scratch) as again:
        assert again.wait(timeout=120) == 0, (home / "log.txt").read_text()
    check()
    check_output(home / "embeddings/a.h5", undisturbed)


def interrupted_in_scratch(home: Path, task: "subprocess.Popen[str]") -> "Callable[[], None]":
    """As `interrupted`: how far a job is that keeps its checkpoints elsewhere stands in its logs."""
    wait_for(lambda: task.poll() is None and len(committed_batches(home / JOB)) > 3, "commits")
    before = committed_batches(home / JOB)

    def check() -> None:
        after = committed_batches(home / JOB)
        assert after.total() > before.total()
        assert {after[batch] for batch in before} == {1}

    return check


def test_a_task_whose_time_is_nearly_over_commits_and_comes_again(
    undisturbed: tuple[bytes, bytes], tmp_path: Path
) -> None:
    home = set_up(tmp_path, "embed.sbatch")
    (home / "files.txt").write_text("proteins/a.fasta\n")
    (home / "bin/scontrol").write_text(f'#!/bin/sh\necho "$@" >> {home}/asked\n')
    (home / "bin/scontrol").chmod(0o755)
    with started(home, *SBATCH, **ARRAY, TMPDIR=str(home)) as task:
        check = interrupted_in_scratch(home, task)
        os.kill(task.pid, signal.SIGUSR1)
        assert task.wait(timeout=60) == 130
    assert (home / "asked").read_text() == "requeue 7_1\n"
    with started(home, *SBATCH, **ARRAY, TMPDIR=str(home)) as again:
        assert again.wait(timeout=120) == 0, (home / "log.txt").read_text()
    check()
    check_output(home / "embeddings/a.h5", undisturbed)


def test_the_batch_script_is_one_for_bash_and_sbatch() -> None:
    script = EXAMPLES / "embed.sbatch"
    subprocess.run(["bash", "-n", script], check=True)
    before, _, after = script.read_text().partition("\nset ")
    assert before.count("\n#SBATCH --") == 11
    assert "#SBATCH --" not in after  # sbatch reads none below the first command


# ---- Nextflow


@pytest.mark.skipif(
    shutil.which("nextflow") is None, reason="no nextflow here: its launcher fetches it from nextflow.io"
)
def test_nextflow_tries_a_killed_task_again_and_it_goes_on(
    undisturbed: tuple[bytes, bytes], tmp_path: Path
) -> None:
    home = set_up(tmp_path, "main.nf", "nextflow.config")
    shutil.copytree(EXAMPLES / "modules", home / "modules")
    with (home / "nextflow.config").open("a") as config:
        config.write(f"process.ext.args = '--allow-quarantine=3 {OPTIONS}'\n")
        config.write(f"process.withName.HOLDFAST_EMBED.ext.args = '--allow-quarantine=3 {OPTIONS}'\n")
    with started(home, "nextflow", "run", "main.nf", "--model", MODEL, HOME=os.environ["HOME"]) as run:
        check = interrupted(home, "holdfast-jobs/a.holdfast", run)
        kill_embed(home / "holdfast-jobs/a.holdfast")
        assert run.wait(timeout=170) == 0, (home / "log.txt").read_text()
    check()
    check_output(home / "embeddings/a.h5", undisturbed)


def test_the_script_of_the_nextflow_module_goes_on_in_a_new_work_directory(
    undisturbed: tuple[bytes, bytes], tmp_path: Path
) -> None:
    """As Nextflow starts it: bash -ue in an empty directory, where the input is a link."""
    home = set_up(tmp_path)
    values = {"sequences": "a.fasta", "model": MODEL, "prefix": "a", "jobs": str(home / "jobs")}
    script = nextflow_script(values, ext_args=f"--allow-quarantine=3 {OPTIONS}")

    def work_directory(name: str) -> Path:
        made = home / name
        made.mkdir()
        (made / "a.fasta").symlink_to(home / "proteins/a.fasta")
        (made / ".command.sh").write_text(script)
        return made

    first, second = work_directory("first"), work_directory("second")
    with started(home, "bash", "-ue", ".command.sh", cwd=first) as task:
        check = interrupted(home, "jobs/a.holdfast", task)
        kill_embed(home / "jobs/a.holdfast")
        assert task.wait(timeout=30) == 137
    assert not (first / "versions.yml").exists()
    with started(home, "bash", "-ue", ".command.sh", cwd=second) as task:
        assert task.wait(timeout=120) == 0, (home / "log.txt").read_text()
    check()
    check_output(second / "a.h5", undisturbed)
    assert (second / "a.h5.card.md").exists()
    assert [*yaml.safe_load((second / "versions.yml").read_text())] == ["HOLDFAST_EMBED"]


def test_the_module_declares_what_its_meta_yml_does() -> None:
    module, meta = MODULE.read_text(), yaml.safe_load((MODULE.parent / "meta.yml").read_text())
    assert [*meta["output"]] == re.findall(r"emit: (\w+)", module)
    section = module.partition("input:")[2].partition("output:")[0]
    declared = re.findall(r"(?:val|path)[ (](\w+)", section)
    described = [
        name for each in meta["input"] for one in (each if isinstance(each, list) else [each]) for name in one
    ]
    assert declared == described


# ---- the page


@pytest.mark.parametrize("name", ["Snakefile", "Makefile", "embed.sbatch", "modules/holdfast/embed/main.nf",
                                  "main.nf", "nextflow.config"])  # fmt: skip
def test_the_page_shows_the_files_as_they_are(name: str) -> None:
    assert f"```\n{(EXAMPLES / name).read_text()}```" in re.sub(r"```\w+\n", "```\n", PAGE.read_text())
