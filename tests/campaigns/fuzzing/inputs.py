"""Inputs changed at random: read whole, with every record kept or quarantined, or refused in one clear line.

    python -m tests.campaigns.fuzzing.inputs [--inputs N] [--first SEED] [--at-once N] [--tables]

With --tables they are Parquet and Arrow files, which a child of the reader's own looks at. A seed is an
input, and makes the same one again: each that breaks a promise is named with it. What was found so lies in
the folder `inputs_found`, and is read by the tests. Exit code other than 0: one broke a promise.
"""

import argparse
import contextlib
import json
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from queue_app.choices import Alphabet, InputFormat
from queue_app.errors import InputError
from queue_app.ingest.gather import gather
from queue_app.ingest.readers.bounds.limits import DEFAULT, Limits
from queue_app.ingest.readers.formats import FORMATS
from queue_app.ingest.readers.sources import Input
from queue_app.ingest.records import Dataset
from queue_app.ingest.records_to_shards import ingest
from queue_app.job.directory import JobDir
from queue_app.job.shard_files import Record
from queue_app.shown import visible
from tests.campaigns.fuzzing.columnar_changes import changed_table
from tests.campaigns.fuzzing.input_changes import changed_input
from tests.support import ROOT

FOUND = Path(__file__).parent / "inputs_found"
ERROR_CHARACTERS_MOST = 1_000
SECONDS_MOST = 10
BUSY = 12
"""How many times slower a machine may be that has other things to do."""
MIB_MOST = 512
GROWTH_MIB_MOST = 128
"""Of a process that has had more than that before."""
INGESTED = 10
"""One of so many goes on into a job's directory."""
AT_A_TIME = 2_500
TIGHT = Limits(record=200, id=50, field=40, values=1000, nesting=4)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`wrong` says what must not be; None: nothing."""

    outcome: str
    wrong: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """How an input is to be read."""

    alphabet: Alphabet = "text"
    keep: str | None = None
    id: str | None = None
    input_format: InputFormat | None = None
    limits: Limits = DEFAULT


class TooSlow(Exception):
    """Raised within what takes longer than it may."""


def judge(name: str, data: bytes, asked: Asked, home: Path, *, whole: bool = False) -> Verdict:
    """Read an input; with `whole` as far as a job's directory."""
    (path := home / name).write_bytes(data)
    try:
        with _within(SECONDS_MOST):
            return _read(path, asked, home / "job" if whole else None)
    except InputError as error:
        return Verdict("refused", _what_is_wrong(str(error), path))
    except TooSlow:
        return Verdict("hung", f"took more than {SECONDS_MOST} s")
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return Verdict("failed", f"{type(error).__name__}: {error}"[:300])
    finally:
        path.unlink()


def _read(path: Path, asked: Asked, job: Path | None) -> Verdict:
    with gather([path], path.parent / "piped", asked.limits) as files:
        dataset = _dataset(files, asked)
        dataset.check()
        records = list(dataset)
        if job is not None:
            _ingest(files, asked, job, len(records))
    wrong = next((wrong for place, record in enumerate(records) if (wrong := _wrong(place, record))), None)
    return Verdict("read", wrong)


def _dataset(files: list[Input], asked: Asked) -> Dataset:
    return Dataset(
        files, alphabet=asked.alphabet, keep=asked.keep, id=asked.id, input_format=asked.input_format,
        limits=asked.limits,
    )  # fmt: skip


def _ingest(files: list[Input], asked: Asked, job: Path, num_records: int) -> None:
    with tempfile.TemporaryDirectory(dir=job.parent) as home:
        made = ingest(
            _dataset(files, asked), JobDir(Path(home)), "0" * 12 + "-" + "0" * 8,
            num_shards=None, cost_most=10_000, dedup=True, previous=None,
        )  # fmt: skip
        assert made.counts.num_records == num_records
        assert int(made.shards.columns["num_records"].sum()) == num_records


def _wrong(place: int, record: Record) -> str | None:
    """A record is kept or quarantined, in its place, under an id that can be written."""
    if record.ordinal != place:
        return f"record {place} has the ordinal {record.ordinal}"
    record.id.encode()
    record.sequence.encode()
    if "\0" in record.id or "\0" in record.sequence:
        return f"record {place} holds a NUL"
    if record.problem is None:
        return None if record.sequence.strip() else f"record {place} is empty, and not quarantined"
    return _wrong_words(record.problem)


def _what_is_wrong(error: str, path: Path) -> str | None:
    if not error.startswith((str(path), "--id", "--keep")):
        return f"names no file: {error[:100]!r}"
    return _wrong_words(error.replace(str(path), path.name))


def _wrong_words(words: str) -> str | None:
    if len(words) > ERROR_CHARACTERS_MOST:
        return f"words of {len(words):,} characters: {words[:100]!r}"
    return None if visible(words, len(words)) == words else f"words with control characters: {words[:200]!r}"


