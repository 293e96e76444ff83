"""What was being computed when a process died, in a note that outlives it; and what follows from it.

The note lies beside the shard's store and is replaced before every batch, by a rename without fsync: it
has to outlive a process, not a power loss. A batch in which processes die is suspected; its records are
then tried alone, and the one that ends the process again is accused. Kills come from outside too: so only a
record that did it twice is accused, and only when the parent of the process lived to see it, which a kill of
the whole worker does not allow. Each death that is proved to have come from outside, because all that was in
flight did no harm later, asks for one more death of the accused.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from checkpoint.process_identity import ProcessId, identify
from checkpoint.store_files import clear_when_full, write_as_directory

DEATHS_FROM_OUTSIDE_MOST = 4
"""More of them make no difference: a record that always kills has to be accused some day."""


@dataclass(frozen=True, slots=True)
class CrashLimits:
    """How many deaths of the process it takes until a batch is suspected, and a record accused."""

    probe_after: int = 2
    accuse_after: int = 2


@dataclass(slots=True)
class _Note:
    """Keys of the dicts are numbers as strings, as JSON has them."""

    in_flight: list[int] = field(default_factory=list)
    probed: int | None = None
    parent: tuple[int, int] | None = None
    error: str = ""
    batch_deaths: dict[str, int] = field(default_factory=dict)
    open_deaths: list[list[int]] = field(default_factory=list)
    """Of each death that nobody is accused of: the batches in flight that are still under suspicion."""
    outside_deaths: int = 0
    probe_deaths: dict[str, int] = field(default_factory=dict)
    cleared: list[int] = field(default_factory=list)
    accused: dict[str, str] = field(default_factory=dict)


_FIELDS = tuple(each.name for each in fields(_Note))


class CrashLog:
    """The note of one shard. `open` counts what the last process left in it."""

    def __init__(self, path: Path, note: _Note, limits: CrashLimits) -> None:
        self.path = path
        self.limits = limits
        self._note = note
        self._parent: ProcessId | None = None

    @classmethod
    def open(cls, path: Path, limits: CrashLimits = CrashLimits()) -> "CrashLog":
        """A note that cannot be read, as after a power loss, is as good as none."""
        try:
            note = _Note(**json.loads(path.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            note = _Note()
        log = cls(path, note, limits)
        log._take_stock()
        return log

    @property
    def suspects(self) -> tuple[int, ...]:
        """Batches in which a process died, and which nobody has finished since."""
        return tuple(sorted(int(index) for index in self._note.batch_deaths))

    @property
    def accused(self) -> Mapping[int, str]:
        """Records that are not to be computed again, and why."""
        return {int(ordinal): reason for ordinal, reason in self._note.accused.items()}

    def must_probe(self, batch_idx: int) -> bool:
        """True when so many died in the batch that its records are to be tried alone."""
        return self._note.batch_deaths.get(str(batch_idx), 0) >= self.limits.probe_after

    def is_settled(self, ordinal: int) -> bool:
        """True when the record was tried alone, and either passed or is accused."""
        return ordinal in self._note.cleared or str(ordinal) in self._note.accused

    # ---- noting

    def begin(self, batch_idx: int) -> None:
        """A batch is about to be computed."""
        self._note.in_flight.append(batch_idx)
        self._write()

    def landed(self, batch_idx: int) -> None:
        """Its vectors are there: whatever died in it before, it was not the batch."""
        if batch_idx in self._note.in_flight:
            self._note.in_flight.remove(batch_idx)
        if self._note.batch_deaths.pop(str(batch_idx), None) is not None:
            self._clear(batch_idx)
            self._write()

    def begin_probe(self, ordinal: int) -> None:
        """A record is about to be tried alone."""
        self._note.probed = ordinal
        self._write()

    def passed(self, ordinal: int) -> None:
        """The record did no harm."""
        self._note.probed = None
        self._note.cleared.append(ordinal)
        self._note.outside_deaths += self._note.probe_deaths.pop(str(ordinal), 0)
        self._write()

    def accuse(self, ordinal: int, reason: str) -> None:
        """It is not to be computed again; and the deaths in its batch are explained."""
        self._note.accused[str(ordinal)] = reason
        self._note.open_deaths.clear()
        self._write()

    def failed(self, error: Exception) -> None:
        """Computing raised: what is in flight stays noted, as if the process had died of it."""
        self._note.error = f"{type(error).__name__}: {error}"
        self._write()

    def rest(self) -> None:
        """Nothing is being computed any more; what ends now is nobody's fault."""
        self._note.in_flight.clear()
        self._note.probed = None
        self._write()

    # ---- counting

    def _take_stock(self) -> None:
        note = self._note
        for index in note.in_flight:
            note.batch_deaths[str(index)] = note.batch_deaths.get(str(index), 0) + 1
        if note.in_flight:
            note.open_deaths.append(list(note.in_flight))
        if note.probed is not None and self._was_seen():
            deaths = note.probe_deaths.get(str(note.probed), 0) + 1
            note.probe_deaths[str(note.probed)] = deaths
            if deaths >= self.limits.accuse_after + min(note.outside_deaths, DEATHS_FROM_OUTSIDE_MOST):
                what = f"failed ({note.error})" if note.error else "ended the process"
                self.accuse(note.probed, f"computing it alone {what}, {deaths} times")
        if note.in_flight or note.probed is not None:
            note.in_flight, note.probed, note.error = [], None, ""
            self._write()

    def _clear(self, batch_idx: int) -> None:
        """The batch did no harm; a death of which every batch is cleared came from outside."""
        suspected = [[each for each in death if each != batch_idx] for death in self._note.open_deaths]
        self._note.open_deaths = [death for death in suspected if death]
        self._note.outside_deaths += len(suspected) - len(self._note.open_deaths)

    def _was_seen(self) -> bool:
        """True when the parent of the process that died still lives."""
        return self._note.parent is not None and ProcessId(*self._note.parent).is_alive()

    def _write(self) -> None:
        """Raises DiskFull."""
        if self._parent is None or self._parent.pid != os.getppid():
            self._parent = identify(os.getppid())
        self._note.parent = None if self._parent is None else (self._parent.pid, self._parent.start_time)
        # Written before every batch: asdict would copy all lists.
        content = json.dumps({name: getattr(self._note, name) for name in _FIELDS})
        temporary = self.path.with_name(self.path.name + ".tmp")
        with clear_when_full(self.path):
            write_as_directory(temporary, content)
            temporary.replace(self.path)
