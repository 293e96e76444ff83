"""A fuzzer that watches the code of a reader, and changes what it feeds it by what was reached.

    python -m tests.campaigns.fuzzing.guided [--reader NAME|all] [--minutes N]

It needs atheris (`pip install -e '.[fuzz]'`), and says so and does nothing where that is missing. What
reaches new places is kept in the folder `guided_corpus`, a folder a reader, and what breaks a promise in
`guided_found`: the tests read both from then on. Exit code other than 0: something broke a promise.
"""

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from queue_app.ingest.readers.formats import COLUMNAR
from tests.campaigns.fuzzing.guided_readers import CORPUS, READERS, look_as_the_product_does, seeds
from tests.support import ROOT

FOUND = Path(__file__).parent / "guided_found"
LONGEST_BYTES = {False: 2_000, True: 16_000}
"""Of a text, and of a table."""
TABLE_SECONDS = 30
"""For one table; over a text there is a clock of its own."""
KEPT_BYTES_MOST = 600
"""Of an input in the corpus: what reaches a place is mostly small, and all of it lies in the checkout."""
KEPT_MOST = 25
MIB_MOST = 2_048
SECONDS_LEAST = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reader", choices=[*READERS, "all"], default="all")
    parser.add_argument("--minutes", type=float, default=2.0, help="for each reader")
    chosen = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("skipped: atheris is not installed (pip install -e '.[fuzz]')")
        return 0
    broken = 0
    for reader in READERS if chosen.reader == "all" else (chosen.reader,):
        found = [*fuzz(reader, 60 * chosen.minutes)]
        broken += len(found)
        print(f"{reader}: {len([*(CORPUS / reader).iterdir()])} inputs kept, {len(found)} broke a promise")
        print(*found, sep="\n", end="\n" if found else "", flush=True)
    return int(broken > 0)


def fuzz(reader: str, seconds: float) -> Iterator[str]:
    """What broke a promise, in words. The fuzzer ends with each finding, and is started again."""
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="holdfast-guided-") as scratch:
        begun, reached, ended_by = (Path(scratch, name) for name in ("begun", "reached", "ended_by"))
        for folder in (begun, reached, ended_by, CORPUS / reader):
            folder.mkdir(parents=True, exist_ok=True)
        for name, data in seeds(reader).items():
            (begun / name).write_bytes(data)
        folders = [*map(str, (reached, begun, CORPUS / reader))]
        is_table = reader in COLUMNAR
        while (left := until - time.monotonic()) > SECONDS_LEAST:
            _run_fuzzer(
                reader, f"-max_total_time={left:.0f}", f"-max_len={LONGEST_BYTES[is_table]}",
                f"-rss_limit_mb={MIB_MOST}", f"-timeout={TABLE_SECONDS if is_table else 0}",
                "-print_final_stats=1", f"-artifact_prefix={ended_by}/", *folders,
            )  # fmt: skip
            for path in sorted(ended_by.iterdir()):
                yield from _judged(reader, path)
                path.unlink()
        _keep(reader, Path(scratch, "kept"), [begun, CORPUS / reader, reached])


def _judged(reader: str, path: Path) -> Iterator[str]:
    """What ended the fuzzer breaks no promise where it ends the child that reads tables alone."""
    data = path.read_bytes()
    try:
        look_as_the_product_does(reader, data)
    except AssertionError as error:
        (FOUND / reader).mkdir(parents=True, exist_ok=True)
        (FOUND / reader / path.name).write_bytes(data)
        yield f"{FOUND / reader / path.name}: {error}"


def _keep(reader: str, kept: Path, reached: Sequence[Path]) -> None:
    """Into the corpus: the smallest inputs that together reach all that was reached."""
    kept.mkdir()
    known = f"-artifact_prefix={kept.parent}/known-"  # what ends it has been judged
    _run_fuzzer(reader, "-merge=1", "-timeout=0", known, str(kept), *map(str, reached))
    sizes = {path: path.stat().st_size for path in kept.iterdir()}
    for path in (CORPUS / reader).iterdir():
        path.unlink()
    for path in sorted(sizes, key=lambda path: sizes[path])[:KEPT_MOST]:
        if sizes[path] <= KEPT_BYTES_MOST:
            shutil.copy(path, CORPUS / reader)


def _run_fuzzer(reader: str, *options: str) -> None:
    """libFuzzer ends its process by itself, so it gets one of its own; by an input, or by none.

    Raises:
        SystemExit: it did not come as far as to read one.
    """
    command = [sys.executable, "-m", "tests.campaigns.fuzzing.guided_process", reader, *options]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    ended = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, check=False, capture_output=True,
        text=True, errors="replace",
    )  # fmt: skip
    if found := re.search(r"number_of_executed_units: *(\d+)", ended.stderr):
        print(f"{reader}: {int(found[1]):,} inputs tried", flush=True)
    elif ended.returncode and "artifact_prefix" not in ended.stderr:
        sys.exit(f"the fuzzer of {reader} did not run: {ended.stderr[-1_000:]}")


if __name__ == "__main__":
    sys.exit(main())
