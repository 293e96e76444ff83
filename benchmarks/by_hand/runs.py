"""Who takes part, and one run of each: from the command to its exit, watched from outside."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.common.checkout import ROOT
from benchmarks.common.memory import Held, MemorySampler
from benchmarks.peers.systems import CONSOLE, HERE, INPUT, SYSTEMS, Programs, System
from benchmarks.peers.trial import kill_descendants
from tests.support.free_ports import free_ports

Rows = dict[str, npt.NDArray[np.float32]]
LIMIT_SECONDS = 1800
HOOKS = Path(__file__).resolve().parent / "hooks"
REFERENCE, BY_HAND = "sentence", "celery"
_COMMITTED = re.compile(r"^\[([\d-]+ [\d:]+),(\d+): [^\n]*\] committed ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Contestant:
    """`threads` is what each process of a script may use; Holdfast shares the processors out by itself."""

    key: str
    title: str
    shown: str
    system: System
    command: Callable[[Programs], list[str]]
    threads: int | None
    package: str
    """What must be installed."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run, in seconds from the command: when a first batch was computed, when rows first stood on the
    disk, when all did, and when the command had ended. Of a run that is sampled only `memory` counts."""

    number: int
    """Of its round."""
    key: str
    first_batch: float
    first_rows: float
    all_rows: float
    wall: float
    rows: Rows
    memory: Held | None

    def line(self) -> str:
        held = self.memory
        memory = f", memory {held.pss / 1e9:.2f} GB PSS, {held.rss / 1e9:.2f} GB RSS" if held else ""
        return (
            f"round {self.number}, {self.key}: first batch {self.first_batch:.2f} s, rows on disk from "
            f"{self.first_rows:.2f} to {self.all_rows:.2f} s, ended {self.wall:.2f} s{memory}"
        )


def contestants() -> list[Contestant]:
    """In the order of the table."""
    known = {system.key: system for system in SYSTEMS}
    ours = known["holdfast"]
    two = ours.command

    def one(programs: Programs) -> list[str]:
        return [*two(programs)[:-1], "1"]

    def script(name: str) -> Callable[[Programs], list[str]]:
        return lambda programs: [str(programs.python), str(HERE / "scripts" / name), INPUT, "out"]

    def peer(key: str, title: str, threads: int, package: str, like: str = "") -> Contestant:
        name = f"by_{key}.py"
        shown = f"python {name} {INPUT} out"
        return Contestant(key, title, shown, known[like or key], script(name), threads, package)

    shown = f"holdfast embed {INPUT} -m all-MiniLM-L6-v2 -o out.npy --device cpu"
    return [
        peer(BY_HAND, "Celery by hand, 2 workers", 1, "celery"),
        Contestant("holdfast", "Holdfast, 2 workers", f"{shown} --workers 2", ours, two, None, "queue_app"),
        Contestant("holdfast-1", "Holdfast, 1 worker", f"{shown} --workers 1", ours, one, None, "queue_app"),
        peer(REFERENCE, "sentence-transformers", 2, "sentence_transformers", like="pool"),
        peer("pool", "sentence-transformers, pool of 2", 1, "sentence_transformers"),
        peer("datatrove", "datatrove, 2 workers", 1, "datatrove"),
        peer("ray", "Ray Data + checkpoint, 2 actors", 1, "ray"),
    ]


def run(
    contestant: Contestant, home: Path, source: str, programs: Programs, *, number: int, sampled: bool
) -> Run:
    """Run it in a directory of its own. Raises SystemExit when it fails."""
    home.mkdir(parents=True)
    (home / INPUT).write_text(source)
    sampler = MemorySampler() if sampled else None
    started = time.time()
    try:
        if sampler is None:
            code = _finish(contestant, home, programs)
        else:
            with sampler:
                code = _finish(contestant, home, programs)
        wall = time.time() - started
    finally:
        kill_descendants()
    if code:
        raise SystemExit(f"{contestant.title}: exit code {code}; see {home}")
    written = [path.stat().st_mtime for path in _outputs(home)]
    return Run(
        number=number,
        key=contestant.key,
        first_batch=_first_batch(home) - started,
        first_rows=(_first_commit(home) or min(written)) - started,
        all_rows=max(written) - started,
        wall=wall,
        rows=dict(contestant.system.saved(home)),
        memory=sampler.peak if sampler else None,
    )


def _finish(contestant: Contestant, home: Path, programs: Programs) -> int:
    with (home / CONSOLE).open("wb") as console:
        process = subprocess.Popen(
            contestant.command(programs), cwd=home, env=_environment(contestant, home),
            stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        return process.wait(LIMIT_SECONDS)


def _environment(contestant: Contestant, home: Path) -> dict[str, str]:
    """As a user has it: bytecode is kept, and nobody asks the hub. Threads are set where scripts need it."""
    dropped = ("HOLDFAST_", "PEERS_", "RAY_", "OMP_", "PYTHON", "TOKENIZERS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    threads = str(contestant.threads)
    limits = {} if contestant.threads is None else {"OMP_NUM_THREADS": threads, "RAYON_NUM_THREADS": threads}
    return {
        **kept, **limits, "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(map(str, [HOOKS, ROOT])),
        "BY_HAND_LOG": str(home / "batches.log"), "PEERS_PORT": str(free_ports(0)[0]),
        "RAY_TMPDIR": str(home / "ray"), "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0",
        "RAY_AUTH_MODE": "disabled",
    }  # fmt: skip


def _outputs(home: Path) -> list[Path]:
    return [path for pattern in ("out.npy", "out/*.npz", "out/**/*.parquet") for path in home.glob(pattern)]


def _first_batch(home: Path) -> float:
    return min(float(line.split()[0]) for line in (home / "batches.log").read_text().splitlines())


def _first_commit(home: Path) -> float | None:
    """Of Holdfast: rows stand in its store before they do in the output. As its workers log it."""
    logs = [path.read_text() for path in home.glob("out.npy.holdfast/logs/*.log")]
    stamps = [stamp for log in logs for stamp in _COMMITTED.findall(log)]
    return min((datetime.fromisoformat(at).timestamp() + int(ms) / 1000 for at, ms in stamps), default=None)


def least_cosine(rows: Rows, reference: Rows) -> float:
    """Of the least alike pair of vectors. Raises SystemExit when the rows are not the same."""
    if rows.keys() != reference.keys():
        raise SystemExit(f"{len(rows)} rows instead of {len(reference)}, or of other names")
    ours = np.stack([rows[name] for name in reference]).astype(np.float64)
    theirs = np.stack(list(reference.values())).astype(np.float64)
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(axis=1) / lengths).min())


def missing(contestants: Sequence[Contestant], programs: Programs) -> list[Contestant]:
    """Those whose package is not there."""
    look = "import importlib.util, sys; print(*map(bool, map(importlib.util.find_spec, sys.argv[1:])))"
    peers = [each for each in contestants if not each.system.is_ours]
    if not peers:
        return []
    asked = [str(programs.python), "-c", look, *(each.package for each in peers)]
    there = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()
    return [each for each, found in zip(peers, there, strict=True) if found != "True"]
