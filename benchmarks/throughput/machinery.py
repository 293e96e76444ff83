"""What lies between the model and its results: the runner and the checkpoints beside a bare loop.

All three put the same plan through the same model in this process, by turns.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.storage.inference import Stopwatch
from benchmarks.throughput.ours import bare_loop
from benchmarks.throughput.rounds import turns
from checkpoint import CheckpointStore, CheckpointTrigger, CheckpointWriter
from checkpoint.writer import WriterTimes
from gpu_tasks import AsyncInferenceRunner
from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.models.packed import PackedStaged
from gpu_tasks.shard.shard_run import as_block

COMMIT_SECONDS = 1.0
Way = Callable[[EmbeddingModel, BatchPlan, Path], WriterTimes]


@dataclass(slots=True)
class Machinery:
    """Of one way, a figure per round, in seconds.

    `processor` is that of all threads. `outside` leaves out what the driving thread spent in the model, and
    the model's own threads: it is what loading, handing over and committing took.
    """

    name: str
    run: Way
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    outside: list[float] = field(default_factory=list)
    blocked: list[float] = field(default_factory=list)
    num_commits: list[int] = field(default_factory=list)


def bare(model: EmbeddingModel, plan: BatchPlan, home: Path) -> WriterTimes:
    for _ in bare_loop(model, plan):
        pass
    return WriterTimes()


def runner(model: EmbeddingModel, plan: BatchPlan, home: Path) -> WriterTimes:
    for _ in AsyncInferenceRunner(model).run(plan):
        pass
    return WriterTimes()


def runner_and_checkpoints(model: EmbeddingModel, plan: BatchPlan, home: Path) -> WriterTimes:
    """The last commit included, and the making of the store."""
    trigger = CheckpointTrigger(seconds=COMMIT_SECONDS)
    path = home / "machinery.lmdb"
    with (
        CheckpointStore.open(path, job_digest=bytes(16), plan=plan.fingerprint, token=1) as store,
        CheckpointWriter(store, token=1, trigger=trigger) as writer,
    ):
        for result in AsyncInferenceRunner(model).run(plan):
            writer.put(as_block(result))
    shutil.rmtree(path)
    return writer.times


WAYS: tuple[tuple[str, Way], ...] = (
    ("bare loop", bare),
    ("runner", runner),
    (f"runner, checkpoints every {COMMIT_SECONDS:.0f} s", runner_and_checkpoints),
)


def compare_ways(home: Path, model: EmbeddingModel, plan: BatchPlan, rounds: int) -> list[Machinery]:
    """Each round begins with another way; one run before them does not count."""
    found = [Machinery(name, way) for name, way in WAYS]
    bare(model, plan, home)
    for number in range(rounds):
        for way in turns(found, number):
            measure(way, model, plan, home)
    return found


def measure(way: Machinery, model: EmbeddingModel, plan: BatchPlan, home: Path) -> None:
    with watched() as (in_model, in_loader):
        wall, processor, driver = time.perf_counter(), time.process_time(), time.thread_time()
        times = way.run(model, plan, home)
        way.wall.append(time.perf_counter() - wall)
        way.processor.append(time.process_time() - processor)
        driver = time.thread_time() - driver
    way.outside.append(driver - in_model.seconds + in_loader.seconds + times.processor)
    way.blocked.append(times.blocked)
    way.num_commits.append(times.num_commits)


@contextmanager
def watched() -> Iterator[tuple[Stopwatch, Stopwatch]]:
    """Processor seconds of the driving thread in the model, and of the whole loader thread."""
    in_model, in_loader = Stopwatch(), Stopwatch()
    undo = [in_model.around(PackedStaged, "launch"), in_loader.around(AsyncInferenceRunner, "_load")]
    try:
        yield in_model, in_loader
    finally:
        for each in undo:
            each()
