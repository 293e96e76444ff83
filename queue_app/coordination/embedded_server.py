"""The embedded server: a Valkey or Redis of its own on a loopback port, with its data in the job directory.

Its password stands in server.json (mode 600) and goes to the server on standard input: an argument
would show in every process list. All else goes as arguments, and its directory is where it is started: no
path is ever text that the server parses.
"""

import json
import re
import secrets
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import redis

from queue_app.coordination.redis_client import TRANSIENT, connect
from queue_app.coordination.trust.key_file import write_key_file
from queue_app.coordination.trust.signing import use_embedded_key
from queue_app.errors import BrokerUnreachable
from queue_app.host.durable_files import write_durably
from queue_app.host.own_files import directory_mode, make_inner_directory
from queue_app.host.processes import ProcessFile, spawn, stop
from queue_app.host.server_program import ServerProgram, find_server_program
from queue_app.host.surroundings import child_environment
from queue_app.job.directory import JobDir

START_SECONDS = 20.0
PORT_TRIES = 5
LOOPBACK = "127.0.0.1"
LOOPBACK_SECONDS = 5.0
PASSWORD = re.compile("[A-Za-z0-9_-]{16,128}")
"""What `secrets.token_urlsafe` makes, and nothing that could end a line of a configuration."""
PORT_MOST = 65535
VALUE_BYTES_MOST = 16 << 20
"""Of a value that a client writes or adds to: whoever reads one gets all of it, before anybody can judge how
long it is. The longest of ours, the canary's vectors of 49 layers of 5120 numbers, has 7 MB."""


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """What server.json holds."""

    port: int
    password: str

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    def write(self, path: Path) -> None:
        write_durably(path, json.dumps({"port": self.port, "password": self.password}).encode(), mode=0o600)

    @classmethod
    def read(cls, path: Path) -> "ServerAddress | None":
        """None when there is no server.json, or it holds anything but what `write` would have written."""
        try:
            told = json.loads(path.read_text())
            address = cls(told["port"], told["password"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        return address if address._is_one() else None

    def _is_one(self) -> bool:
        is_port = type(self.port) is int and 1 <= self.port <= PORT_MOST
        return is_port and isinstance(self.password, str) and bool(PASSWORD.fullmatch(self.password))


def key_file_of(job_dir: JobDir) -> Path:
    """Its own key, which nobody needs to know who may write to the server: what goes by it is signed."""
    return job_dir.path / "server" / "key"


def embedded_address(job_dir: JobDir) -> ServerAddress | None:
    """Where the job's own server is, where it has one; what goes by it is signed with its key from now on."""
    address = ServerAddress.read(job_dir.server_json)
    if address is not None:
        use_embedded_key(address.password, key_file_of(job_dir))
    return address


class EmbeddedServer:
    """Starts and stops the server of one job directory; a restart finds the same data."""

    def __init__(self, job_dir: JobDir, processes: ProcessFile) -> None:
        self.job_dir = job_dir
        self.processes = processes
        self.data = job_dir.path / "server"
        self.process: subprocess.Popen[bytes] | None = None
        self.address: ServerAddress | None = None

    def start(self) -> ServerAddress:
        """Start it and wait until it answers.

        The address of an earlier run is kept where its port is still free, so that whoever knew it
        finds the server again.

        Raises:
            BrokerUnreachable: it did not come up; the message ends with the last line of its log. Or this
                host has no server to start, or cannot be reached by itself.
        """
        _require_loopback()
        make_inner_directory(self.data)
        if not write_key_file(key_file_of(self.job_dir)):
            key_file_of(self.job_dir).chmod(0o600)  # of a directory that was copied
        known = ServerAddress.read(self.job_dir.server_json)
        password = known.password if known else secrets.token_urlsafe(24)
        ports = ([known.port] if known else []) + [_free_port() for _ in range(PORT_TRIES)]
        for port in ports:
            address = ServerAddress(port, password)
            address.write(self.job_dir.server_json)
            use_embedded_key(password, key_file_of(self.job_dir))
            if self._come_up(address):
                self.address = address
                return address
        raise BrokerUnreachable(f"the embedded server does not start: {self._last_log_line()}")

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """SIGTERM lets it write its data out."""
        if self.process is not None:
            stop(self.process, grace_seconds=10)
            self.process = None

    def _come_up(self, address: ServerAddress) -> bool:
        program = find_server_program()
        self._forget_data_of_others(program)
        self.process = spawn(
            [program.path, "-", *_arguments(address, program)],
            log=self.log,
            env=child_environment(),
            stdin=f"requirepass {address.password}\n".encode(),
            cwd=self.data,
            umask=0o777 & ~directory_mode(),
        )
        self.processes.record("server", self.process.pid)
        deadline = time.monotonic() + START_SECONDS
        with connect(address.url) as client:
            while self.process.poll() is None and time.monotonic() < deadline:
                try:
                    # Somebody else's server on this port would refuse the password.
                    return bool(client.ping())
                except TRANSIENT:
                    time.sleep(0.02)
                except redis.RedisError:
                    break
        self.stop()
        return False

    def _forget_data_of_others(self, program: ServerProgram) -> None:
        """What another program knew of this job is old by now, and this one may not be able to read it."""
        for data in self.data.glob("appendonlydir*"):
            if data.name != program.data:
                shutil.rmtree(data)

    @property
    def log(self) -> Path:
        return self.data / "valkey.log"

    def _last_log_line(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return lines[-1] if lines else "it wrote no log"


def _arguments(address: ServerAddress, program: ServerProgram) -> tuple[str, ...]:
    """A commit that was acknowledged survives a kill; keys are never evicted."""
    settings = {
        "bind": LOOPBACK,
        "port": str(address.port),
        "dir": ".",
        "appendonly": "yes",
        "appenddirname": program.data,
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "proto-max-bulk-len": str(VALUE_BYTES_MOST),
        "daemonize": "no",
    }
    return tuple(word for name, value in settings.items() for word in (f"--{name}", value))


def _require_loopback() -> None:
    """Raises BrokerUnreachable where a server on this host would wait in vain for its clients."""
    try:
        with socket.create_server((LOOPBACK, 0)) as listening:
            socket.create_connection(listening.getsockname(), LOOPBACK_SECONDS).close()
    except OSError as error:
        raise BrokerUnreachable(
            f"{LOOPBACK} cannot be reached ({error.strerror or error}), "
            "and the embedded server listens there; bring the loopback interface up (ip link set lo up), "
            "or name a server of your own by --broker-url"
        ) from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
