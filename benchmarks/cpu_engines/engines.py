"""Who takes part: Holdfast in this environment, the others as processes in theirs, one call at a time."""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.throughput.ours import Ours
from benchmarks.throughput.rounds import Vectors
from benchmarks.throughput.side_by_side import workers
from gpu_tasks.inference.model import Dtype
from queue_app.host.devices import default_cpu_workers
from queue_app.model.reader import find_model

HERE = Path(__file__).resolve().parent
NUM_THREADS = 2
OURS: dict[str, Dtype] = {
    "Holdfast float32": "float32", "Holdfast bfloat16": "bfloat16", "Holdfast int8": "int8"
}  # fmt: skip
THEIRS = {
    "transformers float32, one by one": "reference",
    "torch float32, batches of 32": "torch-float32",
    "torch bfloat16, batches of 32": "torch-bfloat16",
    "OpenVINO held to float32": "openvino-float32",
    "OpenVINO as it comes": "openvino-auto",
    "OpenVINO int8, static": "openvino-int8",
}
"""Of texts all but the first are sentence-transformers."""
EXTRACT = {"loop as in extract.py, float32": "extract"}
REFERENCE = "transformers float32, one by one"


class Engine(Protocol):
    """What computes vectors; its model is loaded."""

    @property
    def name(self) -> str: ...

    def timed(self, sequences: Sequence[str]) -> tuple[float, Vectors]:
        """Seconds, and the vectors in the order of the sequences."""
        ...


@dataclass(frozen=True, slots=True)
class Here:
    """Holdfast with as many workers and threads as `holdfast embed` has on two cores."""

    name: str
    embed: object

    def timed(self, sequences: Sequence[str]) -> tuple[float, Vectors]:
        started = time.perf_counter()
        vectors: Vectors = self.embed(sequences)  # type: ignore[operator]
        return time.perf_counter() - started, vectors


@dataclass(frozen=True, slots=True)
class There:
    """Another engine, in a process of its environment."""

    name: str
    process: "subprocess.Popen[str]"
    home: Path

    def timed(self, sequences: Sequence[str]) -> tuple[float, Vectors]:
        asked, answered = self.home / "asked.json", self.home / "answered.npy"
        asked.write_text(json.dumps(list(sequences)))
        seconds = self.ask({"sequences": str(asked), "vectors": str(answered)})
        assert isinstance(seconds, float)
        return seconds, np.load(answered)

    def ask(self, request: object) -> object:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> object:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: ended without an answer; what it says stands above")
        return json.loads(line)


@contextmanager
def engines(
    model: Path, kind: str, python: Path, home: Path, calibration: Sequence[str]
) -> Iterator[list[Engine]]:
    """All of them, with the model loaded."""
    with ExitStack() as stack:
        yield [
            *(stack.enter_context(_here(name, model, dtype)) for name, dtype in OURS.items()),
            *(
                stack.enter_context(_there(name, key, model, kind, python, home, calibration))
                for name, key in {**THEIRS, **(EXTRACT if kind == "proteins" else {})}.items()
            ),
        ]


@contextmanager
def _here(name: str, model: Path, dtype: Dtype) -> Iterator[Here]:
    num_workers = min(NUM_THREADS, default_cpu_workers(find_model(str(model)).spec.num_parameters))
    if num_workers == 1:
        yield Here(name, Ours.load(model, dtype=dtype, threads=NUM_THREADS).embed)
        return
    with workers(model, dtype, num_workers) as system:
        yield Here(name, system.embed)


@contextmanager
def _there(
    name: str, key: str, model: Path, kind: str, python: Path, home: Path, calibration: Sequence[str]
) -> Iterator[There]:
    given = home / "calibration.json"
    given.write_text(json.dumps(list(calibration)))
    process = subprocess.Popen(
        [python, HERE / "peer.py", key, model, kind, given],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(NUM_THREADS)},
    )  # fmt: skip
    try:
        engine = There(name, process, home)
        engine.answer()
        yield engine
    finally:
        process.kill()
        process.wait()
