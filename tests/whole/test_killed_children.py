"""A worker whose children the kernel kills is left out; with room for none, the job says why it ends."""

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from checkpoint.process_identity import identify
from tests.support.command_runs import HOLDFAST, environment
from tests.support.jobs_and_inputs import write_fasta
from tests.support.waiting import wait_for

AT_ONCE, WHILE_IT_LOADS = 1, 4
LEFT_OUT = "it is left out"
EMBED = ["embed", "a.fasta", "-m", "mock:8", "-o", "out.npy", "--device", "cpu"]


@contextlib.contextmanager
def killing(job_dir: Path, looks: int, wanted: Callable[[], bool]) -> Iterator[None]:
    """Kill every child of a worker that was seen so often, while it is wanted."""
    ended, seen = threading.Event(), Counter[int]()

    def kill() -> None:
        while not ended.wait(0.01):
            seen.update(child for pid in workers_of(job_dir).values() for child in children_of(pid))
            for child in [pid for pid, times in seen.items() if times >= looks and wanted()]:
                del seen[child]
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def workers_of(job_dir: Path) -> dict[str, int]:
    """The living workers' pids, by queue."""
    try:
        known = json.loads((job_dir / "processes.json").read_text())
    except (OSError, ValueError):
        return {}
    return {name: each["pid"] for name, each in known.items() if name != "server" and identify(each["pid"])}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_fasta(tmp_path / "a.fasta", 30)
    return tmp_path


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What it says stands in `home/said` while it runs."""
    command = [*HOLDFAST, *EMBED, *arguments]
    said = home / "said"
    with said.open("w") as stderr:
        ended = subprocess.run(
            command, cwd=home, stdout=subprocess.DEVNULL, stderr=stderr, env=environment(), timeout=170
        )
    return subprocess.CompletedProcess(command, ended.returncode, stderr=said.read_text())


@pytest.mark.parametrize("looks", [AT_ONCE, WHILE_IT_LOADS])
def test_with_room_for_one_worker_the_other_is_left_out_and_the_job_done(home: Path, looks: int) -> None:
    with killing(home / "out.npy.holdfast", looks, lambda: LEFT_OUT not in (home / "said").read_text()):
        ended = run(home, "--workers", "2")
    assert ended.returncode == 0, ended.stderr
    assert "killed by signal 9 (SIGKILL), probably out of memory" in ended.stderr
    assert LEFT_OUT in ended.stderr
    assert np.load(home / "out.npy").shape == (30, 8)


@pytest.mark.parametrize("looks", [AT_ONCE, WHILE_IT_LOADS])
@pytest.mark.parametrize("num_workers", ["1", "2"])
def test_with_room_for_none_the_job_ends_with_that_reason(home: Path, num_workers: str, looks: int) -> None:
    with killing(home / "out.npy.holdfast", looks, lambda: True):
        ended = run(home, "--workers", num_workers, "--quiet")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "was killed by signal 9 (SIGKILL), probably out of memory" in line
    wait_for(lambda: not workers_of(home / "out.npy.holdfast"), "the workers to end")
