"""Exports, killed before each of their steps: `python -m tests.support.killed_exports JOB OUTPUT WHERE`.

Each is a process of its own, in a copy of the job's home, WHERE/0 to WHERE/N. It is forked before anything is
done that has threads.
"""

import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from queue_app.job.directory import JobDir
from queue_app.job.output_place import take_place
from queue_app.outputs.export import export

STEPS = ((Path, "replace"), (Path, "rename"), (Path, "unlink"), (os, "link"), (shutil, "rmtree"))
"""Whatever an export does to names goes through one of these."""


def main(job: Path, output: Path, where: Path) -> None:
    """`job` and `output` lie in one directory, which is the home."""
    for step in itertools.count():
        home = where / str(step)
        shutil.copytree(job.parent, home)
        if not _killed_before(step, JobDir(home / job.name), home / output.name):
            shutil.rmtree(home)
            return


def _killed_before(step: int, job_dir: JobDir, output: Path) -> bool:
    """False where the export had fewer steps."""
    take_place(job_dir, output)
    if (child := os.fork()) == 0:
        _kill_before(step)
        export(job_dir.load(), job_dir, output)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"the export ended with {status}")
    return status != 0


def _kill_before(step: int) -> None:
    steps = itertools.count()
    for owner, name in STEPS:
        setattr(owner, name, _counted(getattr(owner, name), steps, step))


def _counted(function: Callable[..., Any], steps: Iterator[int], last: int) -> Callable[..., Any]:
    def counted(*arguments: Any, **options: Any) -> Any:
        if next(steps) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    return counted


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
