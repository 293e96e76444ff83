"""Reads an input as `embed` does, in a process of its own, and says what became of it in how much memory.

python -m tests.support.measured_reader INPUT HOME [NAME=N,…]
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT


@dataclass(frozen=True, slots=True)
class Measured:
    """`error` says why the input was refused; None: it was read, with so many records."""

    peak_mib: int
    num_records: int
    num_quarantined: int
    error: str | None


def measure(path: Path, home: Path, limit: str | None = None) -> Measured:
    """Raises where the process ended otherwise than by its own account: by a signal or with a traceback."""
    command = [sys.executable, "-m", "tests.support.measured_reader", str(path), str(home)]
    ended = subprocess.run(
        [*command, *([limit] if limit else [])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, f"{ended.returncode}: {ended.stderr[-2000:]}"
    return Measured(**json.loads(ended.stdout.splitlines()[-1]))


def peak_mib() -> int:
    """Of this program alone: ru_maxrss begins with what the process that started it had."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) >> 10


def main(path: str, home: str, limit: str | None = None) -> None:
    from queue_app.errors import InputError
    from queue_app.ingest.request import EmbedRequest
    from queue_app.job.directory import locked_job_directory
    from tests.support.inline_job import prepare_here

    records = quarantined = 0
    error = None
    request = EmbedRequest(
        inputs=(Path(path),), model="mock:8", output=Path(home) / "out.h5", alphabet="protein", limit=limit
    )
    try:
        with locked_job_directory(request.directory):
            counts = prepare_here(request).job.counts
        records, quarantined = counts.num_records, counts.num_rejected
    except InputError as refused:
        error = str(refused)
    peak = peak_mib()
    print(
        json.dumps({"peak_mib": peak, "num_records": records, "num_quarantined": quarantined, "error": error})
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
