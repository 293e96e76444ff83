"""One attempt at a shard by a worker whose tokenizer ends its process, or raises, at some texts.

python -m tests.support.dying_tokenizers JOB_DIR TOKEN MOTIF kill|raise|live|stop
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpu_tasks import load_model
from gpu_tasks.models.mock import MockModel
from gpu_tasks.shard.shard_run import ShardRun
from queue_app.coordination.states import Lease
from queue_app.job.directory import JobDir
from queue_app.settings import RuntimeConfig
from tests.support import ROOT


@dataclass(frozen=True, slots=True)
class Dying:
    """All that the model has, and a tokenizer of its own."""

    model: MockModel
    motif: str
    how: str

    def __getattr__(self, name: str) -> object:
        return getattr(self.model, name)

    def tokenize(self, sequences: Sequence[str]) -> list[npt.NDArray[np.int32]]:
        if self.how in ("kill", "raise") and any(self.motif in sequence for sequence in sequences):
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError(f"a text holds {self.motif}")
        return self.model.tokenize(sequences)


def attempt(job_dir: Path, token: int, motif: str, how: str = "kill") -> int:
    """How it ended: 0 when the shard was published."""
    command = [sys.executable, "-m", "tests.support.dying_tokenizers", str(job_dir), str(token), motif, how]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=120).returncode


def main(home: str, token: str, motif: str, how: str) -> int:
    job_dir = JobDir(Path(home))
    job = job_dir.load()
    model = load_model("mock:8")
    assert isinstance(model, MockModel)
    run = ShardRun(
        job=job, job_dir=job_dir, lease=Lease(job.shards[0], int(token)),
        model=Dying(model, motif, how), config=RuntimeConfig(), should_stop=lambda: how == "stop",
    )  # fmt: skip
    return 0 if run.run() is not None else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
