"""The right to pretend hosts, and the network that they share.

The whole campaign runs in namespaces of its own, and its first process is their first: when that is gone,
however it ended, the kernel ends every process in them and takes the networks and mounts away.
"""

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

NAMESPACE = "FLEET_NAMESPACE"
"""Set where this process has the namespaces of its own."""
OF_A_HOST = ["unshare", "--net", "--uts", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
OF_THE_RUN = [*OF_A_HOST, "--user", "--map-root-user"]
UNDER_A_SHELL = ["sh", "-c", '"$@"; exit $?', "sh"]
"""As the first process it buries orphans: a process table does not end before all of its dead are buried."""
PROBE = (
    "ip link add bridge type bridge && mount -t tmpfs tmpfs /mnt && "
    f"{' '.join(OF_A_HOST)} sh -c 'ip link add veth0 type veth peer name veth1 && hostname probe && "
    "mount --bind /dev/null /proc/sys/kernel/random/boot_id'"
)
BRIDGE = "bridge"
OWN_MAC = "02:00:00:00:00:01"
"""Without one of its own a bridge takes that of a cable, and all others lose it when that one goes."""
PREFIX = 16
HOSTS_A_NET = 250


def why_no_hosts() -> str | None:
    """What this machine lacks for hosts of its own, in words; None where they can be had."""
    for tool in ("unshare", "nsenter", "ip", "mount"):
        if shutil.which(tool) is None:
            return f"no {tool} here"
    probe = subprocess.run([*OF_THE_RUN, "sh", "-c", PROBE], capture_output=True, text=True)
    return f"no right to namespaces here: {probe.stderr.strip()}" if probe.returncode else None


def enter_namespaces() -> None:
    """Start this command again in namespaces of its own; returns where it is in them already."""
    if NAMESPACE in os.environ:
        return
    if reason := why_no_hosts():
        raise SystemExit(reason)
    os.environ[NAMESPACE] = "1"
    command = [*OF_THE_RUN, *UNDER_A_SHELL, sys.executable, *sys.orig_argv[1:]]
    os.execvp(command[0], command)


@dataclass(slots=True)
class Network:
    """A bridge that servers have addresses of, and that the cable of each host leads to."""

    _servers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _cables: Iterator[int] = field(default_factory=itertools.count)

    def start(self) -> None:
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", BRIDGE, "address", OWN_MAC, "type", "bridge")
        run("ip", "link", "set", BRIDGE, "up")

    def server_address(self) -> str:
        """A new address of this side, which all hosts reach."""
        address = f"10.77.0.{next(self._servers)}"
        run("ip", "address", "add", f"{address}/{PREFIX}", "dev", BRIDGE)
        return address

    def plug(self, pid: int) -> str:
        """Lay a cable to the network namespace of a process; answers the name of our end of it."""
        number = next(self._cables)
        cable, address = f"host{number}", f"10.77.{1 + number // HOSTS_A_NET}.{1 + number % HOSTS_A_NET}"
        run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        run("ip", "link", "set", cable, "master", BRIDGE, "up")
        inside = ["nsenter", "--target", str(pid), "--net", "ip"]
        run(*inside, "address", "add", f"{address}/{PREFIX}", "dev", "eth0")
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "link", "set", "eth0", "up")
        return cable

    def set_cable(self, cable: str, state: str) -> None:
        """`down` is a pulled cable: nobody is told, and what is sent is lost."""
        run("ip", "link", "set", cable, state)


def run(*command: str | os.PathLike[str]) -> None:
    """Run a command that must succeed; what it says is part of the error."""
    ended = subprocess.run(_texts(command), capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(_texts(command))}: {ended.stderr.strip()}")


def _texts(command: Sequence[str | os.PathLike[str]]) -> list[str]:
    return [os.fspath(word) for word in command]
