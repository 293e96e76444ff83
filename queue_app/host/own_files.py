"""Files and directories of this user alone, or of a group that he trusts (HOLDFAST_SHARED_GROUP).

What is made here is closed to all others, whatever the umask; and what is opened here was made by nobody
else: no link is followed, and nothing is truncated before that is known.
"""

import errno
import os
import stat
from pathlib import Path

from queue_app.errors import UsageError
from queue_app.settings import runtime_config

OTHERS = "HOLDFAST_SHARED_GROUP names a group that may share job directories"


class NotOurs(UsageError, PermissionError):
    """Raised when somebody else owns a file or a directory, or could write into it; says what to do."""


def directory_mode() -> int:
    """Of what is made in a job directory. Set-group-id: what is made in it has the shared group as well."""
    return 0o700 if runtime_config().shared_group is None else 0o2770


def file_mode() -> int:
    """Likewise of files."""
    return 0o600 if runtime_config().shared_group is None else 0o660


def is_trusted(found: os.stat_result) -> bool:
    """True for what is this user's or the shared group's, and nobody else can write to."""
    if found.st_mode & stat.S_IWOTH:
        return False
    if found.st_gid == runtime_config().shared_group:
        return True
    return found.st_uid == os.geteuid() and not found.st_mode & stat.S_IWGRP


# ---- directories


def make_own_directory(path: Path) -> Path:
    """Make a directory for this user alone, and those above it. Raises as `require_own_directory`."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    require_own_directory(path)
    return path


def require_own_directory(path: Path) -> None:
    """Raises OSError where it is not there, or NotOurs where another user could write into it."""
    found = path.lstat()
    foreign = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or foreign:
        raise NotOurs(f"{path}: not a directory of this user alone")


def make_inner_directory(path: Path) -> Path:
    """Make a directory inside a job directory, and those above it, with the job directory's mode."""
    if not path.is_dir():
        if not path.parent.is_dir():
            make_inner_directory(path.parent)
        path.mkdir(mode=directory_mode(), exist_ok=True)
        share(path)
    return path


def share(path: Path) -> None:
    """Give a new directory to the shared group, where there is one. Raises UsageError where we may not."""
    if (group := runtime_config().shared_group) is not None:
        try:
            os.chown(path, -1, group)
            path.chmod(directory_mode())
        except PermissionError:
            raise NotOurs(
                f"{path}: cannot be given to the group {group} that HOLDFAST_SHARED_GROUP names: is this "
                "user in it?"
            ) from None


def require_trusted_directory(path: Path) -> None:
    """Make sure that nobody but us could have put into a directory what lies in it: neither the directory
    nor what lies directly in it is a link, or another's. A link of ours to the directory itself is one.

    Raises:
        NotOurs: names what is not, and says what to do.
        OSError: it is not there.
    """
    if path.is_symlink():
        require_own_link(path)
        path = path.resolve(strict=True)
    _require(stat.S_ISDIR(path.lstat().st_mode), path, "no directory")
    _require(is_trusted(path.lstat()), path, _whose(path.lstat()))
    with os.scandir(path) as entries:
        for entry in entries:
            inside = Path(entry.path)
            _require(not entry.is_symlink(), inside, "a link, which no job directory of ours has")
            if entry.is_dir(follow_symlinks=False):
                _require(is_trusted(inside.lstat()), inside, _whose(inside.lstat()))


def require_own_link(path: Path) -> None:
    """Raises NotOurs for a symbolic link that leads where another user wants us to go."""
    found = path.lstat()
    is_own = found.st_uid in (os.geteuid(), 0) or found.st_gid == runtime_config().shared_group
    _require(is_own, path, "a link that another user has made")


def _require(is_so: bool, path: Path, what: str) -> None:
    if not is_so:
        raise NotOurs(f"{path}: {what}; choose another place (-o or --job-dir). {OTHERS}")


def _whose(found: os.stat_result) -> str:
    if found.st_uid != os.geteuid():
        return f"of another user (uid {found.st_uid})"
    return "others can write into it, chmod go-w changes that"


# ---- files


def open_own(path: Path | str, flags: int, mode: int | None = None) -> int:
    """open(2) of a regular file of ours that has no other name. One that is made here is for us alone, or
    has the `mode` that is named, less the umask.

    Raises:
        NotOurs: a link stands there, another's file, or one with several names; it stays as it is.
    """
    wanted = flags & ~os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, wanted, file_mode() if mode is None else mode)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        raise NotOurs(f"{path}: a link or a pipe, where a file of ours is to be; remove it") from None
    try:
        if not flags & os.O_EXCL:
            _require_own_file(os.fstat(descriptor), path)
        if mode is None and flags & os.O_CREAT:
            _share_file(descriptor)
        if flags & os.O_TRUNC:
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_own_file(found: os.stat_result, path: Path | str) -> None:
    if not stat.S_ISREG(found.st_mode) or not is_trusted(found) or found.st_nlink > 1:
        raise NotOurs(f"{path}: no file of this user alone; remove it")


def _share_file(descriptor: int) -> None:
    """The umask of most users takes the right to write from a group."""
    group = runtime_config().shared_group
    if group is not None and os.fstat(descriptor).st_uid == os.geteuid():
        os.fchown(descriptor, -1, group)
        os.fchmod(descriptor, file_mode())


def opener(path: str, flags: int) -> int:
    """`open_own` for `open`."""
    return open_own(path, flags)


def write_own(path: Path, text: str) -> None:
    """What `Path.write_text` does, for a file that `open_own` would open."""
    with open(path, "w", opener=opener, encoding="utf-8") as file:
        file.write(text)


def begun(path: Path) -> str:
    """An empty file of ours, for a library that opens it anew by its name. What stood there is gone."""
    path.unlink(missing_ok=True)
    os.close(open_own(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    return str(path)
