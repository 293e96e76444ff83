"""What the user sees last: what was written, how much, how fast, and what was survived."""

import sys
from collections.abc import Iterator

from queue_app.job.output_names import card_paths, quarantine_path
from queue_app.outputs.export import ExportReport
from queue_app.outputs.run_card.faults_and_speed import Faults, Throughput
from queue_app.status.next_steps import next_steps
from queue_app.wording import count, duration, listed, percent, rate


def print_summary(report: ExportReport, *, quiet: bool = False) -> None:
    """To standard output, with what can be done next unless `quiet`; on a terminal what counts is coloured."""
    what, *rest = _lines(report)
    steps = [] if quiet else ["next:", *(f"  {step}" for step in next_steps(report))]
    if not sys.stdout.isatty():
        print("\n".join([what, *rest, *steps]))
        return
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(what, style="bold yellow" if report.num_quarantined else "bold green")
    for line in rest:
        console.print(f"  {line}", style="yellow" if "quarantined" in line else None)
    for line in steps:
        console.print(line)


def _lines(report: ExportReport) -> Iterator[str]:
    yield f"{report.output}: {report.num_embedded:,} of {report.num_records:,} sequences embedded"
    if report.num_quarantined:
        yield f"{report.num_quarantined:,} quarantined, listed in {quarantine_path(report.output)}"
    yield f"content digest {report.output_digest}"
    if report.card.throughput.busy_seconds is not None:
        yield speed_line(report.card.throughput)
    if report.card.faults.any:
        yield f"survived {faults_text(report.card.faults)}"
    yield f"run card {card_paths(report.output)[0]}"


def speed_line(throughput: Throughput) -> str:
    """`12 s at work: 210 seq/s, 15,470 tokens/s, batches filled to 98%`."""
    seconds = throughput.busy_seconds or 0.0
    return (
        f"{duration(seconds)} at work: {rate(throughput.sequences_per_second or 0)} seq/s, "
        f"{rate(throughput.tokens_per_second or 0)} tokens/s, batches filled to {percent(throughput.fill)}"
    )


def faults_text(faults: Faults) -> str:
    """`2 worker deaths and 3 recovered shards`."""
    counted = (
        (faults.worker_deaths, "worker death"),
        (faults.server_deaths, "server death"),
        (faults.shards_recovered, "recovered shard"),
        (faults.shards_retried, "retried shard"),
    )
    return listed([count(number, noun) for number, noun in counted if number])
