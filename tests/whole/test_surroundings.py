"""Whatever starts Holdfast, and wherever: the same job, the same vectors, and nobody else is touched."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import redis

from tests.support.command_runs import environment
from tests.support.jobs_and_inputs import write_fasta
from tests.support.model_directories import save_esm2
from tests.support.waiting import wait_for

HOLDFAST = Path(sys.executable).with_name("holdfast")
NAMES = ("checkpoint", "tokenizers", "celeryconfig", "redis", "h5py", "torch", "celery", "pyarrow")
"""Of modules that a run imports, as a user may call his own files."""
EMBED = ["embed", "a.fasta", "-m", "mock:8", "-o", "out.npy", "--device", "cpu", "--workers", "1"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A working directory with an input, and a file for each of NAMES that ends whoever imports it."""
    write_fasta(tmp_path / "a.fasta", 20)
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the user was imported')\n")
    return tmp_path


def run(home: Path, *arguments: str, shell: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """The console script in `home`, its streams redirected as a shell is told to."""
    command = ["sh", "-c", f'exec "$0" "$@" {shell}', str(HOLDFAST), *arguments]
    ended = subprocess.run(
        command, cwd=home, capture_output=True, text=True, env=environment(**env), timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    return ended


@pytest.mark.parametrize("path", ["", ":", "."])
def test_a_file_in_the_working_directory_is_never_taken_for_a_module(home: Path, path: str) -> None:
    run(home, *EMBED, PYTHONPATH=path)
    run(home, "plan", "a.fasta", "-m", "mock:8", "--device", "cpu", "--seconds", "1", PYTHONPATH=path)
    assert "finished and sound" in run(home, "verify", "out.npy", PYTHONPATH=path).stdout
    assert np.load(home / "out.npy").shape == (20, 8)


def test_a_worker_that_celery_starts_there_imports_none_of_them_either(
    home: Path, server_url: str, client: redis.Redis
) -> None:
    celery = [str(HOLDFAST.with_name("celery")), "-A", "queue_app", "worker", "-Q", "cpu0"]
    env = environment(HOLDFAST_BROKER_URL=server_url, TMPDIR=str(home))
    worker = subprocess.Popen(celery, cwd=home, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: client.hlen("holdfast:workers"), "the worker")
        run(home, "enqueue", *EMBED[1:6], "--queues", "cpu0", HOLDFAST_BROKER_URL=server_url)
        wait_for((home / "out.npy.card.json").exists, "the output")
    finally:
        worker.send_signal(signal.SIGTERM)
        said = worker.communicate(timeout=60)[0].decode()
    assert "of the user" not in said


def test_what_tells_another_application_of_its_celery_is_not_heard(
    home: Path, server_url: str, client: redis.Redis
) -> None:
    theirs = {
        "CELERY_BROKER_URL",
        "CELERY_BROKER_READ_URL",
        "CELERY_BROKER_WRITE_URL",
        "CELERY_RESULT_BACKEND",
    }
    others = {"CELERY_CONFIG_MODULE": "theirs", "CELERY_LOADER": "theirs", "DJANGO_SETTINGS_MODULE": "theirs"}
    run(home, *EMBED, **dict.fromkeys(theirs, server_url), **others)
    assert client.keys() == []


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_a_closed_stream_is_as_good_as_dev_null(home: Path, closed: str) -> None:
    ended = run(home, *EMBED, shell=closed)
    assert np.load(home / "out.npy").shape == (20, 8)
    assert ("Traceback" in ended.stderr, "NoneType" in ended.stderr) == (False, False)
    assert ended.stdout == "" or "2" in closed or "<" in closed
    run(home, "status", "out.npy", shell=closed)


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ("-v 60000", "ulimit -v allows 60,000 KiB of address space to a process"),
        ("-f 1", "ulimit -f allows 1 KiB to a file"),
        ("-f 300", "out.npy: would be larger than a file may be here (ulimit -f: 307,200 bytes)"),
    ],
)
def test_a_limit_that_is_too_low_is_named_in_one_line(home: Path, limit: str, told: str) -> None:
    write_fasta(home / "a.fasta", 300)
    script = f'ulimit {limit}; exec "$0" embed a.fasta -m mock:512 -o out.npy --device cpu --quiet'
    command = ["bash", "-c", script, str(HOLDFAST)]
    ended = subprocess.run(command, cwd=home, capture_output=True, text=True, env=environment(), timeout=60)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("holdfast: ")
    assert told in line


NO_NETWORK = ["unshare", "--user", "--map-root-user", "--net"]


@pytest.mark.skipif(
    subprocess.run([*NO_NETWORK, "true"]).returncode != 0, reason="no network namespaces here"
)
def test_a_host_that_cannot_reach_itself_is_told_so_in_one_line_at_once(home: Path) -> None:
    command = [*NO_NETWORK, str(HOLDFAST), *EMBED]
    ended = subprocess.run(command, cwd=home, capture_output=True, text=True, env=environment(), timeout=60)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("holdfast: 127.0.0.1 cannot be reached (")
    assert not (home / "out.npy.holdfast").exists()


def test_the_warning_of_a_library_ends_no_job(home: Path) -> None:
    (home / "esm2").mkdir()
    save_esm2(home / "esm2")
    run(home, *EMBED, "-m", "esm2", PYTHONWARNINGS="error", PYTHONPATH=":")
    assert json.loads((home / "out.npy.card.json").read_text())["counts"]["embedded"] == 20
