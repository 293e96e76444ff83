"""What Holdfast takes from the environment that it is started in, and what it leaves alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from queue_app.host.surroundings import child_environment, importable
from tests.support.command_runs import environment


def test_a_path_that_was_named_on_purpose_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert importable(["", ".", str(tmp_path), "/opt/more", "src"]) == ["/opt/more", "src"]
    monkeypatch.setenv("PYTHONPATH", f":/opt/more:{tmp_path}")
    assert child_environment()["PYTHONPATH"] == "/opt/more"


def test_a_library_leaves_the_environment_of_its_program_alone() -> None:
    script = "import os, queue_app; queue_app.app.connection(); print(os.environ['CELERY_BROKER_URL'])"
    env = environment(CELERY_BROKER_URL="redis://theirs/0")
    assert (
        subprocess.check_output([sys.executable, "-c", script], env=env, text=True)
        .strip()
        .endswith("theirs/0")
    )


@pytest.mark.parametrize(
    "starts_threads",
    ["threading.Thread(target=int).start()", "pa.ipc.open_file(io.BytesIO(table)).read_all()"],
)
def test_a_process_without_room_for_a_thread_says_so_in_one_line(starts_threads: str) -> None:
    """Under a real limit, met within the command, as it depends on the machine where a whole job meets it."""
    program = f"""
import io, resource, threading
from pathlib import Path
import pyarrow as pa
from queue_app.cli import main as cli

sink = io.BytesIO()
with pa.ipc.new_file(sink, pa.schema([("a", pa.int64()), ("b", pa.int64())])) as writer:
    writer.write_table(pa.table({{"a": [1], "b": [2]}}))
table = sink.getvalue()

def command(**_):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 20), resource.RLIM_INFINITY))
    {starts_threads}

cli.app = command
cli.main()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert line.startswith("holdfast: this process was refused a thread (ulimit -v allows ")
