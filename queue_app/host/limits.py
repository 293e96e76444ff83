"""What the shell or a scheduler allows each process (`ulimit`), refused by name where no job can do with it.

Only the standard library is imported, as a process that may have too little memory must still say so.
"""

import contextlib
import errno
import os
import resource
from pathlib import Path

from queue_app.errors import HoldfastError

MIB = 1 << 20
ADDRESSES_LEAST = 768 * MIB
ADDRESSES_LEAST_WITH_TORCH = 1024 * MIB
"""Most of it is never touched: libraries are mapped whole, and the threads' stacks."""
FILE_LEAST = MIB // 4
"""What the logs and the server's data of the smallest job take."""

NO_THREAD = ("can't start new thread", "Failed to launch worker thread")
"""As Python and Arrow say it."""


class LimitTooLow(HoldfastError):
    """Raised when a limit of this process stands in the way of a job."""


def require_limits(model: str) -> None:
    """Refuse, before anything large is imported, limits that no job of this model can do with.

    Raises:
        LimitTooLow: names the limit, and what it must be at least.
    """
    addresses = ADDRESSES_LEAST if model.startswith("mock:") else ADDRESSES_LEAST_WITH_TORCH
    _require(resource.RLIMIT_AS, addresses, "ulimit -v", "of address space to a process")
    _require(resource.RLIMIT_FSIZE, FILE_LEAST, "ulimit -f", "to a file (the logs are files, too),")


def require_file_size(path: Path, num_bytes: int) -> None:
    """Raises LimitTooLow where a file as large as that may not be written."""
    limit = _limit(resource.RLIMIT_FSIZE)
    if limit is not None and num_bytes > limit:
        raise file_too_large(path)


def is_file_too_large(error: Exception) -> bool:
    """True where the limit was met while writing; libraries tell it in their own ways."""
    return getattr(error, "errno", None) == errno.EFBIG or os.strerror(errno.EFBIG) in str(error)


def file_too_large(path: Path) -> LimitTooLow:
    limit = _limit(resource.RLIMIT_FSIZE)
    most = f"{limit:,} bytes" if limit is not None else "what this file system can hold"
    return LimitTooLow(
        f"{path}: would be larger than a file may be here (ulimit -f: {most}); "
        "raise the limit (ulimit -f unlimited) and run the same command again"
    )


def out_of_memory() -> LimitTooLow:
    """What to say when this process was refused memory."""
    limit = _limit(resource.RLIMIT_AS)
    why = "" if limit is None else f" (ulimit -v allows {limit // MIB:,} MiB to a process)"
    return LimitTooLow(f"this process was refused memory{why}; what is committed stays")


def is_thread_refused(error: Exception) -> bool:
    """True where a thread could not be started; libraries tell it in their own ways."""
    return any(sign in str(error) for sign in NO_THREAD)


def thread_refused() -> LimitTooLow:
    """What to say when this process was refused a thread, which needs addresses for its stack."""
    limit = _limit(resource.RLIMIT_AS)
    why = "ulimit -u, or a limit of the scheduler's"
    if limit is not None:
        why = f"ulimit -v allows {limit // MIB:,} MiB to a process; raise it (ulimit -v unlimited)"
    return LimitTooLow(f"this process was refused a thread ({why}); what is committed stays")


def prefer_as_victim(score: int) -> None:
    """Have the kernel, where memory runs out, kill this process before those that can start it again.

    `score` is added, in thousandths of all memory, to what it holds (oom_score_adj, proc(5)).
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(score))


def _require(which: int, least: int, name: str, what: str) -> None:
    limit = _limit(which)
    if limit is not None and limit < least:
        raise LimitTooLow(
            f"{name} allows {limit // 1024:,} KiB {what} and a job needs {least // 1024:,} at least; "
            f"raise it ({name} unlimited)"
        )


def _limit(which: int) -> int | None:
    """In bytes; None where there is none."""
    soft, _ = resource.getrlimit(which)
    return None if soft == resource.RLIM_INFINITY else soft


def num_oom_kills() -> int:
    """How many processes of this host the kernel has killed for want of memory; 0 where it does not tell."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
