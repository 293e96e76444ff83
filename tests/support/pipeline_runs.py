"""The files of examples/pipelines/ in a directory of their own, with proteins of which three are bad; and a
Nextflow task as Nextflow would start it."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py

from queue_app.host.processes import kill_session
from tests.support import ROOT
from tests.support.command_runs import environment
from tests.support.jobs_and_inputs import write_fasta

EXAMPLES = ROOT / "examples/pipelines"
MODULE = EXAMPLES / "modules/holdfast/embed/main.nf"
NUM_RECORDS = 150
MODEL = "mock:16,delay_ms=60"
OPTIONS = "--toks-per-batch 512 --commit-seconds 0.2 --device cpu --workers 1 --shards 3"


def set_up(home: Path, *files: str, num_bad: int = 3) -> Path:
    """These files, a command `holdfast`, and proteins/a.fasta."""
    for name in files:
        shutil.copy(EXAMPLES / name, home)
    (home / "bin").mkdir()
    command = home / "bin/holdfast"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m queue_app.cli.main "$@"\n')
    command.chmod(0o755)
    (home / "proteins").mkdir()
    fasta = write_fasta(home / "proteins/a.fasta", NUM_RECORDS)
    with fasta.open("a") as file:
        file.writelines(f">bad{number}\nMK1V\n" for number in range(num_bad))
    return home


def surroundings(home: Path, **extra: str) -> dict[str, str]:
    """With that command on PATH, and this checkout to be imported from anywhere."""
    path = os.pathsep.join((str(home / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]))
    return environment(PATH=path, PYTHONPATH=str(ROOT), HOME=str(home), **extra)


@contextmanager
def started(
    home: Path, *command: str | Path, cwd: Path | None = None, **extra: str
) -> Iterator[subprocess.Popen[str]]:
    """In a session of its own, all of which ends with the test; what it says goes to log.txt."""
    with (home / "log.txt").open("a") as log:
        process = subprocess.Popen(
            command, cwd=cwd or home, env=surroundings(home, **extra), stdout=log, stderr=log, text=True,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        kill_session(process.pid)
        process.wait()


def vectors(output: Path) -> tuple[bytes, bytes]:
    """The bytes of its datasets, ids and embeddings."""
    with h5py.File(output) as file:
        return b"\n".join(file["ids"][:]), file["embeddings"][:].tobytes()


def nextflow_script(values: Mapping[str, str], *, ext_args: str) -> str:
    """What Nextflow makes of the module's `script:` for a task, as bash: variables set, escapes taken."""
    section = MODULE.read_text().partition("script:")[2].partition("stub:")[0]
    script = textwrap.dedent(section.partition('"""\n')[2].partition('"""')[0])
    known = {**values, "args": f"{ext_args}", "task.process": "HOLDFAST_EMBED"}
    filled = re.sub(r"(?<!\\)\$\{([\w.]+)\}", lambda match: known[match[1]], script)
    return filled.replace("\\$", "$").replace("\\\\", "\\")