@contextlib.contextmanager
def _within(seconds: int) -> Iterator[None]:
    """Of the processor's time; of the clock, which others on the machine use too, more."""

    def end(*_: object) -> None:
        raise TooSlow

    timers = {signal.ITIMER_PROF: signal.SIGPROF, signal.ITIMER_REAL: signal.SIGALRM}
    before = {each: signal.signal(each, end) for each in timers.values()}
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, BUSY * seconds)
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)
        for each, handler in before.items():
            signal.signal(each, handler)


# ---- many

JudgeSeed = Callable[[int, Path], tuple[str, bytes, Verdict]]


def judge_table(seed: int, home: Path) -> tuple[str, bytes, Verdict]:
    """The Parquet or Arrow file of a seed, and what became of it."""
    rng = random.Random(seed)
    name, data = changed_table(rng)
    asked = Asked(
        keep=rng.choice([None, "all", "all", "x"]),
        id=rng.choice([None, None, None, "full"]),
        limits=rng.choice([DEFAULT, DEFAULT, TIGHT]),
    )
    return name, data, judge(name, data, asked, home, whole=seed % INGESTED == 0)


def judge_seed(seed: int, home: Path) -> tuple[str, bytes, Verdict]:
    """The text or archive of a seed, and what became of it."""
    rng = random.Random(seed)
    name, data = changed_input(rng)
    asked = Asked(
        alphabet=rng.choice(["text", "text", "protein", "dna"]),
        keep=rng.choice([None, None, "all", "none", "x"]),
        id=rng.choice([None, None, None, "accession", "full", r"(\w)$"]),
        input_format=rng.choice(
            [*[None] * 8, *[each for each in FORMATS if each not in ("parquet", "arrow")]]
        ),
        limits=rng.choice([DEFAULT, DEFAULT, TIGHT]),
    )
    return name, data, judge(name, data, asked, home, whole=seed % INGESTED == 0)


def judge_many(
    seeds: range, home: Path, at: Path | None = None, judged: JudgeSeed = judge_seed
) -> tuple[Counter[str], list[str]]:
    """How often each outcome was, and what broke a promise; `at` is told which seed is looked at."""
    outcomes: Counter[str] = Counter()
    broken, before = [], _peak_mib()
    for seed in seeds:
        if at is not None:
            at.write_text(str(seed))
        name, _, verdict = judged(seed, home)
        outcomes[verdict.outcome] += 1
        if verdict.wrong:
            broken.append(f"seed {seed}: {name}: {verdict.wrong}")
    if (mib := _peak_mib()) > max(MIB_MOST, before + GROWTH_MIB_MOST):
        broken.append(f"seeds {seeds}: {mib:,} MiB")
    return outcomes, broken


def _peak_mib() -> int:
    """Of this process, which may have done something else before."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--tables", action="store_true", help="Parquet and Arrow files")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.here is not None:
        outcomes, broken = judge_many(
            range(chosen.first, chosen.first + chosen.inputs), chosen.here, chosen.here / "at",
            judge_table if chosen.tables else judge_seed,
        )  # fmt: skip
        print(json.dumps([outcomes, broken]))
        return 0
    seeds = range(chosen.first, chosen.first + chosen.inputs)
    return _campaign(seeds, chosen.at_once, ["--tables"] if chosen.tables else [])


def _campaign(seeds: range, at_once: int, options: Sequence[str]) -> int:
    """In processes of their own, so that one which an input ends is one finding, and not the end."""
    begun, outcomes, broken = time.monotonic(), Counter[str](), list[str]()
    waiting = [seeds[at : at + AT_A_TIME] for at in range(0, len(seeds), AT_A_TIME)]
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-inputs-") as scratch,
        ThreadPoolExecutor(at_once) as pool,
    ):
        for found, wrong in pool.map(
            lambda part: _apart(part, Path(scratch, str(part.start)), options), waiting
        ):
            outcomes.update(found)
            broken += wrong
            print(*wrong, sep="\n", end="\n" if wrong else "", flush=True)
    seconds, num_inputs = time.monotonic() - begun, sum(outcomes.values())
    print(f"{num_inputs:,} inputs in {seconds:,.0f} s: {dict(outcomes)}; {len(broken)} broke a promise")
    return 1 if broken else 0


def _apart(seeds: range, home: Path, options: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    home.mkdir()
    command = [sys.executable, "-m", "tests.campaigns.fuzzing.inputs", "--here", str(home), *options]
    command += ["--first", str(seeds.start), "--inputs", str(len(seeds))]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode:
        seed = (home / "at").read_text()
        return {"ended": 1}, [f"seed {seed}: ended the process ({ended.returncode}): {ended.stderr[-300:]}"]
    found, wrong = json.loads(ended.stdout.splitlines()[-1])
    return found, wrong


if __name__ == "__main__":
    sys.exit(main())
