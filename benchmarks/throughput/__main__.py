"""How fast Holdfast computes: beside other systems, beside the machine's roof, and beside its own bare loop.

    python -m benchmarks.throughput [--only PART ...] [--rounds N] [--texts N ...] [--texts-file FILE]
                                    [--proteins N] [--fasta FILE] [--records N ...] [--dtype D ...]
                                    [--device cpu|cuda] [--shape S ...] [--threads N] [--home DIR]
                                    [--report FILE.md]

All systems take turns, each round beginning with another one, with equally many threads. A ratio is of one
round; shown are the median, the least and the most. A system whose vectors differ from ours is refused.
With a report, the plot lies beside it. Exit code 1: a system was refused.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.common.bar_chart import bar_chart
from benchmarks.common.checkout import command_line
from benchmarks.common.corpora import EXAMPLE
from benchmarks.common.esm2_shapes import SHAPES
from benchmarks.common.machine import describe_machine, num_cores
from benchmarks.common.tables import as_markdown
from benchmarks.throughput.bench import Bench, Settings, summary
from benchmarks.throughput.parts import CPU_PARTS, CUDA_PARTS, PARTS
from benchmarks.throughput.roof import computes_bfloat16

NO_BFLOAT16 = "bfloat16 was left out: this processor has no arithmetic for it (`--dtype` forces it)"
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


def main(words: list[str] | None = None) -> int:
    chosen = arguments().parse_args(words)
    if chosen.device != "cpu" and not torch.cuda.is_available():
        raise SystemExit(f"--device {chosen.device}: torch sees no CUDA device")
    settings = settings_of(chosen)
    torch.set_num_threads(settings.threads)
    tables: list[Table] = []
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=chosen.home) as scratch:
        bench = Bench(Path(scratch), settings)
        for name in chosen.only or (CPU_PARTS if chosen.device == "cpu" else CUDA_PARTS):
            for table in PARTS[name](bench):
                console.print(table)
                tables.append(table)
    if bench.highlights:
        console.print(summary(bench))
    if chosen.report:
        write_report(chosen.report, bench, tables)
    for each in bench.refused:
        console.print(f"[bold red]REFUSED[/] {each}: its vectors are not ours")
    return bool(bench.refused)


def arguments() -> argparse.ArgumentParser:
    own = Settings()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=own.rounds)
    parser.add_argument("--texts", type=int, nargs="+", default=own.num_texts, metavar="N")
    parser.add_argument("--texts-file", type=Path, help="texts of your own, one a line")
    parser.add_argument("--proteins", type=int, default=own.num_proteins, metavar="N")
    parser.add_argument("--fasta", type=Path, default=EXAMPLE, help="what `holdfast embed` gets")
    parser.add_argument("--records", type=int, nargs="+", default=own.records, metavar="N", help="for memory")
    parser.add_argument(
        "--dtype", nargs="+", choices=("float32", "bfloat16"), help="default: what fits the device"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (%(default)s)")
    parser.add_argument("--shape", nargs="+", choices=SHAPES, help="of ESM-2; 8M, on CUDA 650M and 3B")
    parser.add_argument("--threads", type=int, default=num_cores())
    parser.add_argument("--roof-seconds", type=float, default=own.roof_seconds)
    parser.add_argument("--seconds-together", type=float, default=own.seconds_together)
    parser.add_argument("--home", type=Path, help="the directory to write in")
    parser.add_argument("--report", type=Path, help="markdown; the plot goes beside it")
    return parser


def settings_of(chosen: argparse.Namespace) -> Settings:
    on_cpu = chosen.device == "cpu"
    dtypes = tuple(chosen.dtype or default_dtypes(chosen.device))
    return Settings(
        rounds=chosen.rounds,
        num_texts=tuple(chosen.texts),
        texts_file=chosen.texts_file,
        num_proteins=chosen.proteins,
        fasta=chosen.fasta,
        records=tuple(chosen.records),
        dtypes=dtypes,
        without_bfloat16=not chosen.dtype and "bfloat16" not in dtypes,
        device=chosen.device,
        shapes=tuple(chosen.shape or (("8M",) if on_cpu else ("650M", "3B"))),
        threads=chosen.threads,
        roof_seconds=chosen.roof_seconds,
        seconds_together=chosen.seconds_together,
    )


def default_dtypes(device: str) -> tuple[str, ...]:
    if device != "cpu":
        return ("bfloat16",)
    return ("float32", "bfloat16") if computes_bfloat16() else ("float32",)


def write_report(path: Path, bench: Bench, tables: list[Table]) -> None:
    chosen = bench.settings
    facts = describe_machine(chosen.device, chosen.threads)
    if chosen.without_bfloat16:
        facts.append(NO_BFLOAT16)
    plot: list[str] = []
    if bench.groups:
        path.with_suffix(".svg").write_text(bar_chart("Speed, real tokens per second", bench.groups))
        plot = [f"![speed of all systems]({path.stem}.svg)", ""]
    body = [as_markdown(table) for table in ([summary(bench)] if bench.highlights else [])]
    text = [
        "# Throughput", "", f"`{command_line()}`", "",
        *(f"- {fact}" for fact in facts), "",
        *body, *plot, *map(as_markdown, tables),
    ]  # fmt: skip
    path.write_text("\n".join(text))


if __name__ == "__main__":
    sys.exit(main())
