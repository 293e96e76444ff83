"""Run the real command in processes of its own, look at it from outside, and kill what the test wants."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from checkpoint.process_identity import identify
from queue_app.status.snapshot import snapshots
from tests.support.redis_servers import under_its_user
from tests.support.waiting import wait_for

HOLDFAST = [sys.executable, "-m", "queue_app.cli.main"]
QUICK = {"HOLDFAST_BEAT_SECONDS": "0.3", "HOLDFAST_LEASE_SECONDS": "2", "HOLDFAST_RECONCILE_SECONDS": "0.2"}
"""Short leases, so that a recovery takes seconds of a test."""


def environment(**extra: str) -> dict[str, str]:
    """Ours, without what would point at another server, plus what the test sets."""
    own = "HOLDFAST_LOCKS"  # where the workers of these tests claim devices
    kept = {
        name: value for name, value in os.environ.items() if name == own or not name.startswith("HOLDFAST_")
    }
    return {**kept, **QUICK, **extra}


def holdfast(*arguments: str | Path, expect: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end and check its exit code."""
    arguments, env = under_its_user(arguments, env)
    command = [*HOLDFAST, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment(**env), timeout=170)
    assert ended.returncode == expect, f"exit {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    return ended


@contextlib.contextmanager
def running(
    *arguments: str | Path, output: int = subprocess.PIPE, **env: str
) -> Iterator[subprocess.Popen[str]]:
    """The command in the background; ended, with whatever it started, when the test is done with it.

    What says more than a pipe holds waits for somebody to read it: not with `output=DEVNULL`.
    """
    arguments, env = under_its_user(arguments, env)
    command = [*HOLDFAST, *map(str, arguments)]
    process = subprocess.Popen(
        command, stdout=output, stderr=subprocess.STDOUT, text=True, env=environment(**env)
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def status(job: str | Path, **env: str) -> dict[str, Any]:
    """`holdfast status JOB --json`."""
    answer = json.loads(holdfast("status", job, "--json", **env).stdout)
    assert isinstance(answer, dict)
    return answer


def untimed(lines: str) -> str:
    """What a run has said where there is no terminal, without the time that begins each line."""
    return re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", lines, flags=re.MULTILINE)


def wait_for_progress(job_dir: Path, share: float, process: subprocess.Popen[str]) -> dict[str, Any]:
    """Until the given share of the sequences is committed, and the job still runs.

    Asks from within: on a crowded machine the command takes as long as a short job.
    """

    def reached() -> dict[str, Any] | None:
        assert process.poll() is None, process.communicate()[0]
        if not (job_dir / "job.json").exists():
            return None
        (found,) = snapshots(str(job_dir), None)
        seen = found.as_json()
        done, total = seen["sequences"]["done"], seen["sequences"]["total"]
        return seen if seen["workers"] and done >= share * total else None

    return wait_for(reached, f"{share:.0%} of {job_dir}")  # type: ignore[return-value]


def kill_tree(pid: int) -> None:
    """SIGKILL the process group: a worker's parent and child at the same moment."""
    os.killpg(pid, signal.SIGKILL)
    wait_for(lambda: identify(pid) is None, f"process {pid} to die")


def committed_batches(job_dir: Path) -> Counter[tuple[int, int]]:
    """How often each (shard, batch) was committed, over all workers and restarts, from their logs."""
    line = re.compile(r"committed job=\S+ shard=(\d+) token=\d+ batches=([\d,]+)")
    found: Counter[tuple[int, int]] = Counter()
    for log in sorted((job_dir / "logs").glob("*.log")):
        for shard, batches in line.findall(log.read_text()):
            found.update((int(shard), int(batch)) for batch in batches.split(","))
    return found


def left_over(pids: Sequence[int]) -> list[int]:
    """Those of the processes that are still there."""
    return [pid for pid in pids if identify(pid) is not None]
