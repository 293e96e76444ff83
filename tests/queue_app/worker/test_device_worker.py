"""How a worker takes its device. The processes themselves are tested in test_end_to_end."""

import os
import re
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from queue_app.settings import RuntimeConfig
from queue_app.worker import device_worker, parent_loop
from queue_app.worker.device_worker import NO_WORKER, _only_queue


@pytest.mark.parametrize("queues", [None, "", "gpu0,gpu1", ["gpu0", "gpu1"], ["celery"], ["gpu"]])
def test_a_worker_serves_exactly_one_device(queues: object) -> None:
    with pytest.raises(SystemExit):
        _only_queue(queues)  # type: ignore[arg-type]


def test_a_second_worker_of_a_device_is_told_who_has_it_and_how_to_go_on(tmp_path: Path) -> None:
    twice = (
        "from queue_app.host.queues import Queue\n"
        "from queue_app.settings import runtime_config\n"
        "from queue_app.worker.device_claim import DeviceClaim\n"
        "first, second = (DeviceClaim(Queue('cpu', 0), runtime_config()) for _ in range(2))\n"
        "first.take(); second.take()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", twice],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert ended.returncode == 1
    assert re.search(r"cpu0 has a worker already \(.*process \d+", ended.stderr)
    assert "stop that one, or give it the job with holdfast enqueue" in ended.stderr


def test_importing_the_app_touches_neither_torch_nor_a_model() -> None:
    """The parent imports the tasks; with torch in it, every fork would carry CUDA's state."""
    check = (
        "import sys; from queue_app import app; app.loader.import_default_modules();"
        "assert 'gpu_tasks.embed_shard' in app.tasks; print(sorted({'torch', 'lmdb'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert "torch" not in printed


def test_the_app_holds_one_message_and_gives_it_back() -> None:
    from queue_app import app

    assert app.conf.task_acks_late
    assert app.conf.task_reject_on_worker_lost
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.worker_disable_prefetch
    assert app.conf.worker_concurrency == 1
    assert app.conf.accept_content == ["json"]
    assert not app.conf.worker_enable_remote_control
    assert app.conf.result_backend is None


def test_no_child_is_forked_while_the_reconciler_works() -> None:
    """It would inherit the locks that the reconciler holds, and wait for them for ever."""
    about_to_fork, works, ends = threading.Event(), [True], []

    def fork() -> None:
        child = os.fork()
        if child == 0:
            os._exit(works[0])
        ends.append(os.waitpid(child, 0)[1])

    os.register_at_fork(before=about_to_fork.set)  # of these hooks, the last one registered runs first
    forking = threading.Thread(target=fork)
    with parent_loop.reconciling:
        forking.start()
        about_to_fork.wait()
        works[0] = False
    forking.join()
    assert ends == [0]


def test_a_child_whose_parent_died_before_it_could_ask_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would keep the device's lock, so that no worker could start there again."""
    monkeypatch.setattr(
        device_worker.this_worker, "entry", replace(NO_WORKER, pid=os.getpid() + 1)
    )  # not the parent that the kernel names now
    child = os.fork()
    if child == 0:
        try:
            device_worker.tie_child_to_parent()
        except SystemExit:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_without_a_child_nothing_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pid 0 would be the worker itself, and all of its group."""
    monkeypatch.setattr(device_worker.child_state, "is_stopped", lambda *_: True)
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _: killed.append(pid))
    parent_loop._end_hung(0, RuntimeConfig())
    assert killed == []
    parent_loop._end_hung(17, RuntimeConfig())
    assert killed == [17]


def test_a_worker_process_starts_without_celerys_other_commands_and_what_they_import() -> None:
    program = (
        "import queue_app.worker.__main__, sys; from queue_app.celery_app import app; "
        "app.loader.import_default_modules(); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    unneeded = {"celery.bin.celery", "prompt_toolkit", "flower", "torch", "h5py", "pyarrow"}
    assert "gpu_tasks.task" in loaded
    assert not loaded & unneeded


def test_a_worker_whose_metrics_port_is_taken_does_not_start() -> None:
    """Signal handlers swallow exceptions: it would go on, and nobody would see it."""
    worker = replace(NO_WORKER, queue="cpu1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit, match=rf"cpu1 cannot serve its metrics at .*:{port}/"):
            device_worker._serve_metrics(worker, RuntimeConfig(metrics_port=port - 1))


def test_no_collection_in_a_child_touches_what_it_shares_with_its_parent() -> None:
    program = (
        "import gc; from queue_app.worker.device_worker import share_memory_with_child; "
        "share_memory_with_child(); print(gc.get_freeze_count() > 10_000)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


class Hub:
    """An event loop that only notes what it is asked to call."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, object]] = []

    def call_repeatedly(self, seconds: float, call: object) -> None:
        self.calls.append((seconds, call))

    def call_soon(self, call: object, *arguments: object) -> None:
        """What is asked for once."""


def test_the_event_loop_looks_after_the_child_more_often_than_the_pool_does_by_itself() -> None:
    """Every 5 s; a child that was killed while its files were being closed would stay unnoticed as long."""
    hub, consumer = Hub(), SimpleNamespace(pool=SimpleNamespace(maintain_pool=print, _pool=None))
    parent_loop.ReconcilerStep(consumer).register_with_event_loop(consumer, hub)
    assert hub.calls == [(0.5, print)]
