"""What the jobs of a run read, and what each gives when nothing happens to it."""

import csv
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.jobs_and_inputs import write_fasta

INPUT_RECORDS = (200, 400, 800)
HOLDFAST = [sys.executable, "-m", "queue_app.cli.main"]
MOTIFS = {"kill": "WWWKILLWWW", "raise": "WWWRAISEWWW", "nan": "WWWNANWWW"}
"""What a record holds that harms the mock model in this way."""
FINISHED, SOME_QUARANTINED = 0, 3


@dataclass(frozen=True, slots=True)
class Input:
    """A file of sequences, the ids of those that do harm, and the output of the run that nothing happened
    to but them."""

    path: Path
    undisturbed: Path
    model: str
    poison: frozenset[str] = frozenset()

    @property
    def ids(self) -> list[str]:
        """By ordinal."""
        return [line[1:].split()[0] for line in self.path.read_text().splitlines() if line[0] == ">"]


def make_inputs(
    home: Path, model: str, options: Sequence[str], num_workers: int, env: dict[str, str]
) -> list[Input]:
    """Write the inputs and embed each in peace. The last is the poisoned one, where the model takes any."""
    home.mkdir()
    inputs = [
        Input(write_fasta(home / f"{number}.fasta", number), home / f"{number}.npy", model)
        for number in INPUT_RECORDS
    ]
    if model.startswith("mock:"):
        inputs.append(_poisoned(home, model))
    for each in inputs:
        workers = ["--device", "cpu", "--workers", str(num_workers), "--quiet"]
        what = ["embed", str(each.path), "-m", each.model, "-o", str(each.undisturbed)]
        ended = subprocess.run(
            [*HOLDFAST, *what, *options, *workers], env=env, capture_output=True, text=True, timeout=300
        )
        expected = SOME_QUARANTINED if each.poison else FINISHED
        if ended.returncode != expected or quarantined(each.undisturbed) != each.poison:
            raise RuntimeError(f"the undisturbed run of {each.path} failed: {ended.stderr}")
    return inputs


def _poisoned(home: Path, model: str) -> Input:
    """Ordinary records, and in shards of their own one that kills its process, one that fails, and one that
    gives NaN."""
    path = write_fasta(home / "poisoned.fasta", INPUT_RECORDS[0])
    lines = path.read_text().splitlines()
    for number, (kind, motif) in enumerate(MOTIFS.items()):
        at = 2 * (number * INPUT_RECORDS[0] // len(MOTIFS))
        lines[at:at] = [f">{kind}", f"MKV{motif}{'AG' * number}"]
    path.write_text("\n".join(lines) + "\n")
    options = ",".join(f"{kind}={motif}" for kind, motif in MOTIFS.items())
    return Input(path, home / "poisoned.npy", f"{model},{options}", frozenset(MOTIFS))


def quarantined(output: Path) -> frozenset[str]:
    """The ids that an output's list of quarantined records names."""
    listed = output.with_name(f"{output.name}.quarantine.tsv")
    if not listed.exists():
        return frozenset()
    with listed.open(newline="") as lines:
        return frozenset(row["id"] for row in csv.DictReader(lines, delimiter="\t"))
