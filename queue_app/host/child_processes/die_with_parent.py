"""Run a command that dies with the process that asked for it. Started as a script, not imported.

    python launch.py PARENT_PID COMMAND [ARG ...]

PR_SET_PDEATHSIG survives exec, so the command needs no code of ours. Setting it between fork and exec
in the parent (preexec_fn) could deadlock in a parent with threads; a process of its own cannot.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int, signum: int = signal.SIGKILL) -> None:
    """Have the kernel kill this process when its parent dies (Linux; elsewhere pid files must do).

    Exits at once when the parent is already gone: its death can't be signalled any more.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0)
    if os.getppid() != parent_pid:
        raise SystemExit(1)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
