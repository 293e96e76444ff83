"""The verdict on a finished job: its output beside that of a run that nothing happened to."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from queue_app.job import JobDir
from queue_app.verify import verify_job


@dataclass(frozen=True, slots=True)
class Verdict:
    """Rows by what is wrong with them; `damage` is what `holdfast verify` found."""

    lost: int
    duplicated: int
    wrong: int
    identical: bool
    committed_twice: int
    damage: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        rows_are_good = not (self.lost or self.duplicated or self.wrong) and self.identical
        return rows_are_good and not self.committed_twice and not self.damage

    def __str__(self) -> str:
        counts = f"{self.lost} lost, {self.duplicated} duplicated, {self.wrong} wrong"
        same = "identical" if self.identical else "NOT identical in bytes"
        return f"{counts}, {same}, {self.committed_twice} committed twice, damage: {list(self.damage)}"


def judge(output: Path, undisturbed: Path, *, committed_twice: int) -> Verdict:
    """Compare an output, and have its job directory verified."""
    ids, expected_ids = ids_of(output), ids_of(undisturbed)
    missing = Counter(expected_ids)
    missing.subtract(ids)
    return Verdict(
        lost=sum(count for count in missing.values() if count > 0),
        duplicated=-sum(count for count in missing.values() if count < 0),
        wrong=num_wrong(output, undisturbed),
        identical=bytes_of(output) == bytes_of(undisturbed),
        committed_twice=committed_twice,
        damage=verify_job(JobDir(output.with_name(f"{output.name}.holdfast"))).damage,
    )


def num_wrong(output: Path, undisturbed: Path) -> int:
    """Rows whose vector is not, bit for bit, that of the record of their id."""
    expected = dict(zip(ids_of(undisturbed), np.load(undisturbed), strict=True))
    rows = zip(ids_of(output), np.load(output), strict=True)
    return sum(row.tobytes() != expected[name].tobytes() for name, row in rows if name in expected)


def ids_of(output: Path) -> list[str]:
    return output.with_suffix(".ids.txt").read_text().splitlines()


def bytes_of(output: Path) -> tuple[bytes, bytes]:
    return output.read_bytes(), output.with_suffix(".ids.txt").read_bytes()
