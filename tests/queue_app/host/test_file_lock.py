"""The lock of a job directory."""

import threading
from pathlib import Path

from queue_app.host.file_lock import FileLock, is_held


def test_whoever_only_looks_at_a_job_keeps_nobody_from_it(tmp_path: Path) -> None:
    path, ended = tmp_path / "lock", threading.Event()
    path.touch()

    def look() -> None:
        while not ended.is_set():
            is_held(path)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(200):
            with FileLock(path):
                pass
    finally:
        ended.set()
        looking.join()
