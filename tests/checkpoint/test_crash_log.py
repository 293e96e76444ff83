"""The note of what was being computed: what it makes of deaths."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from checkpoint.crash_log import CrashLimits, CrashLog


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flight.json"


def die_in_probe(path: Path, ordinal: int) -> None:
    """A process notes a probe and is gone; this one, its parent, saw it."""
    code = (
        "import os, sys, pathlib; from checkpoint.crash_log import CrashLog;"
        "CrashLog.open(pathlib.Path(sys.argv[1])).begin_probe(int(sys.argv[2])); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path), str(ordinal)], check=False)


def test_a_process_that_ended_in_order_leaves_no_suspicion(path: Path) -> None:
    log = CrashLog.open(path)
    log.begin(3)
    log.landed(3)
    log.begin(4)
    log.rest()
    assert CrashLog.open(path).suspects == ()


def test_what_was_in_flight_at_a_death_is_suspected(path: Path) -> None:
    log = CrashLog.open(path)
    for batch_idx in (3, 4):
        log.begin(batch_idx)
    after = CrashLog.open(path)
    assert after.suspects == (3, 4)
    assert not after.must_probe(3)


def test_two_deaths_in_a_batch_call_for_probes(path: Path) -> None:
    for _ in range(2):
        CrashLog.open(path).begin(3)
    assert CrashLog.open(path).must_probe(3)


def test_deaths_that_came_from_outside_ask_for_more_deaths_of_the_accused(path: Path) -> None:
    CrashLog.open(path).begin(3)
    CrashLog.open(path).landed(3)  # so it was not the batch
    for _ in range(2):
        die_in_probe(path, 17)
        assert list(CrashLog.open(path).accused) == []
    die_in_probe(path, 17)
    assert list(CrashLog.open(path).accused) == [17]


def test_a_record_that_passes_after_a_death_proves_that_it_came_from_outside(path: Path) -> None:
    die_in_probe(path, 16)
    CrashLog.open(path).passed(16)
    for _ in range(2):
        die_in_probe(path, 17)
    assert list(CrashLog.open(path).accused) == []


def test_what_only_flew_beside_a_poison_proves_nothing(path: Path) -> None:
    log = CrashLog.open(path)
    for batch_idx in (3, 4):
        log.begin(batch_idx)
    CrashLog.open(path).landed(3)  # it was in flight when 4 ended the process
    for _ in range(2):
        die_in_probe(path, 17)
    assert list(CrashLog.open(path).accused) == [17]


def test_a_poison_explains_the_deaths_in_its_batch(path: Path) -> None:
    CrashLog.open(path).begin(3)
    for _ in range(2):
        die_in_probe(path, 17)
    CrashLog.open(path).landed(3)  # without that record
    for _ in range(2):
        die_in_probe(path, 18)
    assert list(CrashLog.open(path).accused) == [17, 18]


def test_a_poison_is_accused_in_the_end_however_much_dies_around_it(path: Path) -> None:
    for batch_idx in range(20):
        CrashLog.open(path).begin(batch_idx)
        CrashLog.open(path).landed(batch_idx)
    for _ in range(6):
        die_in_probe(path, 17)
    assert list(CrashLog.open(path).accused) == [17]


def test_the_number_of_deaths_that_calls_for_probes_is_a_setting(path: Path) -> None:
    CrashLog.open(path).begin(3)
    assert CrashLog.open(path, CrashLimits(probe_after=1)).must_probe(3)


def test_the_number_of_deaths_that_accuses_is_a_setting(path: Path) -> None:
    die_in_probe(path, 17)
    assert list(CrashLog.open(path, CrashLimits(accuse_after=1)).accused) == [17]


def test_a_batch_that_lands_is_cleared_of_all_suspicion(path: Path) -> None:
    for _ in range(2):
        CrashLog.open(path).begin(3)
    CrashLog.open(path).landed(3)
    assert CrashLog.open(path).suspects == ()


def test_a_record_is_accused_after_two_deaths_that_its_parent_saw(path: Path) -> None:
    die_in_probe(path, 17)
    assert CrashLog.open(path).accused == {}
    die_in_probe(path, 17)
    assert list(CrashLog.open(path).accused) == [17]


def test_a_death_that_took_the_parent_along_accuses_nobody(path: Path) -> None:
    for _ in range(5):
        die_in_probe(path, 17)
        note = json.loads(path.read_bytes())
        note["parent"] = [2**22 - 1, 1]
        path.write_text(json.dumps(note))
    assert CrashLog.open(path).accused == {}


def test_deaths_in_different_records_accuse_neither(path: Path) -> None:
    die_in_probe(path, 17)
    die_in_probe(path, 18)
    assert CrashLog.open(path).accused == {}


def test_a_record_that_passed_is_not_tried_again(path: Path) -> None:
    log = CrashLog.open(path)
    log.begin_probe(5)
    log.passed(5)
    assert CrashLog.open(path).is_settled(5)
    assert not CrashLog.open(path).is_settled(6)


def test_an_error_counts_as_a_death_and_is_named(path: Path) -> None:
    for _ in range(2):
        log = CrashLog.open(path)
        log.begin_probe(5)
        log.failed(ValueError("no such residue"))
    assert "ValueError: no such residue" in CrashLog.open(path).accused[5]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"other": 1}', bytes(range(192, 256))])
def test_a_note_that_cannot_be_read_is_as_good_as_none(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert CrashLog.open(path).suspects == ()
