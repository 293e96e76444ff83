"""What a user's processes remember of their fleets, and that it stays small, private and harmless."""

import multiprocessing
import os
import shutil
from pathlib import Path

import pytest

from queue_app.host import fleet_memory
from queue_app.host.fleet_memory import FleetMemory

A, B = "a" * 16, "b" * 16
SERVER = "queue-host:6379/0"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def jobs(tmp_path: Path) -> list[Path]:
    """Three directories, in the order of their names."""
    made = [tmp_path / f"{name}.npy.holdfast" for name in "abc"]
    for directory in made:
        directory.mkdir()
    return made


def test_what_one_process_notes_the_next_one_knows(state: Path, jobs: list[Path]) -> None:
    first = FleetMemory(state)
    first.note_fleet(SERVER, A)
    first.note_directory(A, jobs[0])
    first.note_directory(B, jobs[1])
    then = FleetMemory(state)
    assert then.fleet_at(SERVER) == A
    assert then.fleet_at("another:6379/0") is None
    assert then.directories([A]) == [jobs[0]]
    assert then.directories([A, B]) == jobs[:2]


def test_the_fleet_that_a_server_has_now_takes_the_place_of_that_of_before(state: Path) -> None:
    for fleet in (A, B, B):
        FleetMemory(state).note_fleet(SERVER, fleet)
    assert FleetMemory(state).fleet_at(SERVER) == B


def test_what_was_seen_stays_known_though_the_state_directory_is_gone(state: Path, jobs: list[Path]) -> None:
    memory = FleetMemory(state)
    memory.note_fleet(SERVER, A)
    FleetMemory(state).note_directory(A, jobs[0])
    assert memory.directories([A]) == [jobs[0]]
    shutil.rmtree(state)
    assert memory.directories([A]) == [jobs[0]]
    assert memory.fleet_at(SERVER) == A


def test_a_directory_with_nothing_left_to_be_done_is_forgotten_by_all(state: Path, jobs: list[Path]) -> None:
    memory = FleetMemory(state)
    memory.note_directory(A, jobs[0])
    memory.note_directory(A, jobs[1])
    memory.forget_directory(jobs[0])
    assert memory.directories([A]) == FleetMemory(state).directories([A]) == [jobs[1]]


def test_the_memory_is_for_this_user_alone(state: Path, jobs: list[Path]) -> None:
    FleetMemory(state).note_directory(A, jobs[0])
    made = [path for path in (state, *state.rglob("*")) if not path.is_symlink()]
    assert {path.stat().st_mode & 0o777 for path in made} == {0o700}


def test_a_directory_that_others_may_write_is_not_believed(
    state: Path, jobs: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    (state / "fleets").mkdir(parents=True)
    (state / "fleets").chmod(0o777)
    memory = FleetMemory(state)
    memory.note_directory(A, jobs[0])
    memory.note_directory(A, jobs[1])
    assert memory.directories([A]) == jobs[:2], "this process knows"
    assert FleetMemory(state).directories([A]) == []
    (line,) = caplog.messages
    assert "HOLDFAST_STATE" in line


def test_without_a_place_this_process_alone_remembers(jobs: list[Path]) -> None:
    memory = FleetMemory(None)
    memory.note_fleet(SERVER, A)
    memory.note_directory(A, jobs[0])
    assert memory.fleet_at(SERVER) == A
    assert memory.directories([A, B]) == [jobs[0]]
    assert FleetMemory(None).fleet_at(SERVER) is None


def test_the_oldest_directories_go_first_and_before_them_those_that_are_gone(
    state: Path, jobs: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fleet_memory, "DIRECTORIES_MOST", 3)
    memory = FleetMemory(state)
    for age, directory in enumerate([jobs[0], jobs[1], tmp_path / "gone"]):
        memory.note_directory(A, directory)
        (link,) = (each for each in (state / "fleets" / A).iterdir() if each.readlink() == directory)
        os.utime(link, (1000 + age, 1000 + age), follow_symlinks=False)
    memory.note_directory(A, jobs[2])
    assert FleetMemory(state).directories([A]) == jobs
    memory.note_directory(A, tmp_path)
    assert FleetMemory(state).directories([A]) == [tmp_path, *jobs[1:]]


def test_the_fleet_that_nobody_joined_for_the_longest_goes_first(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_memory, "FLEETS_MOST", 2)
    for age, (address, fleet) in enumerate([("a:1/0", A), ("b:1/0", B)]):
        FleetMemory(state).note_fleet(address, fleet)
        os.utime(state / "fleets" / fleet, (1000 + age, 1000 + age))
    FleetMemory(state).note_fleet("a:1/0", A)
    FleetMemory(state).note_fleet("c:1/0", "c" * 16)
    assert {path.name for path in (state / "fleets").iterdir()} == {A, "c" * 16}


def note_many(state: Path, first: int) -> None:
    memory = FleetMemory(state)
    for number in range(first, first + 60, 2):
        memory.note_fleet(SERVER, A)
        memory.note_directory(A, Path(f"/jobs/{number:03d}"))
        memory.note_directory(A, Path("/jobs/common"))


def test_many_processes_remember_at_once_and_nothing_is_lost(state: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=note_many, args=(state, first)) for first in (0, 1, 60, 61)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    expected = [*(Path(f"/jobs/{number:03d}") for number in range(120)), Path("/jobs/common")]
    assert FleetMemory(state).directories([A]) == expected
    assert FleetMemory(state).fleet_at(SERVER) == A
