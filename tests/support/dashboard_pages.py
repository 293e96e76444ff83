"""The page's server in a thread of the test, jobs for it to show, and a hand that draws on its map."""

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from queue_app.coordination.fleet import take_job
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import Lease
from queue_app.coordination.workers import Owner
from queue_app.dashboard.job_source import Place
from queue_app.dashboard.map.metadata import Metadata
from queue_app.dashboard.serve import PageServer, listen
from queue_app.dashboard.streams import Feed
from queue_app.job.directory import JobDir
from queue_app.job.spec import Job
from queue_app.settings import RuntimeConfig
from tests.support.command_runs import HOLDFAST, environment

TOKEN = "token-of-the-tests"


@contextlib.contextmanager
def serving(place: Place, metadata: Metadata | None = None) -> Iterator[str]:
    """The page's address, without the token."""
    with listen("127.0.0.1", 0) as listener:
        server = PageServer(Feed(place, RuntimeConfig()), token=TOKEN, host="127.0.0.1", metadata=metadata)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=20)
            assert not thread.is_alive()


def running_job(client: redis.Redis, job: Job, home: Path) -> CheckpointManifest:
    """A job that runs, as its producer leaves it, with out.npy as its output."""
    manifest = CheckpointManifest(client, job.job_id)
    directory = JobDir(home / "out.npy.holdfast")
    directory.path.mkdir()
    directory.write(job)
    take_job(client, directory)
    manifest.initialize(job, str(directory.path), {})
    return manifest


def owner(worker: str) -> str:
    """This process, which lives, as the worker of that name."""
    return Owner.current(worker).encode()


def acquire(manifest: CheckpointManifest, job: Job, index: int, worker: str = "cpu0@here") -> Lease:
    lease = manifest.acquire(job.shards[index], owner=owner(worker), floor=0, attempt_limit=20)
    assert isinstance(lease, Lease)
    return lease


@contextlib.contextmanager
def dashboard(job: Path) -> Iterator[str]:
    """The address that the command prints."""
    process = subprocess.Popen(
        [*HOLDFAST, "dashboard", str(job), "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(),
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# ---- the map of a page in a browser


def drag(page: Any, corners: list[tuple[float, float]]) -> None:
    """From corner to corner, in shares of the map's width and height."""
    box = page.locator("#points").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=5)
    page.mouse.up()


def lasso_all(page: Any) -> None:
    """Around every point of the map."""
    page.get_by_role("button", name="Lasso").click()
    drag(page, [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99)])
