"""All parts of the benchmark: each measures, yields its tables, and notes what belongs in the summary."""

from collections.abc import Callable, Iterator

from rich.table import Table

from benchmarks.throughput.bench import Bench
from benchmarks.throughput.comparisons import gpu, protein, text
from benchmarks.throughput.insides import fill, job, machinery, memory, processes, roof, startup

PARTS: dict[str, Callable[[Bench], Iterator[Table]]] = {
    part.__name__: part
    for part in (text, protein, roof, fill, machinery, processes, memory, job, startup, gpu)
}
CPU_PARTS = ("text", "protein", "roof", "fill", "machinery", "processes", "memory", "job", "startup")
CUDA_PARTS = ("gpu", "processes")
