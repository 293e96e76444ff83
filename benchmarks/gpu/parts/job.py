"""A whole job, from FASTA to HDF5: `holdfast embed`, its worker, its child and its shards."""

import subprocess
import sys
from collections.abc import Iterator
from time import perf_counter

import numpy as np

from benchmarks.common.esm2_shapes import esm2
from benchmarks.gpu.check import Check, Found, Value, lengths, of_checkout
from tests.support import ROOT

SECONDS = 120
RESIDUES = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWY", np.uint8)


def run(check: Check) -> Iterator[Found]:
    for shape, number in (("tiny", 40),) if check.is_rehearsal else (("8M", 100_000), ("650M", 12_000)):
        yield _job(check, shape, number)


def _job(check: Check, shape: str, number: int) -> Found:
    # On the disk: a worker of its own reads it, and zeros are no use to its canary.
    model = esm2(check.home / "real", shape, dtype="bfloat16", device=check.device)
    fasta, drawn, rng = check.home / f"{shape}.fasta", lengths(number), np.random.default_rng(2)
    sequences = (RESIDUES[rng.integers(0, 20, length)].tobytes().decode() for length in drawn)
    fasta.write_text("".join(f">p{index}\n{sequence}\n" for index, sequence in enumerate(sequences)))
    device, output = "cpu" if check.device == "cpu" else "0", str(check.home / f"{shape}.h5")
    command = ["embed", str(fasta), "-m", str(model), "-o", output, "--device", device, "--overwrite"]
    started = perf_counter()
    ended = subprocess.run(
        [sys.executable, "-m", "holdfast", *command], cwd=ROOT, capture_output=True, text=True,
        timeout=SECONDS, check=False, env=of_checkout(check.home),
    )  # fmt: skip
    seconds = perf_counter() - started
    last = (ended.stdout + ended.stderr).strip().splitlines()[-1:]
    values: dict[str, Value] = {"exit status": ended.returncode, "seconds": seconds, "residues": sum(drawn)}
    return Found(f"{shape}, {number:,} records", {**values, "last line": " ".join(last)[:200]})
