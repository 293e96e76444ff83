"""What is said of one image."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.campaigns.power_loss.operations import Recording


@dataclass(frozen=True, slots=True)
class Verdict:
    """`checked`: acknowledged batches that had to be there. `broken` is any other promise that failed."""

    checked: int
    lost: tuple[int, ...] = ()
    damaged: tuple[int, ...] = ()
    broken: str = ""

    @property
    def good(self) -> bool:
        return not (self.lost or self.damaged or self.broken)


class Judge(Protocol):
    """Looks at one image of a recording, in a process that the image may kill."""

    def __init__(self, recording: Recording, subject: str) -> None: ...
    def judge(self, home: Path, moment: int) -> Verdict: ...
