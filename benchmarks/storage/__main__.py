"""How fast the checkpoint store writes, resumes and verifies, and what it costs inference.

    python -m benchmarks.storage [--rounds N] [--rows N] [--records N] [--commits N] [--fasta FILE]
                                 [--dtype D] [--home DIR] [--report FILE.md]

Ways of keeping rows on disk take turns, so that the disk's moods hit all of them. Ratios are those of one
round each; medians, and the least and the most. --home says which disk.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.common.checkout import command_line
from benchmarks.common.corpora import EXAMPLE
from benchmarks.common.esm2_shapes import esm2
from benchmarks.common.tables import as_markdown, table_with
from benchmarks.storage.inference import Cost, Memory, cost_of_checkpoints, memory_over_commits
from benchmarks.storage.write_and_resume import (
    BatchSize,
    Measured,
    Resume,
    Shape,
    batch_sizes,
    compare,
    ratios,
    resume,
)

SHAPES = (("float32", 320), ("float32", 1280), ("float16", 320), ("float16", 1280))
BLOCK_ROWS_OF_RESUME = 64
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


def main() -> None:
    chosen = arguments().parse_args()
    tables: list[Table] = []
    with tempfile.TemporaryDirectory(prefix="holdfast-storage-", dir=chosen.home) as scratch:
        for table in sections(Path(scratch), chosen):
            console.print(table)
            tables.append(table)
    if chosen.report:
        text = "\n".join(
            ["# Storage", "", f"`{command_line()}`", "", *(as_markdown(table) for table in tables)]
        )
        chosen.report.write_text(text)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=200_000, help="rows that each way writes")
    parser.add_argument("--records", type=int, default=1_000_000, help="records of the store to resume")
    parser.add_argument("--commits", type=int, default=10_000, help="commits over which memory is watched")
    parser.add_argument("--fasta", type=Path, default=EXAMPLE)
    parser.add_argument("--dtype", default="float32", help="of the model whose inference is watched")
    parser.add_argument("--home", type=Path, help="the directory to write in")
    parser.add_argument("--report", type=Path, help="write the tables there, as markdown")
    return parser


def sections(home: Path, chosen: argparse.Namespace) -> Iterator[Table]:
    for dtype, dim in SHAPES:
        shape = Shape(dtype, dim, chosen.rows)
        yield table_of_ways(shape, compare(home, shape, chosen.rounds))
    shape = Shape("float32", 320, chosen.rows // 4)
    yield table_of_batch_sizes(shape, batch_sizes(home, shape, chosen.rounds))
    shape = Shape("float32", 320, chosen.records)
    yield table_of_resume(shape, resume(home, shape, BLOCK_ROWS_OF_RESUME, chosen.rounds))
    yield table_of_cost(cost_of_checkpoints(home, chosen.fasta, esm2(home), chosen.dtype))
    yield table_of_memory(memory_over_commits(home, chosen.commits))


# ---- tables


def table_of_ways(shape: Shape, found: dict[str, Measured]) -> Table:
    title = f"{shape}, {shape.num_rows:,} rows, 10,000 a commit, each brought to the disk"
    table = table_with(title, "", "x torch.save", "least", "most", "write MB/s", "read MB/s", "disk / raw")
    for name, measured in found.items():
        beside = ratios(found, name)
        table.add_row(
            name, *(f"{each:.2f}" for each in (median(beside), min(beside), max(beside))),
            f"{median(measured.write_mb):,.0f}", f"{median(measured.read_mb):,.0f}",
            f"{measured.size_ratio:.4f}",
        )  # fmt: skip
    return table


def table_of_batch_sizes(shape: Shape, found: Sequence[BatchSize]) -> Table:
    columns = ("rows a block", "rows a commit", "KiB a block", "write MB/s", "disk / raw")
    table = table_with(f"Small batches, {shape}, {shape.num_rows:,} rows", *columns)
    for each in found:
        table.add_row(
            f"{each.rows_per_block:,}", f"{each.rows_per_commit:,}", f"{each.block_bytes / 1024:,.0f}",
            f"{each.write_mb:,.0f}", f"{each.size_ratio:.4f}",
        )  # fmt: skip
    return table


def table_of_resume(shape: Shape, found: Resume) -> Table:
    title = f"Going on with {found.num_rows:,} records of {shape} in {found.num_blocks:,} blocks, warm"
    table = table_with(title, "", "ms")
    for name, seconds in (
        ("which batches are done (keys)", found.committed_seconds),
        ("which records are done (ordinals)", found.ordinals_seconds),
        ("opening, every page of the trees looked at", found.open_seconds),
        ("first look-up of a record after that", found.first_find_seconds),
        ("look-up of a record", found.find_seconds),
        ("verify, whole, in its child process", found.verify_in_child_seconds),
    ):
        table.add_row(name, f"{1000 * seconds:,.2f}")
    table.add_row("verify every block, in this process, GB/s", f"{found.verify_mb / 1000:.2f}")
    return table


def table_of_cost(cost: Cost) -> Table:
    table = table_with("Cost to inference: ESM-2 8M, default interval", "", "")
    for name, value in (
        ("processor seconds of checkpointing / of all else", f"{100 * cost.share:.3f} %"),
        ("model thread blocked by the writer / wall time", f"{100 * cost.blocked / cost.wall:.3f} %"),
        ("processor seconds in all", f"{cost.processor:.2f}"),
        ("of them on the commit thread", f"{cost.commit_thread:.3f}"),
        ("of them on the thread of the model", f"{cost.on_model_thread:.3f}"),
        ("batches, commits", f"{cost.num_batches}, {cost.num_commits}"),
        ("longest wait of a block until it was durable", f"{cost.lag:.2f} s"),
    ):
        table.add_row(name, value)
    return table


def table_of_memory(found: Sequence[Memory]) -> Table:
    table = table_with("Memory of the process, by commits", "commits", "MB, no file behind it")
    for each in found:
        table.add_row(f"{each.num_commits:,}", f"{each.megabytes:,.1f}")
    return table


if __name__ == "__main__":
    main()
