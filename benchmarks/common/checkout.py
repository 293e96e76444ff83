"""Where the checkout lies, and the command that was given in it."""

import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def command_line() -> str:
    """As one would type it: `python -m benchmarks.NAME` and its options."""
    return shlex.join(["python", *sys.orig_argv[1:]])
