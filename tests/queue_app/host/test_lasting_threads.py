"""A thread that a process cannot do without takes the process with it, for all to see."""

import subprocess
import sys

from queue_app.host.lasting_threads import UNEXPECTED_STATUS

PROGRAM = """
import logging, threading
from queue_app.host.lasting_threads import lasting_thread
logging.basicConfig(format="%(levelname)s %(message)s")
def run():
    {body}
lasting_thread("heartbeat", run).start()
threading.Event().wait({seconds})
"""


def ran(body: str, seconds: float) -> "subprocess.CompletedProcess[str]":
    program = PROGRAM.format(body=body, seconds=seconds)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)


def test_a_thread_that_dies_ends_its_process_and_says_of_what() -> None:
    ended = ran("raise ValueError('odd')", 50)
    assert ended.returncode == UNEXPECTED_STATUS
    assert "CRITICAL this process ends: thread heartbeat died: ValueError: odd" in ended.stderr


def test_a_thread_that_comes_to_its_end_ends_nothing() -> None:
    assert ran("pass", 0.2).returncode == 0
