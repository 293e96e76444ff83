"""The way of an `embed` through the rooms: `python -m tests.support.way`.

A real run, whose every call in the command's main thread is watched: which rooms it enters, and which calls
run up, from a room to one that stands above it.
"""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from queue_app.cli.main import main
from tests.support import ROOT

PACKAGES = tuple(f"{ROOT}/{package}/" for package in ("checkpoint", "queue_app", "gpu_tasks"))
FLOORS = (
    "host", "model", "job", "coordination", "ingest", "outputs", "worker", "status", "api", "cli",
)  # fmt: skip
"""From the ground up. checkpoint, and the modules that stand in no room, lie below them."""

ROOM_OF = {"celery_app.py": "coordination"}
"""Its name is what `celery -A queue_app` finds; what it does is to sign and send."""


class Way:
    """Watches calls as a profile function."""

    def __init__(self) -> None:
        self.rooms: set[str] = set()
        self.climbs: set[str] = set()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or frame.f_code.co_name == "<module>" or (room := _room(frame)) is None:
            return
        self.rooms.add(room)
        caller = next((each for each in _callers(frame) if _room(each)), None)
        if caller is not None and _floor(room) > _floor(_room(caller)):
            self.climbs.add(f"{_named(caller)} -> {_named(frame)}")


def _room(frame: FrameType) -> str | None:
    """None outside of the packages."""
    path = frame.f_code.co_filename
    if not path.startswith(PACKAGES):
        return None
    package, *folders, name = Path(path).relative_to(ROOT).parts
    return folders[0] if folders else ROOM_OF.get(name, package)


def _floor(room: str | None) -> int:
    return FLOORS.index(room) if room in FLOORS else -1


def _callers(frame: FrameType) -> Iterator[FrameType]:
    while frame.f_back is not None:
        frame = frame.f_back
        yield frame


def _named(frame: FrameType) -> str:
    return f"{Path(frame.f_code.co_filename).relative_to(ROOT)}:{frame.f_code.co_name}"


def walk(home: Path) -> Way:
    """Embed two sequences in `home`, watched."""
    (home / "a.fasta").write_text(">a\nMKV\n>b\nMKVL\n")
    sys.argv = ["holdfast", "embed", str(home / "a.fasta"), "-m", "mock:8", "-o", str(home / "out.npy")]
    sys.argv += ["--device", "cpu", "--workers", "1", "--quiet"]
    way = Way()
    sys.setprofile(way)
    with contextlib.suppress(SystemExit):
        main()
    sys.setprofile(None)
    return way


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        found = walk(Path(folder))
    print(f"{len(found.rooms)} rooms: {', '.join(sorted(found.rooms))}")
    print(f"{len(found.climbs)} calls that run up", *sorted(found.climbs), sep="\n  ")
