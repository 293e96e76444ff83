"""Processes that a job starts on this machine: they die with it, and left-overs are found again.

`processes.json` in the job directory names each by pid and start time, so that a reused pid is never
mistaken for one of ours.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from checkpoint.process_identity import ProcessId, identify
from queue_app.host.child_processes import die_with_parent
from queue_app.host.durable_files import write_durably
from queue_app.host.own_files import open_own, opener

PROC = Path("/proc")
PYTHON = (sys.executable, "-P")
"""Runs a module of ours: never one that lies in the user's working directory under the same name."""


def dying_with_us(command: Sequence[str]) -> list[str]:
    """The command that runs `command` so that it dies with this process."""
    return [sys.executable, "-I", "-S", die_with_parent.__file__, str(os.getpid()), *command]


def spawn(
    command: Sequence[str],
    *,
    log: Path | None,
    env: Mapping[str, str],
    stdin: bytes | None = None,
    cwd: Path | None = None,
    umask: int = -1,
) -> subprocess.Popen[bytes]:
    """Start `command` so that it dies with this process.

    Its output is appended to `log`, or goes where ours does; it works in `cwd`, or where we do, and makes
    files by `umask`, or by ours. It gets a session of its own: Ctrl-C at the terminal is for us, who then end
    it in order.
    """
    with open(log, "ab", opener=opener) if log else contextlib.nullcontext() as output:
        process = subprocess.Popen(
            dying_with_us(command),
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT if log else None,
            env=dict(env),
            cwd=cwd,
            umask=umask,
            start_new_session=True,
        )
    if stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            _feed(process, stdin)
    return process


def _feed(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.close()


def stop(process: subprocess.Popen[bytes], *, grace_seconds: float) -> None:
    """SIGTERM, wait, then SIGKILL the whole session."""
    if process.poll() is None:
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(grace_seconds)
    kill_session(process.pid)
    process.wait()


def kill_session(pid: int) -> None:
    """SIGKILL the process group that `spawn` made for `pid`."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def how_it_ended(exit_code: int | None) -> str:
    """`was killed by signal 9 (SIGKILL), probably out of memory`; a negative code is a signal's."""
    if exit_code is None or exit_code >= 0:
        return f"ended with exit status {exit_code}"
    return f"was {killed_by(-exit_code)}"


def killed_by(signum: int) -> str:
    """`killed by signal 9 (SIGKILL), probably out of memory`."""
    try:
        name = f"signal {signum} ({signal.Signals(signum).name})"
    except ValueError:
        name = f"signal {signum}"
    # The kernel's killer uses this one; it tells nobody else why.
    return f"killed by {name}" + (", probably out of memory" if signum == signal.SIGKILL else "")


class ProcessFile:
    """The list of a job's processes on this host, kept where the next run finds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, ProcessId] = {}

    def record(self, name: str, pid: int) -> None:
        """Note a process under its name (`server`, `gpu0`); a restarted one replaces the old."""
        identity = identify(pid)
        if identity is not None:
            self._known[name] = identity
            entries = {name: asdict(process) for name, process in self._known.items()}
            write_durably(self.path, json.dumps(entries).encode())

    def end_leftovers(self, *, timeout_seconds: float = 10.0) -> list[str]:
        """Kill what an earlier run left behind; answers their names.

        Only what `spawn` has started: a process of this user's that leads its session, by pid and start time.
        """
        left = {name: process for name, process in self._read().items() if _is_spawned(process)}
        for process in left.values():
            kill_session(process.pid)
        deadline = time.monotonic() + timeout_seconds
        while any(map(_is_spawned, left.values())):
            if time.monotonic() > deadline:
                raise TimeoutError(f"processes of an earlier run do not end: {left}")
            time.sleep(0.02)
        return sorted(left)

    def _read(self) -> dict[str, ProcessId]:
        """Empty where there is none, or none that is this user's alone."""
        try:
            with open(open_own(self.path, os.O_RDONLY), encoding="utf-8") as file:  # noqa: PTH123
                entries = json.load(file)
            return {name: _identity(**entry) for name, entry in entries.items()}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return {}


def _identity(pid: int, start_time: int) -> ProcessId:
    """Raises TypeError for what `record` has not written; 0 and below would mean groups of processes."""
    if type(pid) is not int or type(start_time) is not int or pid <= 1:
        raise TypeError(pid)
    return ProcessId(pid, start_time)


def _is_spawned(process: ProcessId) -> bool:
    """True while a process lives that `spawn` has started for this user."""
    with contextlib.suppress(OSError):
        is_leader = os.getsid(process.pid) == process.pid == os.getpgid(process.pid)
        is_own = not PROC.is_dir() or (PROC / str(process.pid)).stat().st_uid == os.geteuid()
        return is_leader and is_own and identify(process.pid) == process
    return False
