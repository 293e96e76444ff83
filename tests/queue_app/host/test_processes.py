"""Processes that a job starts: they end with it, and left-overs are found."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from checkpoint.process_identity import ProcessId, host_key, identify
from queue_app.coordination.workers import Owner
from queue_app.errors import JobBusy
from queue_app.host.file_lock import FileLock
from queue_app.host.own_files import NotOurs
from queue_app.host.processes import ProcessFile, spawn, stop
from queue_app.worker.supervisor import last_words, log_size
from tests.support.other_user import NOBODY, PRECIOUS, needs_root, of_nobody, precious
from tests.support.waiting import wait_for

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_left_overs_of_an_earlier_run_are_ended(tmp_path: Path) -> None:
    process = spawn(SLEEPER, log=tmp_path / "log", env=os.environ)
    ProcessFile(tmp_path / "processes.json").record("gpu0", process.pid)
    assert ProcessFile(tmp_path / "processes.json").end_leftovers() == ["gpu0"]
    assert process.wait() == -9


def test_a_reused_pid_is_never_taken_for_a_left_over(tmp_path: Path) -> None:
    process = spawn(SLEEPER, log=tmp_path / "log", env=os.environ)
    try:
        path = tmp_path / "processes.json"
        path.write_text(f'{{"gpu0": {{"pid": {process.pid}, "start_time": 1}}}}')
        assert ProcessFile(path).end_leftovers() == []
        assert process.poll() is None
    finally:
        stop(process, grace_seconds=0)


def noted(path: Path, **processes: ProcessId | None) -> ProcessFile:
    path.write_text(json.dumps({name: process and asdict(process) for name, process in processes.items()}))
    return ProcessFile(path)


def test_a_process_that_was_not_started_as_ours_are_is_never_ended(tmp_path: Path) -> None:
    """Whoever names it: a planted list, or one that was copied with its directory."""
    process = subprocess.Popen(SLEEPER)
    try:
        path = tmp_path / "processes.json"
        assert noted(path, gpu0=identify(process.pid), tests=identify(os.getpid())).end_leftovers() == []
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


@needs_root
def test_a_process_of_another_user_is_never_ended(tmp_path: Path) -> None:
    process = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True, user=NOBODY, group=NOBODY)
    try:
        assert noted(tmp_path / "processes.json", gpu0=identify(process.pid)).end_leftovers() == []
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


@needs_root
@pytest.mark.parametrize("planted", ["of another user", "a link", "another name"])
def test_a_list_of_processes_that_another_could_have_planted_ends_nobody(
    planted: str, tmp_path: Path
) -> None:
    process = spawn(SLEEPER, log=tmp_path / "log", env=os.environ)
    try:
        path = tmp_path / "processes.json"
        listed = noted(tmp_path / "planted", gpu0=identify(process.pid)).path
        {
            "of another user": lambda: of_nobody(listed).rename(path),
            "a link": lambda: path.symlink_to(listed),
            "another name": lambda: os.link(listed, path),
        }[planted]()
        assert ProcessFile(path).end_leftovers() == []
        assert process.poll() is None
    finally:
        stop(process, grace_seconds=0)


NO_LISTS = [
    b"", b"[]", b"7", b"\xff", b"[" * 99_999, b'{"gpu0": 7}', b'{"gpu0": {}}',
    b'{"gpu0": {"pid": -1, "start_time": 0}}', b'{"gpu0": {"pid": true, "start_time": 1}}',
    b'{"gpu0": {"pid": "1", "start_time": 1}}',
]  # fmt: skip


@pytest.mark.parametrize("content", NO_LISTS)
def test_a_list_of_processes_that_is_none_ends_nobody(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "processes.json").write_bytes(content)
    assert ProcessFile(tmp_path / "processes.json").end_leftovers() == []


def test_a_log_that_is_a_link_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(precious(tmp_path / "target"))
    with pytest.raises(NotOurs):
        spawn(SLEEPER, log=tmp_path / "log", env=os.environ)
    assert (tmp_path / "target").read_text() == PRECIOUS


def test_a_process_that_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    stubborn = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    log = tmp_path / "log"
    process = spawn([sys.executable, "-c", stubborn], log=log, env=os.environ)
    child = int(wait_for(log.read_text, "the child's pid"))
    stop(process, grace_seconds=0.1)
    assert process.returncode == -9
    wait_for(lambda: identify(child) is None, "the child to die")


def test_a_corpse_counts_as_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    identity = identify(process.pid)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert identify(process.pid) is None
        if identity is not None:
            assert Owner("cpu0@here", host_key(), identity).is_provably_dead()
    finally:
        process.wait()


def test_an_owner_survives_its_way_through_redis() -> None:
    owner = Owner.current("gpu0@here")
    assert Owner.decode(owner.encode()) == owner
    assert Owner.decode("") is None
    assert not owner.is_provably_dead()


def test_nothing_is_proved_about_a_process_of_another_host() -> None:
    gone = ProcessId(2**22 - 1, 1)
    assert Owner("gpu0@here", host_key(), gone).is_provably_dead()
    assert not Owner("gpu0@there", "another-boot:1", gone).is_provably_dead()


def test_the_lock_names_its_holder_and_goes_with_it(tmp_path: Path) -> None:
    holder = (
        "import sys, time; from pathlib import Path; from queue_app.host.file_lock import FileLock;"
        "FileLock(Path(sys.argv[1])).acquire(); print('held', flush=True); time.sleep(600)"
    )
    path = tmp_path / "lock"
    process = subprocess.Popen([sys.executable, "-c", holder, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        with pytest.raises(JobBusy, match=str(process.pid)):
            FileLock(path).acquire()
        process.kill()
        process.wait()
    with FileLock(path):
        pass


def test_a_worker_is_not_blamed_for_what_an_earlier_one_said(tmp_path: Path) -> None:
    log = tmp_path / "cpu0.log"
    log.write_text("[2026-01-01 00:00:00,000: CRITICAL/MainProcess] the disk is on fire\n")
    born_at = log_size(log)
    with log.open("a") as file:
        file.write("cpu0 has a worker already\n")
    assert last_words(log) == "the disk is on fire"
    assert last_words(log, born_at) == "cpu0 has a worker already"
