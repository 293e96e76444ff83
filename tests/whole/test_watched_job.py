"""One job from outside: its worker is killed, then its command; it is run again, and watched throughout."""

import io
import json
import re
import shlex
import subprocess
import sys
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from queue_app.status.screens import PlainView
from queue_app.status.watch import exit_code, watch
from tests.support.command_runs import (
    environment,
    holdfast,
    kill_tree,
    running,
    untimed,
    wait_for_progress,
)
from tests.support.jobs_and_inputs import protein, write_fasta
from tests.support.waiting import wait_for

NUM_RECORDS = 200
JOB = ["-m", "mock:16,delay_ms=40", "--toks-per-batch", "512", "--commit-seconds", "0.2", "--shards", "2"]
"""Of two shards one is always in hand, however long it takes to get the other."""
CPU = ["--device", "cpu", "--workers", "1"]
TOLD = ("worker cpu0 died and was started again", "taken back from cpu0@")


@dataclass(frozen=True)
class Watched:
    """What came of it. `seen` is the status while it ran, `watched` what `status --watch` printed."""

    output: Path
    first: str
    second: subprocess.CompletedProcess[str]
    seen: dict[str, Any]
    watched: str
    watch_code: int

    @property
    def card(self) -> Any:
        return json.loads(self.output.with_name("out.npy.card.json").read_text())


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    home = tmp_path_factory.mktemp("watched")
    fasta = write_fasta(home / "a.fasta", NUM_RECORDS)
    fasta.write_text(fasta.read_text() + ">bad\nMK4V\n")
    output, job_dir = home / "out.npy", home / "out.npy.holdfast"
    command = ["embed", fasta, "-o", output, *JOB, *CPU]
    with running(*command) as first:
        seen = wait_for_progress(job_dir, 0.2, first)
        # Within: on a crowded machine the command comes too late.
        watching = WatchAside(output)
        kill_tree(seen["workers"][0]["pid"])
        printed = lines_until_told(first)
        wait_for(lambda: all(told in watching.stream.getvalue() for told in TOLD), "the watch to tell it too")
        first.kill()
        first.wait()
        second = holdfast(*command, expect=3)
    code = watching.ended.result(timeout=60)
    return Watched(output, printed, second, seen, watching.stream.getvalue(), code)


class WatchAside:
    """`status --watch` in a thread, which has shown a first line; `ended` answers its exit code."""

    def __init__(self, output: Path) -> None:
        self.stream = io.StringIO()
        self.ended: Future[int] = Future()
        view = PlainView(self.stream)
        Thread(target=self._run, args=(str(output), view), daemon=True).start()
        wait_for(self.stream.getvalue, "the watch's first line")

    def _run(self, job: str, view: PlainView) -> None:
        try:
            self.ended.set_result(exit_code(watch(job, None, view)))
        except BaseException as error:
            self.ended.set_exception(error)


def lines_until_told(process: subprocess.Popen[str]) -> str:
    """What the command prints until it has told of the worker's death."""
    assert process.stdout is not None
    printed = ""
    while not all(told in printed for told in TOLD):
        line = process.stdout.readline()
        assert line, printed
        printed += line
    return printed


def test_a_killed_worker_and_its_shard_are_told_as_it_happens_in_plain_lines(job: Watched) -> None:
    lines = untimed(job.first).splitlines()
    assert TOLD[0] in lines
    assert any(re.fullmatch(rf"shard \d+ {TOLD[1]}\S+: its process \d+ is gone", line) for line in lines)
    assert "\x1b" not in job.first


def test_who_watches_from_elsewhere_sees_the_same_until_the_end(job: Watched) -> None:
    lines = untimed(job.watched).splitlines()
    assert lines.count(TOLD[0]) == 1
    assert TOLD[1] in job.watched
    assert lines[-1].startswith(f"done  {NUM_RECORDS + 1}/{NUM_RECORDS + 1} sequences (100%)")


def test_the_watch_ends_with_the_jobs_own_exit_code(job: Watched) -> None:
    assert job.watch_code == 3


def test_status_shows_what_each_worker_computes(job: Watched) -> None:
    (worker,) = job.seen["workers"]
    assert worker["figures"]["sequences_per_second"] > 0
    assert job.seen["tokens_per_second"] == worker["figures"]["tokens_per_second"] > 0
    assert 0 < worker["figures"]["fill"] <= 1
    assert 0 <= worker["shard_done"] <= worker["shard_total"]


def test_the_run_card_of_a_resumed_job_is_right(job: Watched) -> None:
    card = job.card
    counts = card["counts"]
    assert (counts["records"], counts["embedded"], counts["quarantined"]) == (NUM_RECORDS + 1, NUM_RECORDS, 1)
    assert card["faults"]["command_starts"] == 2
    assert card["faults"]["worker_deaths"] == 1
    assert card["faults"]["shards_recovered"] >= 1
    assert card["throughput"]["num_tokens"] == sum(len(protein(n)) + 2 for n in range(NUM_RECORDS))
    assert [device["num_workers"] for device in card["devices"]] == [1]


def test_the_last_words_name_what_was_survived(job: Watched) -> None:
    assert f"{NUM_RECORDS} of {NUM_RECORDS + 1} sequences embedded\n" in job.second.stdout
    assert "survived 1 worker death and " in job.second.stdout
    card, steps = job.second.stdout.split("\nnext:\n")
    assert card.endswith(f"run card {job.output}.card.md")
    assert f"  holdfast quarantine {job.output} " in steps


def test_the_cards_command_is_that_of_the_job(job: Watched) -> None:
    """A single option that differs would be refused."""
    words = shlex.split(job.card["command"])
    command = [sys.executable, "-m", "queue_app.cli.main", *words[1:]]
    again = subprocess.run([*command, "--workers", "1"], capture_output=True, text=True, env=environment())
    assert "done already" in again.stderr, again.stderr
    assert again.returncode == 3


def test_a_job_that_has_ended_is_shown_once(job: Watched) -> None:
    ended = holdfast("status", job.output, "--watch", expect=3)
    named, shown = untimed(ended.stdout).splitlines()
    assert named == f"job {job.card['job']}"
    assert shown.startswith("done ")
