"""Record what a process does to the files of one directory.

    python -m tests.campaigns.power_loss.recorder RECORDING DIRECTORY MARKS COMMAND...

What the process writes to the file MARKS, outside of DIRECTORY, is noted in order with the rest. Which file
a descriptor belongs to, its flags and its position are looked up in /proc when a call is entered, so that
nothing has to be remembered of what was opened before.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from tests.campaigns.power_loss.calls import Call
from tests.campaigns.power_loss.operations import (
    DIRECTORY,
    Mark,
    Naming,
    Operation,
    Recording,
    Resize,
    Sync,
    SyncDirectory,
    Write,
)
from tests.campaigns.power_loss.tracer import trace

MAP_SHARED, PROT_WRITE = 0x1, 0x2
LOCK_FILE = "lock.mdb"
"""LMDB writes it through a map, and makes it anew at the first opening after a crash."""

Finish = Callable[[int], None]
"""Notes what a call did, given its answer; called only when it succeeded."""


class BlindSpot(Exception):
    """Raised when a file is changed in a way that is not recorded: better no image than a wrong one."""


class Recorder:
    """What is in the directory at the start counts as durable."""

    def __init__(self, directory: Path, marks: Path) -> None:
        self.directory = directory.resolve()
        self.marks = str(marks.resolve())
        self.operations: list[Operation] = []
        self.names: dict[str, int] = {}
        self.contents: dict[int, bytes] = {}
        for path in sorted(self.directory.rglob("*")):
            name = str(path.relative_to(self.directory))
            self.names[name] = DIRECTORY if path.is_dir() else len(self.contents)
            if path.is_file():
                self.contents[self.names[name]] = path.read_bytes()
        self._initial = dict(self.names)
        self._num_files = len(self.contents)
        self._under_way: dict[int, Finish] = {}

    def recording(self) -> Recording:
        return Recording(self._initial, self.contents, tuple(self.operations))

    def entered(self, call: Call) -> None:
        finish = HANDLERS[call.name](self, call)
        if finish is not None:
            self._under_way[call.pid] = finish

    def left(self, call: Call, answer: int) -> None:
        finish = self._under_way.pop(call.pid, None)
        if finish is not None and answer >= 0:
            finish(answer)

    # ---- data

    def write(self, call: Call) -> Finish | None:
        return self._write_at(call, call.position(), vector=False)

    def pwrite(self, call: Call) -> Finish | None:
        return self._write_at(call, call.arguments[3], vector=False)

    def writev(self, call: Call) -> Finish | None:
        return self._write_at(call, call.position(), vector=True)

    def pwritev(self, call: Call) -> Finish | None:
        return self._write_at(call, call.arguments[3], vector=True)

    def _write_at(self, call: Call, offset: int, *, vector: bool) -> Finish | None:
        path = call.path()
        file = self._file(path)
        if path != self.marks and file is None:
            return None
        flags = call.flags()
        if file is not None and flags & os.O_APPEND:
            raise BlindSpot(f"{path} is appended to")

        def note(answer: int) -> None:
            data = call.gather(answer) if vector else call.buffer(answer)
            if file is None:
                self.operations.append(Mark(data.decode().strip()))
            else:
                self.operations.append(Write(file, offset, data, bool(flags & os.O_DSYNC)))

        return note

    def ftruncate(self, call: Call) -> Finish | None:
        file = self._file(call.path())
        if file is None:
            return None
        return lambda _: self.operations.append(Resize(file, call.arguments[1]))

    def fsync(self, call: Call) -> Finish | None:
        """It covers what had returned when it began."""
        name, began = self._inside(call.path()), len(self.operations)
        file = DIRECTORY if name == "." else self.names.get(name or "")
        if name is None or file is None:
            return None
        durable = SyncDirectory(name, began) if file == DIRECTORY else Sync(file, began)
        return lambda _: self.operations.append(durable)

    def unseen(self, call: Call) -> Finish | None:
        """Calls that change files in ways that are not modelled; no matter when they are about others."""
        paths = [call.path(index) for index in (0, 1, 2)]
        if touched := [path for path in paths if self._file(path) is not None]:
            raise BlindSpot(f"{call.name} on {touched[0]}")
        return None

    def unseen_name(self, call: Call) -> Finish | None:
        """The same for calls that take a path."""
        path = call.named(0) if call.name == "truncate" else call.named(1, beside=0)
        if self._inside(path) is not None:
            raise BlindSpot(f"{call.name} on {path}")
        return None

    def mmap(self, call: Call) -> Finish | None:
        protection, sharing, descriptor = call.arguments[2:5]
        if not (protection & PROT_WRITE and sharing & MAP_SHARED):
            return None
        path = call.path(4)
        if self._file(path) is not None and not path.endswith(LOCK_FILE):
            raise BlindSpot(f"{path} is written through a map, descriptor {descriptor}")
        return None

    # ---- names

    def creat(self, call: Call) -> Finish | None:
        return self._opened(call.named(0), os.O_CREAT | os.O_TRUNC)

    def open(self, call: Call) -> Finish | None:
        return self._opened(call.named(0), call.arguments[1])

    def openat(self, call: Call) -> Finish | None:
        return self._opened(call.named(1, beside=0), call.arguments[2])

    def _opened(self, path: str, flags: int) -> Finish | None:
        name = self._inside(path)
        if name is None or not flags & (os.O_CREAT | os.O_TRUNC):
            return None

        def note(_: int) -> None:
            if name not in self.names:
                self._name((name, self._num_files))
                self._num_files += 1
            elif flags & os.O_TRUNC:
                self.operations.append(Resize(self.names[name], 0))

        return note

    def mkdir(self, call: Call) -> Finish | None:
        return self._set_name(call.named(0), DIRECTORY)

    def mkdirat(self, call: Call) -> Finish | None:
        return self._set_name(call.named(1, beside=0), DIRECTORY)

    def unlink(self, call: Call) -> Finish | None:
        return self._set_name(call.named(0), None)

    def unlinkat(self, call: Call) -> Finish | None:
        return self._set_name(call.named(1, beside=0), None)

    def _set_name(self, path: str, file: int | None) -> Finish | None:
        name = self._inside(path)
        return None if name is None else lambda _: self._name((name, file))

    def rename(self, call: Call) -> Finish | None:
        return self._move(call.named(0), call.named(1))

    def renameat(self, call: Call) -> Finish | None:
        return self._move(call.named(1, beside=0), call.named(3, beside=2))

    def _move(self, old: str, new: str) -> Finish | None:
        source, target = self._inside(old), self._inside(new)
        if source is None and target is None:
            return None
        file = self.names.get(source or "")
        if source is None or target is None or file in (None, DIRECTORY):
            raise BlindSpot(f"{old} is renamed to {new}")
        return lambda _: self._name((target, file), (source, None))

    def link(self, call: Call) -> Finish | None:
        return self._second_name(call.named(0), call.named(1))

    def linkat(self, call: Call) -> Finish | None:
        return self._second_name(call.named(1, beside=0), call.named(3, beside=2))

    def _second_name(self, old: str, new: str) -> Finish | None:
        source, target = self._inside(old), self._inside(new)
        if target is None:
            return None
        file = self.names.get(source or "")
        if source is None or file in (None, DIRECTORY):
            raise BlindSpot(f"{old} is linked to {new}")
        return lambda _: self._name((target, file))

    def symlink(self, call: Call) -> Finish | None:
        return self._unseen_link(call.named(1), call.name)

    def symlinkat(self, call: Call) -> Finish | None:
        return self._unseen_link(call.named(2, beside=1), call.name)

    def _unseen_link(self, path: str, name: str) -> Finish | None:
        if self._inside(path) is not None:
            raise BlindSpot(f"{name} makes {path}")
        return None

    def _name(self, *names: tuple[str, int | None]) -> None:
        for path, file in names:
            if file is None:
                self.names.pop(path, None)
            else:
                self.names[path] = file
        self.operations.append(Naming(names))

    # ---- looking up

    def _inside(self, path: str) -> str | None:
        """The path relative to the recorded directory; None when it lies elsewhere."""
        relative = os.path.relpath(path, self.directory) if path.startswith("/") else ".."
        return None if relative.startswith("..") else relative

    def _file(self, path: str) -> int | None:
        return self.names.get(self._inside(path) or "")


HANDLERS: dict[str, Callable[[Recorder, Call], Finish | None]] = {
    "write": Recorder.write, "pwrite64": Recorder.pwrite,
    "writev": Recorder.writev, "pwritev": Recorder.pwritev,
    "ftruncate": Recorder.ftruncate, "fsync": Recorder.fsync, "fdatasync": Recorder.fsync,
    "mmap": Recorder.mmap,
    "creat": Recorder.creat, "open": Recorder.open, "openat": Recorder.openat,
    "mkdir": Recorder.mkdir, "mkdirat": Recorder.mkdirat,
    "unlink": Recorder.unlink, "rmdir": Recorder.unlink, "unlinkat": Recorder.unlinkat,
    "rename": Recorder.rename, "renameat": Recorder.renameat, "renameat2": Recorder.renameat,
    "link": Recorder.link, "symlink": Recorder.symlink,
    "linkat": Recorder.linkat, "symlinkat": Recorder.symlinkat,
    "pwritev2": Recorder.unseen, "fallocate": Recorder.unseen,
    "sendfile": Recorder.unseen, "copy_file_range": Recorder.unseen,
    "truncate": Recorder.unseen_name, "openat2": Recorder.unseen_name,
}  # fmt: skip


def main(target: str, directory: str, marks: str, *command: str) -> int:
    recorder = Recorder(Path(directory), Path(marks))
    exit_status = trace(command, os.environ, recorder)
    recorder.recording().save(Path(target))
    return exit_status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
