"""Large models on a device: tokens per second, share of the device's peak, and how busy it is.

Sequences of one length, so that nobody has anything to pad. On the processor the same code runs with a tiny
shape, to be tested where there is no device.
"""

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.common.corpora import Corpus, equal_proteins
from benchmarks.common.esm2_shapes import SHAPES, Arithmetic, esm2
from benchmarks.throughput.ours import Ours, lengths_of
from benchmarks.throughput.padded import faesm, neighbours, transformers_esm
from benchmarks.throughput.roof import Roof, measure_roof, settle
from benchmarks.throughput.rounds import Absent, Outcome, System, compare
from gpu_tasks import AsyncInferenceRunner
from gpu_tasks.inference.runner import Timings

LENGTHS = (250, 51)
"""Tokens of a sequence, special tokens included."""


@dataclass(frozen=True, slots=True)
class OnDevice:
    """One model and one length of sequences."""

    shape: str
    length: int
    budget: int
    corpus: Corpus
    num_tokens: int
    flops: float
    roof: Roof
    outcomes: list[Outcome]
    absent: list[Absent]
    busy: float
    timings: Timings
    profiled_seconds: float


def measure_device(home: Path, shape: str, *, device: str, dtype: str, rounds: int) -> Iterator[OnDevice]:
    """Every length. Each system loads the model once."""
    path = esm2(home, shape, dtype=dtype, device=device)
    free(device)
    ours = Ours.load(path, dtype=dtype, device=device)
    arithmetic = Arithmetic.of(path)
    seconds, square = (0.1, 256) if shape == "tiny" else (2.0, None)
    roof = measure_roof(arithmetic, ours.budget, dtype=dtype, device=device, seconds=seconds, square=square)
    systems, absent = beside(ours, path, dtype, device)
    for length in LENGTHS:
        corpus = equal_proteins(max(SHAPES[shape].num_tokens // length, 16), length - 2)
        two_batches = 2 * max(ours.budget // length, 1)
        outcomes = compare(systems, corpus.sequences, rounds, num_warm=two_batches)
        busy, timings, took = profiled(ours, corpus.sequences, device)
        lengths = lengths_of(ours.plan(corpus.sequences))
        yield OnDevice(
            shape, length, ours.budget, corpus, sum(lengths), arithmetic.flops(lengths), roof,
            outcomes, absent, busy, timings, took,
        )  # fmt: skip


def beside(ours: Ours, path: Path, dtype: str, device: str) -> tuple[list[System], list[Absent]]:
    """Ours, and the others with as many sequences at once as our budget holds."""
    batches = neighbours(ours.budget)
    others = (
        transformers_esm(path, dtype, "transformers, sdpa", batches, device=device, padded=False),
        faesm(path, dtype, batches, device=device),
    )
    systems = [System("Holdfast", dtype, ours.embed_by_runner, ours=True)]
    systems += [each for each in others if isinstance(each, System)]
    return systems, [each for each in others if isinstance(each, Absent)]


def free(device: str) -> None:
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


# ---- how busy the device is


def profiled(ours: Ours, sequences: Sequence[str], device: str) -> tuple[float, Timings, float]:
    """The device's busy share of one run, where the runner's thread spent its time, and the seconds."""
    runner = AsyncInferenceRunner(ours.model)
    with recorded(device) as profiler:
        started = perf_counter()
        ours.embed_by_runner(sequences, runner)
        settle(device)
        took = perf_counter() - started
    kind = torch.autograd.DeviceType.CUDA if device.startswith("cuda") else torch.autograd.DeviceType.CPU
    spans = ((e.time_range.start, e.time_range.end) for e in profiler.events() if e.device_type == kind)
    return busy_share(spans), runner.timings, took


@contextmanager
def recorded(device: str) -> Iterator[profile]:
    cuda = device.startswith("cuda")
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiler:
        yield profiler


def busy_share(spans: Iterable[tuple[float, float]]) -> float:
    """Time with at least one under way, of that from the first one's start to the last one's end."""
    ordered = sorted(spans)
    if not ordered:
        return 0.0
    busy, reached = 0.0, ordered[0][0]
    for start, end in ordered:
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return busy / max(reached - ordered[0][0], 1e-9)
