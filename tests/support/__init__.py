"""What tests share: makers of inputs, models and jobs, runs of the command, and where things lie."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""
