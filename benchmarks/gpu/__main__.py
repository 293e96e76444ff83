"""`python -m benchmarks.gpu --out FILE`: what to run first on a CUDA device, in ten minutes at most.

Each part is a process of its own and bounded in time: one that fails takes nothing from the others. The
result is written after each, as Markdown, and beside it as JSON. Nothing is installed and nothing fetched.
With `--device cpu` the same is rehearsed on the processor at tiny sizes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from tests.support import ROOT

PARTS = {
    "facts": 60, "ceilings": 40, "workspace": 90, "right": 120, "tests": 180, "speed": 120, "profile": 60,
    "pieces": 40, "attention": 60, "budgets": 60, "memory": 40, "job": 180,
}  # fmt: skip
"""In this order, and for how many seconds each at most."""
ALL_SECONDS = 540.0


@dataclass(slots=True)
class Part:
    """`failed` says why it did not end well, or is empty."""

    name: str
    found: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    failed: str = ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the Markdown; JSON goes beside it"
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; may be repeated")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rehearsal", action="store_true", help="tiny sizes on a CUDA device, too")
    parser.add_argument("--seconds", type=float, default=ALL_SECONDS, help="for all parts (default: 540)")
    chosen = parser.parse_args(arguments)
    done: list[Part] = []
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as home:
        for part in _run(chosen, Path(home)):
            done.append(part)
            chosen.out.write_text(_markdown(done))
            chosen.out.with_suffix(".json").write_text(
                json.dumps([asdict(each) for each in done], indent=1) + "\n"
            )
    failed = [part.name for part in done if part.failed]
    print(f"failed: {', '.join(failed)}" if failed else "every part ended well")
    return int(bool(failed))


def _run(chosen: argparse.Namespace, home: Path) -> Iterator[Part]:
    options = ["--rehearsal"] if chosen.rehearsal or chosen.device == "cpu" else []
    started = perf_counter()
    for name in chosen.only or PARTS:
        left = chosen.seconds - (perf_counter() - started)
        if left < 1:
            yield Part(name, failed="no time was left for it")
            continue
        command = [sys.executable, "-m", "benchmarks.gpu.part", name, chosen.device, str(home), *options]
        yield _ended(name, command, min(left, PARTS[name]))


def _ended(name: str, command: list[str], seconds: float) -> Part:
    part, started = Part(name), perf_counter()
    print(f"== {name}", flush=True)
    try:
        ended = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False
        )
        output, failed = ended.stdout, ""
        if ended.returncode:
            failed = (
                f"exit status {ended.returncode}: {' '.join(ended.stderr.strip().splitlines()[-1:])[:300]}"
            )
    except subprocess.TimeoutExpired as error:
        output = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        failed = f"stopped after {seconds:.0f} s"
    part.found = [
        json.loads(line) for line in output.splitlines() if line.startswith("{") and line.endswith("}")
    ]
    part.failed, part.seconds = failed, perf_counter() - started
    for found in part.found:
        print(found["text"])
    print(f"-- {failed or 'ended well'}, {part.seconds:.1f} s", flush=True)
    return part


def _markdown(done: list[Part]) -> str:
    command = " ".join(["python -m benchmarks.gpu", *sys.argv[1:]])
    lines = ["# On a CUDA device", "", f"`{command}`", ""]
    for part in done:
        lines += [f"## {part.name}", ""]
        lines += [f"- {found['text'].strip()}" for found in part.found]
        lines += [f"- {'**failed**: ' + part.failed if part.failed else 'took'} {part.seconds:.1f} s", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
