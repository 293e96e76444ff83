"""What a user's processes remember of the fleets that they belong to, for the day when a server forgets.

    STATE/servers/<digest of an address>      the fleet of the server at that address
    STATE/fleets/<fleet>/<digest of a path>   a directory with a job of that fleet

Each is a symbolic link. A link is made in one step, so that any number of processes, on any number of hosts
that share a home, remember at the same time, and none of them ever reads half a name. Where nothing can be
written, a process still knows what it has seen itself.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import xxhash

from checkpoint.store_files import sync_directory
from queue_app.host.own_files import make_own_directory

log = logging.getLogger(__name__)

FLEETS_MOST = 100
"""The one that nobody joined for the longest goes first."""
DIRECTORIES_MOST = 1_000
"""Of one fleet: those that are gone go first, then the oldest."""


class FleetMemory:
    """The memory in one directory; `state` None keeps it in this process alone."""

    def __init__(self, state: Path | None) -> None:
        self._state = state
        self._fleets: dict[str, str] = {}
        self._directories: dict[str, set[Path]] = {}
        self._has_complained = False

    # ---- the fleet of a server

    def note_fleet(self, address: str, fleet: str) -> None:
        """The server at `address` is that of this fleet."""
        self._fleets[address] = fleet
        if self._state is not None:
            with self._complaining():
                home = _make_home(self._state, fleet)
                os.utime(home)
                servers = make_own_directory(self._state / "servers")
                _replace_link(_link(servers, address), fleet)

    def fleet_at(self, address: str) -> str | None:
        """The fleet whose server was at `address` when it was asked last."""
        if self._state is not None:
            with contextlib.suppress(OSError):  # nothing is remembered there
                return str(_link(self._state / "servers", address).readlink())
        return self._fleets.get(address)

    # ---- the directories of a fleet's jobs

    def note_directory(self, fleet: str, directory: Path) -> None:
        """A job of this fleet lies in `directory`, an absolute path. Only what is new is written."""
        self._directories.setdefault(fleet, set()).add(directory)
        if self._state is not None:
            with self._complaining():
                home = _make_home(self._state, fleet)
                _add_link(_link(home, str(directory)), str(directory))

    def directories(self, fleets: Iterable[str]) -> list[Path]:
        """Where jobs of these fleets lie, or lay."""
        found: set[Path] = set()
        for fleet in fleets:
            seen = self._directories.setdefault(fleet, set())
            seen.update(self._read(fleet))
            found |= seen
        return sorted(found)

    def forget_directory(self, directory: Path) -> None:
        """Nothing is left to be done there."""
        for fleet, seen in self._directories.items():
            seen.discard(directory)
            if self._state is not None:
                with self._complaining():
                    _link(self._state / "fleets" / fleet, str(directory)).unlink(missing_ok=True)

    def _read(self, fleet: str) -> Iterator[Path]:
        if self._state is not None:
            with contextlib.suppress(OSError):
                for link in (self._state / "fleets" / fleet).iterdir():
                    with contextlib.suppress(OSError):  # another process forgot it meanwhile
                        yield link.readlink()

    @contextlib.contextmanager
    def _complaining(self) -> Iterator[None]:
        """Say once that nothing can be written: no job needs the memory, only one of a lost server does."""
        try:
            yield
        except OSError as error:
            if not self._has_complained:
                self._has_complained = True
                log.warning("jobs are not remembered for the next start (%s): set HOLDFAST_STATE", error)


def _make_home(state: Path, fleet: str) -> Path:
    """The directory of a fleet's links. Raises OSError where it cannot be the user's own."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    fleets = make_own_directory(state / "fleets")
    home = fleets / fleet
    if not home.is_dir():
        for old in _but_newest(fleets.iterdir(), FLEETS_MOST - 1):
            shutil.rmtree(old, ignore_errors=True)
        make_own_directory(home)
        sync_directory(fleets)
    return home


def _add_link(link: Path, target: str) -> None:
    if link.is_symlink():
        return
    for old in _but_newest(link.parent.iterdir(), DIRECTORIES_MOST - 1):
        old.unlink(missing_ok=True)
    with contextlib.suppress(FileExistsError):
        link.symlink_to(target)
    sync_directory(link.parent)


def _replace_link(link: Path, target: str) -> None:
    if link.is_symlink() and str(link.readlink()) == target:
        return
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
    sync_directory(link.parent)


def _link(directory: Path, name: str) -> Path:
    return directory / xxhash.xxh3_128_hexdigest(name.encode())


def _but_newest(paths: Iterable[Path], most: int) -> list[Path]:
    """All but the newest `most` of those that are there; what leads nowhere counts as the oldest."""

    def newest_last(path: Path) -> tuple[bool, float]:
        with contextlib.suppress(OSError):
            return path.exists(), path.lstat().st_mtime
        return False, 0.0

    found = list(paths)
    return sorted(found, key=newest_last)[: max(0, len(found) - most)] if len(found) > most else []
