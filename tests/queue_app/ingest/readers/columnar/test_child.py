"""The child that reads Parquet and Arrow: whatever becomes of it is one line, and the next file is read."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from checkpoint.process_identity import identify
from queue_app.errors import InputError
from queue_app.ingest.readers.columnar import child
from queue_app.ingest.readers.columns import Columns
from queue_app.ingest.readers.formats import FORMATS
from queue_app.ingest.readers.sources import Input, open_source
from queue_app.ingest.readers.values import Row
from tests.support.waiting import wait_for

NUM_ROWS = 20_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    table = pa.table({"id": [*map(str, range(NUM_ROWS))], "seq": ["MKV"] * NUM_ROWS})
    pq.write_table(table, tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


def rows(path: Path) -> Iterator[Row]:
    with open_source(Input(path, path)) as source:
        yield from FORMATS["parquet"].read(source, Columns())


def pid_of_child() -> int:
    found: int = child._of_thread.child.process.pid
    return found


def test_one_child_reads_file_after_file(path: Path) -> None:
    pids = set()
    for _ in range(5):
        assert len([*rows(path)]) == NUM_ROWS
        pids.add(pid_of_child())
    assert len(pids) == 1


def test_a_file_that_is_left_in_its_middle_is_no_trouble_for_the_next_one(path: Path) -> None:
    for _ in range(3):
        assert next(rows(path)).id == "0"
    before = pid_of_child()
    assert [row.id for row in rows(path)] == [*map(str, range(NUM_ROWS))]
    assert pid_of_child() == before


def test_two_files_that_are_read_at_the_same_time_do_not_mix(path: Path) -> None:
    both = zip(rows(path), rows(path), strict=True)
    assert all(one.id == other.id == str(number) for number, (one, other) in enumerate(both))


@pytest.mark.parametrize("signum", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_crash_of_the_child_names_the_file_and_the_row_and_the_next_file_is_read(
    path: Path, signum: signal.Signals
) -> None:
    reading = rows(path)
    next(reading)
    os.kill(pid_of_child(), signum)
    with pytest.raises(InputError, match=rf"a.parquet: behind row [\d,]+: .*\({signum.name}\)") as refused:
        assert [*reading]
    assert "\n" not in str(refused.value)
    assert len([*rows(path)]) == NUM_ROWS


def test_an_idle_child_that_has_ended_is_replaced(path: Path) -> None:
    [*rows(path)]
    os.kill(pid_of_child(), signal.SIGKILL)
    wait_for(lambda: identify(pid_of_child()) is None, "the end of the child")
    assert len([*rows(path)]) == NUM_ROWS


def test_a_child_that_comes_no_further_is_ended(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "PYTHON", (sys.executable, "-c", "while True: pass"))
    monkeypatch.setattr(child, "STANDSTILL_SECONDS", 0.2)
    monkeypatch.setattr(child, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(child._of_thread, "child", None, raising=False)
    with pytest.raises(InputError, match=r"a.parquet: behind row 0: what reads it came no further in"):
        [*rows(path)]
    wait_for(lambda: identify(pid_of_child()) is None, "the end of the child")


def test_the_child_ends_with_its_parent(path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from queue_app.ingest.records import Dataset;"
        "from queue_app.ingest.readers.sources import Input;"
        "from queue_app.ingest.readers.columnar import child as c;"
        "path = Path(sys.argv[1]); next(iter(Dataset([Input(path, path)], alphabet='text')));"
        "print(c._of_thread.child.process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    started = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    wait_for(lambda: identify(int(started.stdout)) is None, "the end of the child")


def test_a_name_that_means_another_file_meanwhile_changes_nothing(path: Path) -> None:
    """What is read is what is hashed: the open file, whatever lies under its name."""
    with open_source(Input(path, path)) as source:
        path.unlink()
        path.write_bytes(b"another")
        assert len([*FORMATS["parquet"].read(source, Columns())]) == NUM_ROWS
        assert source.file().size_bytes > len(b"another")
