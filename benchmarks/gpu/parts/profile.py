"""Which kernels the time of a batch goes to."""

from collections import defaultdict
from collections.abc import Iterator

from benchmarks.gpu.check import Check, Found
from benchmarks.throughput.gpu import recorded
from gpu_tasks.inference.model import KernelChoice

TOP = 14


def run(check: Check) -> Iterator[Found]:
    for shape in ("tiny",) if check.is_rehearsal else ("8M", "650M"):
        for kernels in check.kernels:
            yield from _of_a_batch(check, shape, kernels)


def _of_a_batch(check: Check, shape: str, kernels: KernelChoice) -> Iterator[Found]:
    model, budget = check.load(shape, kernels=kernels), check.budget(shape)
    plan = check.plan(model, budget, 8 * budget)
    for index in (0, 1):
        model.stage(plan.batch(index)).launch("float32").wait()
    with recorded(check.device) as profiler:
        model.stage(plan.batch(2)).launch("float32").wait()
        check.settle()
    spent: dict[str, list[float]] = defaultdict(list)
    for event in profiler.events():
        if check.device == "cpu" or str(event.device_type).endswith("CUDA"):
            spent[event.name].append(event.time_range.elapsed_us())
    total, number = sum(map(sum, spent.values())) or 1.0, sum(map(len, spent.values()))
    yield Found(f"{shape}, {kernels} kernels: a batch", {"kernels": number, "ms": total / 1000})
    for name, each in sorted(spent.items(), key=lambda item: -sum(item[1]))[:TOP]:
        values = {"%": 100 * sum(each) / total, "us": sum(each) / len(each), "times": len(each)}
        yield Found(f"    {name[:110]}", values)  # type: ignore[arg-type]
