"""What can befall one of several hosts, or the server that they share. What can heal does, in time.

Each fault does one bad thing to the arena, and answers whom it hit, or None when there was nothing to hit.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tests.campaigns.fleet.fleet import Fleet
from tests.campaigns.fleet.host import Host, children

HEAL_SECONDS = (0.5, 9.0)
"""A cut, or a bad disk, lasts so long: from a moment to well past a lease of 3 s."""


class Arena(Protocol):
    """What the faults need of a chaos run."""

    fleet: Fleet

    def pick_host(self) -> Host | None:
        """One that is on and whole; None where there is none just now."""

    def later(self, host: Host | None, action: Callable[[], None], seconds: tuple[float, float]) -> None:
        """Call `action` after so many seconds, unless the host is gone by then; it is not picked before."""

    def replace(self, host: Host) -> None:
        """Have a fresh host take the name of one that is gone for good."""


@dataclass(frozen=True, slots=True)
class HostFault:
    """`weight` is how often it comes in one round of the bag that faults are drawn from."""

    name: str
    strike: Callable[[Arena], str | None]
    weight: int = 1


def on_a_host(strike: Callable[[Arena, Host], bool]) -> Callable[[Arena], str | None]:
    """A fault of whichever host is picked; it answers whether there was something to hit."""

    def on_one(arena: Arena) -> str | None:
        host = arena.pick_host()
        return host.name if host is not None and strike(arena, host) else None

    return on_one


def cut(arena: Arena, host: Host) -> bool:
    host.cut()
    arena.later(host, host.heal, HEAL_SECONDS)
    return True


def gone_for_good(arena: Arena, host: Host) -> bool:
    host.power_off()
    arena.replace(host)
    return True


def fill_scratch(arena: Arena, host: Host) -> bool:
    disk = host.disk()
    disk.fill()
    arena.later(host, disk.empty, HEAL_SECONDS)
    return True


def hide_shared(arena: Arena, host: Host) -> bool:
    host.hide_shared()
    arena.later(host, host.show_shared, HEAL_SECONDS)
    return True


def kill_child(arena: Arena, host: Host) -> bool:
    return _kill([child for parent in host.worker_pids() for child in children(parent)])


def kill_parent(arena: Arena, host: Host) -> bool:
    return _kill(host.worker_pids())


def kill_all(arena: Arena, host: Host) -> bool:
    """What starts them again comes later, as after a fault of the service manager."""
    host.kill_workers()
    arena.later(host, host.start_workers, (0.0, 2.0))
    return True


def terminate(arena: Arena, host: Host) -> bool:
    """SIGTERM to a worker's parent: it drains, and is started again."""
    return _kill(host.worker_pids()[:1], signal.SIGTERM)


def _kill(pids: list[int], signal_number: signal.Signals = signal.SIGKILL) -> bool:
    """One of them."""
    for pid in pids:
        try:
            os.kill(pid, signal_number)
        except ProcessLookupError:
            continue
        return True
    return False


def flush(arena: Arena) -> str | None:
    arena.fleet.server.flush()
    return "server"


def cut_all(arena: Arena) -> str | None:
    """The server's own cable: nobody reaches it."""
    hosts = [host for host in arena.fleet.hosts.values() if host.is_on()]
    for host in hosts:
        host.cut()
        arena.later(host, host.heal, HEAL_SECONDS)
    return "all" if hosts else None


HOST_FAULTS = (
    HostFault("cut off, then healed", on_a_host(cut), 6),
    HostFault("gone for good, a fresh one takes its name", on_a_host(gone_for_good), 3),
    HostFault("scratch full for a while", on_a_host(fill_scratch), 3),
    HostFault("shared mount gone for a while", on_a_host(hide_shared), 2),
    HostFault("SIGKILL of a worker's child", on_a_host(kill_child), 4),
    HostFault("SIGKILL of a worker", on_a_host(kill_parent), 3),
    HostFault("SIGKILL of all workers of a host", on_a_host(kill_all), 2),
    HostFault("SIGTERM of a worker", on_a_host(terminate)),
    HostFault("emptied Redis", flush, 2),
    HostFault("all hosts cut off, then healed", cut_all),
)
