"""Another user of this host, and what he leaves where he may: only root can play him."""

import os
from pathlib import Path

import pytest

NOBODY = 65534
GROUP = 54_321
"""One that nobody is in."""
PRECIOUS = "the work of years"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to another user")


def of_nobody(path: Path) -> Path:
    """What lies there belongs to another user, with all that is in it; links themselves, not what they lead
    to."""
    for each in (path, *path.rglob("*")):
        os.chown(each, NOBODY, NOBODY, follow_symlinks=False)
    return path


def precious(path: Path) -> Path:
    """A file of this user's that must stay as it is."""
    path.write_text(PRECIOUS)
    return path
