"""Record a writer once, then judge many of the disks that a power loss may leave.

    python -m tests.campaigns.power_loss.campaign RECORDING SUBJECT IMAGES SEED NAMES PART

It prints the summary as JSON. SUBJECT is a shape of the store's writer, or `shard`. Judging forks, so it has
a process of its own.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

from tests.campaigns.power_loss.disk import Names, crash
from tests.campaigns.power_loss.operations import Mark, Recording
from tests.campaigns.power_loss.recorder import BlindSpot
from tests.campaigns.power_loss.verdict import Judge, Verdict
from tests.support import ROOT

SHARD = "shard"


class Part(Enum):
    """When the power is lost."""

    ANY = "at any time"
    OPENING = "before the writer told anything"
    OPEN = "after that"
    ENDING = "after the last mark but two: a shard is computed, and publishing begins"

    def moments(self, recording: Recording) -> range:
        end = len(recording.operations) + 1
        marks = [n for n, operation in enumerate(recording.operations) if isinstance(operation, Mark)]
        if self is Part.OPENING:
            return range(marks[0] + 1)
        if self is Part.ANY:
            return range(end)
        return range(marks[0] + 1 if self is Part.OPEN else marks[-3] + 1, end)


@dataclass(frozen=True, slots=True)
class Summary:
    """`lost`, `damaged` and `broken` count images; `checked` acknowledged batches, once for each image."""

    subject: str
    images: int
    checked: int
    lost: int
    damaged: int
    broken: int
    seconds: float
    findings: tuple[str, ...]

    @property
    def good(self) -> bool:
        return not self.findings


def record(command: Sequence[str], directory: Path, recording: Path) -> None:
    """Run the module `writers` with MARKS and the command, and note what it does to the directory.

    Raises:
        BlindSpot: the writer failed, or did something that cannot be recorded.
    """
    marks = recording.with_suffix(".marks")
    writer = _module("writers", marks, *command)
    ended = _run([*_module("recorder", recording, directory, marks), *writer])
    if ended.returncode:
        raise BlindSpot(ended.stderr)


def record_store(home: Path, shape: str, *, without: Sequence[str] = ()) -> Path:
    """The directory of stores stands already and is durable; the store's own is new."""
    directory = home / "checkpoints"
    store = directory / "00000.lmdb"
    directory.mkdir(parents=True)
    record(["store", str(store), shape, *without], directory, home / "recording")
    return home / "recording"


def record_shard(home: Path, *, without: Sequence[str] = ()) -> Path:
    """The job and the store's directory stand already."""
    from tests.campaigns.power_loss.shard import make_job

    home.mkdir(exist_ok=True)
    directory = make_job(home)
    record(["shard", str(directory), *without], directory, home / "recording")
    return home / "recording"


def judge(
    recording: Path,
    subject: str,
    *,
    images: int,
    seed: int,
    names: Names = Names.STRICT,
    part: Part = Part.ANY,
) -> Summary:
    """In a process of its own. The same seed and recording give the same images."""
    ended = _run(_module("campaign", recording, subject, images, seed, names.name, part.name))
    assert ended.returncode == 0, ended.stderr
    fields = json.loads(ended.stdout)
    return Summary(**{**fields, "findings": tuple(fields["findings"])})


def _module(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", f"tests.campaigns.power_loss.{name}", *map(str, arguments)]


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """On this checkout, and without settings of the caller's that would lead the writer elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    env = {**kept, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


# ---- in the process that judges


def judge_images(
    recording: Recording, subject: str, images: int, seed: int, names: Names, part: Part
) -> Summary:
    started = time.monotonic()
    rng = random.Random(seed)
    judge = _judge_for(recording, subject)
    verdicts: list[tuple[int, Verdict]] = []
    for _ in range(images):
        moment = rng.choice(part.moments(recording))
        with tempfile.TemporaryDirectory(prefix="holdfast-power-loss-") as home:
            crash(recording, moment, rng, names).write(Path(home))
            verdicts.append((moment, judge.judge(Path(home), moment)))
    return Summary(
        subject=subject,
        images=images,
        checked=sum(verdict.checked for _, verdict in verdicts),
        lost=sum(bool(verdict.lost) for _, verdict in verdicts),
        damaged=sum(bool(verdict.damaged) for _, verdict in verdicts),
        broken=sum(bool(verdict.broken) for _, verdict in verdicts),
        seconds=time.monotonic() - started,
        findings=tuple(f"{moment}: {verdict}" for moment, verdict in verdicts if not verdict.good),
    )


def _judge_for(recording: Recording, subject: str) -> Judge:
    if subject == SHARD:
        from tests.campaigns.power_loss.shard_judge import ShardJudge

        return ShardJudge(recording, subject)
    from tests.campaigns.power_loss.store_judge import StoreJudge

    return StoreJudge(recording, subject)


if __name__ == "__main__":
    path, subject, images, seed, names, part = sys.argv[1:]
    recording = Recording.load(Path(path))
    summary = judge_images(recording, subject, int(images), int(seed), Names[names], Part[part])
    print(json.dumps(asdict(summary)))
