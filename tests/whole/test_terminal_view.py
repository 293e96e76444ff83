"""What a run shows of itself, on a terminal and elsewhere."""

import os
import pty
import re
import signal
import subprocess
from pathlib import Path

from queue_app.status.text import UNATTENDED
from tests.support.command_runs import HOLDFAST, environment, holdfast, status
from tests.support.jobs_and_inputs import write_fasta

JOB = ["-m", "mock:8,delay_ms=50", "--toks-per-batch", "300", "--device", "cpu", "--workers", "1"]


def on_a_terminal(*arguments: str | Path, interrupt_at: str | None = None, expect: int = 0) -> str:
    """What the command writes to a terminal of 110 columns, without its control sequences.

    With `interrupt_at` Ctrl-C is pressed once the terminal shows what this pattern matches.
    """
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [*HOLDFAST, *map(str, arguments)], stdin=its, stdout=its, stderr=its,
        env=environment(COLUMNS="110", TERM="xterm"),
    )  # fmt: skip
    os.close(its)
    shown = b""
    try:
        while data := _read(ours):
            shown += data
            if interrupt_at and re.search(interrupt_at, shown.decode(errors="replace")):
                interrupt_at = None
                process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == expect, shown.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # how Linux says that the other side is closed
        return b""


def test_a_terminal_shows_a_bar_with_rate_and_what_was_written(tmp_path: Path) -> None:
    shown = on_a_terminal("embed", write_fasta(tmp_path / "a.fasta", 200), "-o", tmp_path / "a.npy", *JOB)
    counts = [int(count) for count in re.findall(r"(\d+)/200 sequences", shown)]
    assert counts == sorted(counts)
    assert len(set(counts)) > 3
    assert counts[-1] == 200
    assert "seq/s" in shown
    assert "200 of 200 sequences embedded" in shown


def test_the_last_picture_of_an_interrupted_run_is_how_far_it_is(tmp_path: Path) -> None:
    command = ["embed", write_fasta(tmp_path / "a.fasta", 400), "-o", tmp_path / "a.npy", *JOB]
    shown = on_a_terminal(*command, interrupt_at=r"[1-9]\d*/400 sequences", expect=130)
    after = shown.partition("stopping: ")[2]
    last = after[after.rindex("/400 sequences") :]
    assert UNATTENDED in last
    assert "left" not in last
    done = status(tmp_path / "a.npy")["sequences"]["done"]
    assert int(re.findall(r"(\d+)/400 sequences", after)[-1]) == done > 0


def test_elsewhere_there_are_plain_lines_without_control_sequences(tmp_path: Path) -> None:
    ended = holdfast("embed", write_fasta(tmp_path / "a.fasta", 20), "-o", tmp_path / "a.npy", *JOB)
    assert "\x1b" not in ended.stderr
    assert "\r" not in ended.stderr
    assert "done  20/20 sequences (100%), 1/1 shards" in ended.stderr
    assert "submitted: 20 sequences in 1 shard, 1 to do" in ended.stderr


def test_quiet_is_quiet(tmp_path: Path) -> None:
    ended = holdfast(
        "embed", write_fasta(tmp_path / "a.fasta", 20), "-o", tmp_path / "a.npy", *JOB, "--quiet"
    )
    assert ended.stderr == ""
