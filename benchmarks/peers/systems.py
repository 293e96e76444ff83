"""Who takes part: how each is started, where its rows lie afterwards, and what it tells its user."""

import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.peers.cases import Case

HERE = Path(__file__).resolve().parent
INPUT = "texts.jsonl"
CONSOLE = "console.txt"

Row = tuple[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Programs:
    """Where things are on this machine."""

    holdfast: Path
    python: Path
    """Of the peers' environment."""
    model: Path


@dataclass(frozen=True, slots=True)
class System:
    """`command` is what the user types, in a directory of his own that holds the input.

    `saved` reads the rows that are there, and `told` names the files that speak to the user.
    """

    key: str
    title: str
    command: Callable[[Programs], list[str]]
    saved: Callable[[Path], Iterator[Row]]
    told: Sequence[str]
    shown: str
    extra: dict[str, str] = field(default_factory=dict)
    cases: Sequence[Case] = tuple(Case)
    like: str = ""
    """The system whose undisturbed run, and whose other cases, are this one's too."""

    @property
    def is_ours(self) -> bool:
        return self.key == "holdfast"

    def says(self, home: Path, words: str) -> bool:
        """True when the user can read these words somewhere."""
        files = [path for pattern in self.told for path in home.glob(pattern) if path.is_file()]
        return any(words in path.read_text(errors="replace") for path in files)


def _script(name: str) -> Callable[[Programs], list[str]]:
    return lambda programs: [str(programs.python), str(HERE / "scripts" / name), INPUT, "out"]


def _holdfast(programs: Programs) -> list[str]:
    options = ["--device", "cpu", "--workers", "2"]
    return [str(programs.holdfast), "embed", INPUT, "-m", str(programs.model), "-o", "out.npy", *options]


# ---- what was saved


def _read_npy(home: Path) -> Iterator[Row]:
    if (home / "out.npy").exists():
        ids = (home / "out.ids.txt").read_text().splitlines()
        yield from zip(ids, np.load(home / "out.npy"), strict=True)


def _read_npz(home: Path) -> Iterator[Row]:
    for path in sorted((home / "out").glob("*.npz")):
        try:
            with np.load(path) as part:
                yield from zip(part["ids"].tolist(), part["embeddings"], strict=True)
        except (zipfile.BadZipFile, EOFError, ValueError):
            continue  # torn: nothing that could be read


def _read_parquet(home: Path) -> Iterator[Row]:
    for path in sorted((home / "out").glob("**/*.parquet")):
        try:
            table = pq.read_table(path)
        except pa.ArrowInvalid:
            continue
        vectors = np.array(table["embedding"].to_pylist(), dtype=np.float32)
        yield from zip(table["id"].to_pylist(), vectors, strict=True)


_LOGS = (CONSOLE, "*.log", "logs/**/*")

SYSTEMS = (
    System(
        "holdfast", "Holdfast", _holdfast, _read_npy, (CONSOLE, "out.npy.quarantine.tsv"),
        f"holdfast embed {INPUT} -m all-MiniLM-L6-v2 -o out.npy --device cpu --workers 2",
    ),
    System(
        "pool", "sentence-transformers, pool of 2", _script("by_pool.py"), _read_npz, _LOGS,
        f"python by_pool.py {INPUT} out",
    ),
    System(
        "celery", "Celery by hand", _script("by_celery.py"), _read_npz, _LOGS,
        f"python by_celery.py {INPUT} out",
    ),
    System(
        "celery-reject", "Celery by hand, reject_on_worker_lost", _script("by_celery.py"), _read_npz, _LOGS,
        f"PEERS_REJECT=1 python by_celery.py {INPUT} out", {"PEERS_REJECT": "1"},
        (Case.WORKER, Case.POISON), "celery",
    ),
    System(
        "datatrove", "datatrove", _script("by_datatrove.py"), _read_npz, _LOGS,
        f"python by_datatrove.py {INPUT} out",
    ),
    System(
        "ray", "Ray Data + checkpoint", _script("by_ray.py"), _read_parquet, (*_LOGS, "ray/**/*.log"),
        f"python by_ray.py {INPUT} out",
    ),
)  # fmt: skip
