"""What came out of a trial, in numbers, and what Holdfast promises about them."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.peers.cases import Case, record_id
from benchmarks.peers.systems import System
from benchmarks.peers.trial import Trial

BAD_RECORD = (Case.POISON, Case.NAN, Case.EMPTY)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One trial. `lost` counts records without a vector, the bad one left out; `changed` the vectors that
    differ in any bit from those of the undisturbed run; `again` the rows begun more than once, and `extra`
    the row computations begun beyond one each."""

    system: str
    case: Case
    point: int
    where: str
    num_rows: int
    ending: str
    exit_code: int | None
    saved: int
    not_finite: int
    doubled: int
    lost: int
    bad_stored: bool | None
    named: bool | None
    begun_before: int
    again: int
    extra: int
    in_flight_most: int
    """Rows of the two largest batches: what two workers can have in flight."""
    changed: int
    same_files: bool | None
    back_seconds: float | None
    seconds: float

    def broken(self) -> list[str]:
        """The promises that Holdfast did not keep here."""
        has_bad = self.case in BAD_RECORD
        promises = {
            "ended by itself": self.ending == "ended",
            f"exit code {3 if has_bad else 0}": self.exit_code == (3 if has_bad else 0),
            "every other record embedded": self.lost == 0 and not self.doubled and not self.not_finite,
            "the bad record named": self.named is not False,
            "the bad record not stored": not self.bad_stored,
            "no more than the batches in flight computed again": self.again <= self.in_flight_most,
            "the files byte for byte the same": self.same_files is not False,
        }
        where = f"{self.case}, {self.where}" if self.where else str(self.case)
        return [f"{where}: not {promise}" for promise, kept in promises.items() if not kept]


def judge(trial: Trial, calm: Path) -> Outcome:
    """Hold a trial against the directory of the undisturbed one (which may be its own)."""
    system, case = trial.system, trial.case
    bad = record_id(trial.point.ordinal) if case in BAD_RECORD else None
    rows = list(system.saved(trial.home))
    expected = dict(system.saved(calm))
    vectors = dict(rows)
    good = {name: vector for name, vector in vectors.items() if name != bad}
    num_good = len(trial.texts) - (bad is not None)
    begun = trial.log.begun
    batches = sorted(map(len, {frozenset(each.rows) for each in trial.log.passes}), reverse=True)
    return Outcome(
        system=system.key,
        case=case,
        point=trial.point.number,
        where=trial.point.says(case),
        num_rows=len(trial.texts),
        ending=_ending(trial),
        exit_code=trial.exit_code,
        saved=len(vectors),
        not_finite=sum(not np.isfinite(vector).all() for vector in vectors.values()),
        doubled=sum(count - 1 for count in Counter(name for name, _ in rows).values()),
        lost=num_good - len(good),
        bad_stored=None if bad is None else bad in vectors,
        named=None if bad is None else system.says(trial.home, bad),
        begun_before=trial.begun_before,
        again=sum(count > 1 for count in begun.values()),
        extra=sum(begun.values()) - len(begun),
        in_flight_most=sum(batches[:2]),
        changed=sum(
            name in expected and vector.tobytes() != expected[name].tobytes() for name, vector in good.items()
        ),
        same_files=_same_files(system, trial.home, calm) if case.is_kill else None,
        back_seconds=trial.back_after(),
        seconds=trial.seconds,
    )


def _ending(trial: Trial) -> str:
    if trial.exit_code is not None:
        return "ended"
    return "loops" if trial.goes_round() else "hangs"


def _same_files(system: System, home: Path, calm: Path) -> bool | None:
    """Of Holdfast the output as it lies on disk; the peers' files are compared by vector only."""
    if not system.is_ours:
        return None
    names = ("out.npy", "out.ids.txt")
    return all(
        (home / name).exists() and (home / name).read_bytes() == (calm / name).read_bytes() for name in names
    )
