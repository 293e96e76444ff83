"""Processes for which a package that is installed here is not: neither to be imported nor of any version."""

import os
from pathlib import Path

SITECUSTOMIZE = """
import importlib.machinery, importlib.metadata
HIDDEN = {names!r}
find_spec, from_name = importlib.machinery.PathFinder.find_spec, importlib.metadata.Distribution.from_name

def find(name, path=None, target=None):
    return None if name.partition(".")[0] in HIDDEN else find_spec(name, path, target)

def named(name):
    if name in HIDDEN:
        raise importlib.metadata.PackageNotFoundError(name)
    return from_name(name)

importlib.machinery.PathFinder.find_spec = find
importlib.metadata.Distribution.from_name = named
"""


def without(directory: Path, *names: str) -> dict[str, str]:
    """The environment of a process, and of all that it starts, without these packages."""
    directory.mkdir()
    (directory / "sitecustomize.py").write_text(SITECUSTOMIZE.format(names=names))
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(directory), os.environ.get("PYTHONPATH"))))}
