"""One process with all threads, or several with fewer: how many workers a processor or a device wants."""

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from benchmarks.throughput.ours import Ours
from benchmarks.throughput.rounds import turns

PATIENCE_SECONDS = 300.0


@dataclass(slots=True)
class Split:
    """Tokens per second of all its processes together, of each round."""

    num_processes: int
    threads: int
    rates: list[float] = field(default_factory=list)


def splits(device: str, threads: int) -> list[Split]:
    """On the CPU the threads are dealt out to as many processes as divide them; a device is shared."""
    if device != "cpu":
        return [Split(number, threads) for number in (1, 2, 3)]
    return [Split(number, threads // number) for number in range(1, threads + 1) if threads % number == 0]


def compare_splits(
    path: Path,
    sequences: Sequence[str],
    *,
    dtype: str,
    device: str,
    threads: int,
    rounds: int,
    seconds: float,
) -> list[Split]:
    """Every split once a round, each round beginning with another one."""
    found = splits(device, threads)
    for number in range(rounds):
        for split in turns(found, number):
            split.rates.append(together(split, path, sequences, dtype, device, seconds))
    return found


def together(
    split: Split, path: Path, sequences: Sequence[str], dtype: str, device: str, seconds: float
) -> float:
    """All processes load and warm up; then all compute for so long."""
    context = multiprocessing.get_context("spawn")
    answers: Any = context.SimpleQueue()
    ready = context.Barrier(split.num_processes)
    children = [
        context.Process(
            target=compute,
            args=(path, sequences, dtype, device, split.threads, seconds, ready, answers),
            daemon=True,
        )
        for _ in range(split.num_processes)
    ]
    for child in children:
        child.start()
    rates = [answers.get() for _ in children]
    for child in children:
        child.join(PATIENCE_SECONDS)
    return float(sum(rates))


def compute(
    path: Path,
    sequences: Sequence[str],
    dtype: str,
    device: str,
    threads: int,
    seconds: float,
    ready: Barrier,
    answers: Any,
) -> None:
    ours = Ours.load(path, dtype=dtype, device=device, threads=threads)
    plan = ours.plan(sequences)
    batches = [plan.batch(index) for index in range(plan.num_batches)]
    ours.model.stage(batches[0]).launch("float32").wait()
    ready.wait(PATIENCE_SECONDS)
    started, num_tokens, turn = time.perf_counter(), 0, 0
    while time.perf_counter() - started < seconds:
        # Scattered: long rows and short ones alike, wherever the time ends.
        batch = batches[turn * 7919 % len(batches)]
        ours.model.stage(batch).launch("float32").wait()
        num_tokens += len(batch.input_ids)
        turn += 1
    answers.put(num_tokens / (time.perf_counter() - started))
