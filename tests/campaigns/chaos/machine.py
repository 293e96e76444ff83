"""What a machine has one of and can spoil for all its processes: a small disk, and clocks."""

import errno
import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

NAMESPACE = "CHAOS_NAMESPACE"
"""Set where this process has a mount namespace of its own, so that a mount is nobody else's affair."""
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]
SMALL_DISK = "256m"
HOUR = 3600


def can_unshare() -> bool:
    """True where a user may have a mount namespace of his own, and mount in it."""
    probe = [*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return shutil.which("unshare") is not None and not subprocess.run(probe, capture_output=True).returncode


class SmallDisk:
    """A file system of its own that can be full: what is written to it then ends with a true ENOSPC."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_full = False
        self._ballast = path / "ballast"

    def mount(self) -> None:
        """It ends with the namespace, however this process ends."""
        self.path.mkdir(parents=True)
        tmpfs = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs"]
        subprocess.run([*tmpfs, str(self.path)], check=True)

    def fill(self) -> None:
        """Take every block that is free, now and each time it is called."""
        self.is_full = True
        with self._ballast.open("ab") as ballast:
            state = os.statvfs(self.path)
            while free := state.f_bavail * state.f_frsize:
                try:
                    os.posix_fallocate(ballast.fileno(), ballast.seek(0, os.SEEK_END), free)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                state = os.statvfs(self.path)  # somebody else may have been quicker

    def empty(self) -> None:
        self._ballast.unlink()
        self.is_full = False


class Clock:
    """The wall clock of all processes that run with `environment`; `move` moves it while they run.

    The monotonic clock and the times of files stay as they are, as when somebody sets a machine's clock.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.offset = 0
        self.move(0)

    def move(self, offset: int) -> None:
        """Set it so many seconds before or after the true time."""
        self.offset = offset
        new = self.file.with_suffix(".new")
        new.write_text(f"{offset:+d}\n")
        new.replace(self.file)

    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def can_move(self) -> bool:
        """Try it: the library may be missing, or be none for this machine."""
        if not _library().is_file():
            return False
        self.move(HOUR)
        command = [sys.executable, "-I", "-S", "-c", "import time; print(time.time())"]
        env = {**os.environ, **self.environment()}
        said = subprocess.run(command, env=env, capture_output=True, text=True).stdout
        self.move(0)
        return said != "" and abs(float(said) - time.time() - HOUR) < HOUR / 2


def _library() -> Path:
    """The shared object of the package libfaketime, which is only asked where it lies: never imported."""
    package = find_spec("libfaketime")
    home = Path(package.origin).parent if package and package.origin else Path("nowhere")
    return home / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
