"""Where the directory of a job lies, found by the job's id: what a server says of it is a hint, and no more.

A place is accepted in HOLDFAST_ROOTS, or where this user's processes remember a job of the fleet. Only where
no roots are set it is also accepted elsewhere, if it is a job directory of this user and of the fleet. In any
case it holds a job.json of this very id, and nobody else could have put it there. It is answered by its real
path, so that no link is followed again when it is used.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from queue_app.errors import Damage, HoldfastError, JobNotFound
from queue_app.host.own_files import require_trusted_directory
from queue_app.job.directory import INCOMING, JobDir, refuse_control_characters

KNOWN_MOST = 1_000
LOOK_AGAIN_SECONDS = 3.0
"""Roots may hold many directories, which are not gone through for each question."""
JOB_JSON_BYTES = 64 << 20

Stamp = tuple[int, int, int]
"""Modification time, inode and size of a job.json: another one is looked at again."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a job.json said when it was read."""

    stamp: Stamp
    job_id: str


class JobPlaces:
    """Finds job directories for one process, and remembers where they were.

    `fleets` answers the ids of the server's fleet, and `remembered` where jobs of such fleets lie or lay.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        fleets: Callable[[], Collection[str]],
        remembered: Callable[[Collection[str]], Iterable[Path]],
    ) -> None:
        self._roots = roots
        self._fleets = fleets
        self._remembered = remembered
        self._known: dict[str, JobDir] = {}
        self._seen: dict[Path, _Seen] = {}
        self._found: dict[str, Path] = {}
        self._looked_at = float("-inf")

    def find(self, job_id: str, hint: str) -> JobDir:
        """The directory of this job; `hint` is where a server says that it lies.

        Raises:
            JobNotFound: no place that is accepted holds it; names the hint, and what to do.
            NotOurs: another user could have put there what the hint leads to.
            Damage: what it leads to holds no readable job.json.
        """
        known = self._known.get(job_id)
        if known is not None and self._holds(known.path, job_id):
            return known
        found = self._by_hint(job_id, hint) or self._by_looking(job_id)
        while len(self._known) >= KNOWN_MOST:
            del self._known[next(iter(self._known))]
        if found is None:
            raise JobNotFound(self._not_found(job_id, hint))
        self._known[job_id] = JobDir(found)
        return self._known[job_id]

    def find_or_none(self, job_id: str, hint: str) -> JobDir | None:
        """None where it is not seen from here, or is not to be believed."""
        with contextlib.suppress(HoldfastError):
            return self.find(job_id, hint)
        return None

    # ---- the hint

    def _by_hint(self, job_id: str, hint: str) -> Path | None:
        place = _real(hint)
        if place is None or not self._may_lie(place):
            return None
        require_trusted_directory(place)
        return place if self._id_in(place) == job_id else None

    def _may_lie(self, place: Path) -> bool:
        """Whether a job's directory may lie there, by the roots, the memory, or what it says itself."""
        if self._is_in_root(place):
            return True
        fleets = self._fleets()
        if any(_real(str(path)) == place for path in self._remembered(fleets)):
            return True
        return not self._roots and JobDir(place).fleet() in fleets

    def _is_in_root(self, place: Path) -> bool:
        return any(place.is_relative_to(root) for root in map(_real, map(str, self._roots)) if root)

    # ---- without it

    def _by_looking(self, job_id: str) -> Path | None:
        now = time.monotonic()
        if now - self._looked_at >= LOOK_AGAIN_SECONDS:
            self._looked_at, self._found = now, dict(self._look())
        place = self._found.get(job_id)
        if place is None or not self._holds(place, job_id):
            return None
        require_trusted_directory(place)
        return place

    def _look(self) -> Iterator[tuple[str, Path]]:
        """Every job that lies where one may lie; of two copies the first that is found counts."""
        for place in reversed([*self._places()]):
            with contextlib.suppress(HoldfastError):
                if (job_id := self._id_in(place)) is not None:
                    yield job_id, place

    def _places(self) -> Iterator[Path]:
        found = (_real(str(path)) for path in in_roots(self._roots))
        yield from (place for place in found if place and self._is_in_root(place))
        yield from filter(None, (_real(str(path)) for path in self._remembered(self._fleets())))

    # ---- what lies there

    def _holds(self, place: Path, job_id: str) -> bool:
        with contextlib.suppress(HoldfastError):
            return self._id_in(place) == job_id
        return False

    def _id_in(self, place: Path) -> str | None:
        """The id in a job.json; None where there is none. Raises Damage for what holds no id."""
        path = JobDir(place).job_json
        try:
            with path.open("rb") as file:  # opened, not only looked at: as JobDir.load
                found = os.fstat(file.fileno())
                stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
                seen = self._seen.get(place)
                if seen is None or seen.stamp != stamp:
                    seen = _Seen(stamp, json.loads(file.read(JOB_JSON_BYTES))["job_id"])
                    self._keep(place, seen)
        except OSError:
            return None
        except (ValueError, TypeError, KeyError, RecursionError):
            raise Damage(f"{path}: not a readable job") from None
        return seen.job_id

    def _keep(self, place: Path, seen: _Seen) -> None:
        self._seen.pop(place, None)
        while len(self._seen) >= KNOWN_MOST:
            del self._seen[next(iter(self._seen))]
        self._seen[place] = seen

    def _not_found(self, job_id: str, hint: str) -> str:
        place, seen = _real(hint), ""
        if place is not None and self._may_lie(place):
            other = self._id_in(place)
            seen = f"; what lies there belongs to job {other}" if other else ""
        elif place is not None:
            seen = f"; it lies in no place of this fleet's: HOLDFAST_ROOTS {self._where()}"
        return f"{hint}: this host does not see the job's directory{seen}"

    def _where(self) -> str:
        named = os.pathsep.join(map(str, self._roots))
        return f"is {named} here" if named else "names what job directories lie in"


def in_roots(roots: Iterable[Path]) -> Iterator[Path]:
    """Where job directories are looked for: the roots themselves, and what lies directly in them."""
    for root in roots:
        yield root
        with contextlib.suppress(OSError):
            yield from (path for path in sorted(root.iterdir()) if path.name != INCOMING)


def _real(path: str) -> Path | None:
    """The real path of an absolute one; None where nothing is there."""
    try:
        refuse_control_characters(path)
        return Path(path).resolve(strict=True) if Path(path).is_absolute() else None
    except (OSError, ValueError, RuntimeError, HoldfastError):
        return None
