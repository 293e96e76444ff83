"""What tests share: makers of inputs, models and jobs, runs of the command, and where things lie."""

from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
"""The checkout."""
