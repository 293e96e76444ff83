"""The verdict on a finished job: its output beside that of a run that nothing happened to."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from queue_app.job.directory import JobDir
from queue_app.outputs.verify import verify_job
from tests.campaigns.chaos.inputs import Input, quarantined

TOLERANCE = 1e-4
"""Of float32 vectors that were computed in another company: their last bits may differ."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Rows by what is wrong with them; `damage` is what `holdfast verify` found.

    `innocent` counts records that were quarantined and do no harm, `spared` those that do and were not.
    `complete`: every shard is done, and the records embedded and quarantined are as many as were read.
    """

    lost: int
    duplicated: int
    wrong: int
    identical: bool
    committed_twice: int
    innocent: int
    spared: int
    complete: bool
    damage: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        rows_are_good = not (self.lost or self.duplicated or self.wrong) and self.identical
        quarantine_is_good = not (self.innocent or self.spared) and self.complete
        return rows_are_good and quarantine_is_good and not self.committed_twice and not self.damage

    def __str__(self) -> str:
        counts = f"{self.lost} lost, {self.duplicated} duplicated, {self.wrong} wrong"
        same = "identical" if self.identical else "NOT identical in bytes"
        if self.is_good:
            return f"{counts}, {same}"
        quarantine = f"{self.innocent} innocent quarantined, {self.spared} spared, complete: {self.complete}"
        twice = f"{self.committed_twice} committed twice"
        return f"{counts}, {same}, {twice}, {quarantine}, damage: {list(self.damage)}"


def judge(output: Path, input: Input, *, committed_twice: int, split: Collection[str] = ()) -> Verdict:
    """Compare an output, and have its job directory verified.

    `split` names records of batches that were computed in parts: they need only be nearly the same.
    """
    undisturbed = input.undisturbed
    ids, expected_ids = ids_of(output), ids_of(undisturbed)
    report = verify_job(JobDir(output.with_name(f"{output.name}.holdfast")))
    set_aside = quarantined(output)
    done = report.num_done == report.num_shards
    missing = Counter(expected_ids)
    missing.subtract(ids)
    return Verdict(
        lost=sum(count for count in missing.values() if count > 0),
        duplicated=-sum(count for count in missing.values() if count < 0),
        wrong=num_wrong(output, undisturbed, split),
        identical=without(split, output) == without(split, undisturbed),
        committed_twice=committed_twice,
        innocent=len(set_aside - input.poison),
        spared=len(input.poison - set_aside),
        complete=done and report.num_records == len(ids) + len(set_aside),
        damage=report.damage,
    )


def num_wrong(output: Path, undisturbed: Path, split: Collection[str]) -> int:
    """Rows whose vector is not, bit for bit, that of the record of their id."""
    expected = dict(zip(ids_of(undisturbed), np.load(undisturbed), strict=True))
    rows = zip(ids_of(output), np.load(output), strict=True)
    known = [(name, row, expected[name]) for name, row in rows if name in expected]
    return sum(
        not np.allclose(row, good, atol=TOLERANCE) if name in split else row.tobytes() != good.tobytes()
        for name, row, good in known
    )


def ids_of(output: Path) -> list[str]:
    return output.with_suffix(".ids.txt").read_text().splitlines()


def without(split: Collection[str], output: Path) -> tuple[bytes, bytes]:
    """The bytes of an output, those of the rows of `split` left out."""
    ids, content = output.with_suffix(".ids.txt").read_bytes(), output.read_bytes()
    if split:
        kept = [name not in split for name in ids_of(output)]
        content = np.load(output)[kept].tobytes()
    return content, ids
