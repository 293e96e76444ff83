"""A confined child gets so much memory and no more, and it is told from a slow one when it stands still."""

import subprocess
import sys

import pytest

from queue_app.host.child_processes.confined_child import Standstill
from tests.support.waiting import wait_for

CONFINED = "from queue_app.host.child_processes.confined_child import confine; confine(256 << 20)\n"


def said_by(code: str) -> str:
    command = [sys.executable, "-c", CONFINED + code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(("mib", "said"), [(64, "held"), (1024, "MemoryError")])
def test_more_memory_than_allowed_is_an_error_that_can_be_caught(mib: int, said: str) -> None:
    code = f"try: held = bytearray({mib} << 20); print('held')\nexcept MemoryError: print('MemoryError')"
    ended = subprocess.run(
        [sys.executable, "-c", CONFINED + code], capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == said


def test_a_mapped_file_takes_nothing_of_the_memory() -> None:
    code = (
        "import mmap, tempfile; file = tempfile.TemporaryFile(); file.truncate(1 << 30);"
        "print(len(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", CONFINED + code], capture_output=True, text=True, check=True
    )
    assert int(ended.stdout) == 1 << 30


BUSY = "while True: pass"
WAITING = "import time; print('there', flush=True); time.sleep(600)"
READING = "file = open('/dev/zero', 'rb')\nwhile True: file.read(1 << 20)"


@pytest.mark.parametrize(("code", "stands_still"), [(BUSY, True), (WAITING, False), (READING, False)])
def test_who_computes_without_reading_stands_still_and_who_waits_does_not(
    code: str, stands_still: bool
) -> None:
    busy, other = (
        subprocess.Popen([sys.executable, "-c", each], stdout=subprocess.DEVNULL) for each in (BUSY, code)
    )
    try:
        known, tried = Standstill(busy.pid), Standstill(other.pid)
        wait_for(lambda: known.seconds() > 0.2, "some computing")
        if stands_still:
            wait_for(lambda: tried.seconds() > 0.2, "some computing")
            tried.moved()
        assert tried.seconds() < 0.2
    finally:
        for process in (busy, other):
            process.kill()
            process.wait()
