"""A worker on another host: a process table, mounts and a host name of its own, beside those of the tests."""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.command_runs import environment

UNSHARE = ["unshare", "--user", "--map-root-user", "--mount", "--uts", "--pid", "--fork", "--kill-child"]


def can_be_hosts() -> bool:
    """True where a user may have namespaces of his own, and mount in them."""
    probe = [*UNSHARE, "--mount-proc", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return shutil.which("unshare") is not None and subprocess.run(probe, capture_output=True).returncode == 0


class OtherHost:
    """One that is bad until it is mended, from without and while its worker runs.

    `spoil` and `mend` are lines of shell that run on it, in `home`.
    """

    def __init__(self, home: Path, spoil: str, mend: str) -> None:
        self.home = home
        self.log = home / "bad.log"
        self._mended = home / "mended"
        worker = f"{sys.executable} -m queue_app.cli.main worker cpu1"
        wait = f"until [ -e {self._mended} ]; do sleep 0.1; done"
        self._script = f"hostname bad\n{spoil}\n({wait}; {mend}) &\n{worker}\n"

    @contextlib.contextmanager
    def worker(self, **env: str) -> Iterator[None]:
        """Its worker, `cpu1@bad`, which ends with everything that it started."""
        command = [*UNSHARE, "--mount-proc", "bash", "-ec", self._script]
        with self.log.open("w") as log:
            process = subprocess.Popen(
                command, cwd=self.home, env=environment(**env), stdout=log, stderr=subprocess.STDOUT
            )
            try:
                yield
            finally:
                process.kill()
                process.wait()

    def mend(self) -> None:
        self._mended.touch()
