"""Follow the system calls of a process and its threads with ptrace, through ctypes alone.

Neither strace nor a compiler is needed. PTRACE_GET_SYSCALL_INFO (Linux 5.3, ptrace(2)) answers number and
arguments in the same shape on every machine; only the numbers of the calls differ.
"""

import contextlib
import ctypes
import errno
import os
import platform
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Protocol

from tests.campaigns.power_loss.calls import Call

_X86_64 = {
    "write": 1, "open": 2, "mmap": 9, "pwrite64": 18, "writev": 20, "sendfile": 40, "fsync": 74,
    "fdatasync": 75, "truncate": 76, "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85,
    "link": 86, "unlink": 87, "symlink": 88, "openat": 257, "mkdirat": 258, "unlinkat": 263,
    "renameat": 264, "linkat": 265, "symlinkat": 266, "fallocate": 285, "pwritev": 296, "renameat2": 316,
    "copy_file_range": 326, "pwritev2": 328, "openat2": 437,
}  # fmt: skip
_GENERIC = {
    "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37, "renameat": 38, "truncate": 45,
    "ftruncate": 46, "fallocate": 47, "openat": 56, "write": 64, "writev": 66, "pwrite64": 68,
    "pwritev": 70, "sendfile": 71, "fsync": 82, "fdatasync": 83, "mmap": 222, "renameat2": 276,
    "copy_file_range": 285, "pwritev2": 287, "openat2": 437,
}  # fmt: skip
CALLS: Mapping[str, Mapping[str, int]] = {"x86_64": _X86_64, "aarch64": _GENERIC}
"""The calls that change files or make them durable (asm/unistd_64.h and asm-generic/unistd.h)."""

_TRACEME, _SETOPTIONS, _SYSCALL, _GET_SYSCALL_INFO = 0, 0x4200, 24, 0x420E
_TRACESYSGOOD, _FORK, _VFORK, _CLONE, _EXEC, _EXITKILL = 0x1, 0x2, 0x4, 0x8, 0x10, 0x100000
_OPTIONS = _TRACESYSGOOD | _FORK | _VFORK | _CLONE | _EXEC | _EXITKILL
_SYSCALL_STOP = signal.SIGTRAP | 0x80
_WAIT_ALL = 0x40000000  # __WALL: threads too
_ENTERED = 1


class NotTraceable(Exception):
    """Raised where this machine or its rules do not let a process be traced."""


class _SyscallInfo(ctypes.Structure):
    """struct ptrace_syscall_info: at entry `data` is number and six arguments, at exit the answer."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("arch", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64),
        ("stack_pointer", ctypes.c_uint64),
        ("data", ctypes.c_uint64 * 8),
    )


class Listener(Protocol):
    """Is told of the calls in CALLS. The traced thread stands still meanwhile."""

    def entered(self, call: Call) -> None: ...
    def left(self, call: Call, answer: int) -> None: ...


def why_not() -> str | None:
    """What keeps processes from being traced here; None when nothing does."""
    if platform.system() != "Linux" or platform.machine() not in CALLS:
        return f"no table of system calls for {platform.system()} on {platform.machine()}"
    try:
        trace([sys.executable, "-c", ""], os.environ, None)
    except NotTraceable as error:
        return str(error)
    return None


def trace(command: Sequence[str], environment: Mapping[str, str], listener: Listener | None) -> int:
    """Run a command to its end; answers its exit status.

    The caller must have no other children and no threads: all children are waited for.
    """
    child = os.fork()
    if child == 0:
        _become(command, environment)
    _, status = os.waitpid(child, _WAIT_ALL)
    if not os.WIFSTOPPED(status):
        raise NotTraceable("ptrace is not permitted here (container's seccomp profile, or yama)")
    _ptrace(_SETOPTIONS, child, 0, _OPTIONS)
    return _Follower(child, listener).follow()


def _become(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """In the child: have oneself traced, wait for the tracer, become the command."""
    try:
        _ptrace(_TRACEME, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        os.execve(command[0], list(command), dict(environment))
    finally:
        os._exit(127)


class _Follower:
    def __init__(self, child: int, listener: Listener | None) -> None:
        self.child = child
        self.listener = listener
        self.names = {number: name for name, number in CALLS[platform.machine()].items()}
        self.known = {child}
        self.calls: dict[int, Call] = {}

    def follow(self) -> int:
        exit_status = -1
        self._resume(self.child, 0)
        while True:
            try:
                pid, status = os.waitpid(-1, _WAIT_ALL)
            except ChildProcessError:
                return exit_status
            if os.WIFSTOPPED(status):
                self._resume(pid, self._stopped(pid, os.WSTOPSIG(status), status >> 16))
            elif pid == self.child:
                exit_status = os.waitstatus_to_exitcode(status)

    def _stopped(self, pid: int, number: int, event: int) -> int:
        """Answers which signal the process is to get: those that tracing itself causes are kept from it."""
        if number == _SYSCALL_STOP:
            self._at_syscall(pid)
            return 0
        if event or (number == signal.SIGSTOP and pid not in self.known):
            self.known.add(pid)
            return 0
        return number

    def _at_syscall(self, pid: int) -> None:
        info = _SyscallInfo()
        _ptrace(_GET_SYSCALL_INFO, pid, ctypes.sizeof(info), ctypes.addressof(info))
        if info.op == _ENTERED:
            name = self.names.get(info.data[0])
            if name is not None and self.listener is not None:
                self.calls[pid] = Call(pid, name, tuple(info.data[1:7]))
                self.listener.entered(self.calls[pid])
        elif (call := self.calls.pop(pid, None)) is not None and self.listener is not None:
            self.listener.left(call, ctypes.c_int64(info.data[0]).value)

    def _resume(self, pid: int, number: int) -> None:
        # One that was killed while it stood still is gone; its end comes with the next wait.
        with contextlib.suppress(ProcessLookupError):
            _ptrace(_SYSCALL, pid, 0, number)


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, pid: int, address: int, data: int) -> None:
    if _libc.ptrace(request, pid, address, data) >= 0:
        return
    code = ctypes.get_errno()
    if code == errno.ESRCH:
        raise ProcessLookupError(pid)
    raise NotTraceable(f"ptrace request {request:#x}: {os.strerror(code)}")
