"""What a process takes over from whoever started it, set right: standard streams, module path, warnings."""

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

STREAMS = {0: ("stdin", "r"), 1: ("stdout", "w"), 2: ("stderr", "w")}
"""By descriptor: the name in `sys`, and the mode."""
FOREIGN = ("CELERY", "KOMBU", "DJANGO_SETTINGS_MODULE", "PYTHONWARNINGS")
"""How the names begin of what says to another application's Celery where its server is, or would end a
process of ours at a library's warning."""


def settle() -> None:
    """Have three open streams, no module of the working directory, and no end by a library's warning."""
    open_closed()
    sys.path[:] = importable(sys.path)
    if sys.warnoptions:
        warnings.simplefilter("default")


def open_closed() -> None:
    """Open the standard streams that are closed, as a daemon's are, on /dev/null.

    Otherwise the next files that are opened, a store or a socket, would get their numbers, and whatever a
    child prints would be written into them.
    """
    for descriptor, (name, mode) in STREAMS.items():
        try:
            os.fstat(descriptor)
        except OSError:
            _open_null(descriptor)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))


def _open_null(descriptor: int) -> None:
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != descriptor:
        os.dup2(opened, descriptor)
        os.close(opened)
    os.set_inheritable(descriptor, True)


def importable(path: Sequence[str]) -> list[str]:
    """The directories of a module search path that are not just the working directory.

    There a user's file may have the name of a module. An empty one, as `PYTHONPATH=$UNSET:…` has, means it
    too. Where Holdfast itself lies is kept.
    """
    here, home = _here(), str(Path(__file__).parents[2])
    return [each for each in path if each and (str(Path(each).absolute()) != here or here == home)]


def _here() -> str | None:
    """None: it is gone."""
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return None


def child_environment(**settings: str) -> Mapping[str, str]:
    """That of a process which we start: ours, without what is meant for other applications.

    No Python in it imports from the working directory, where a user's file may have the name of a module.
    """
    inherited = {**os.environ}
    kept = {name: value for name, value in inherited.items() if not name.startswith(FOREIGN)}
    path = os.pathsep.join(importable(kept.pop("PYTHONPATH", "").split(os.pathsep)))
    return {**kept, "PYTHONSAFEPATH": "1", **({"PYTHONPATH": path} if path else {}), **settings}
