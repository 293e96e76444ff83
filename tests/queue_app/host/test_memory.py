"""What a worker's process does to hold less memory; each in a process of its own, as it cannot be undone."""

import subprocess
import sys
from pathlib import Path

from queue_app.host.processes import ProcessFile
from queue_app.worker.supervisor import GPUProcessCoordinator
from tests.support import ROOT


def answer_of(script: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return ended.stdout.strip()


def test_arrays_do_not_import_pandas_and_it_can_still_be_imported() -> None:
    script = (
        "import sys; import numpy as np; import pyarrow as pa;"
        "from queue_app.host.memory import do_without_pandas; do_without_pandas();"
        "pa.array(np.arange(3)); pa.table({'a': ['b']})['a'].to_pylist();"
        "print('pandas' in sys.modules); import pandas; print(pandas.__name__)"
    )
    assert answer_of(script).split() == ["False", "pandas"]


def test_what_was_freed_between_what_is_in_use_is_given_back() -> None:
    script = (
        "import os; from pathlib import Path; from queue_app.host.memory import give_memory_back;"
        "held = lambda: int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE');"
        "blocks = [bytearray(100_000) for _ in range(2_000)]; kept = blocks[::50]; full = held();"
        "del blocks; give_memory_back(); print(full - held() > 100_000_000)"
    )
    assert answer_of(script) == "True"


def test_workers_start_with_few_heaps_unless_the_user_says_otherwise(tmp_path: Path) -> None:
    def heaps(env: dict[str, str]) -> str:
        return GPUProcessCoordinator(["cpu0"], env, None, ProcessFile(tmp_path / "a.json")).env[
            "MALLOC_ARENA_MAX"
        ]

    assert (heaps({}), heaps({"MALLOC_ARENA_MAX": "8"})) == ("2", "8")
