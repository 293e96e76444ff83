"""A real server for the tests: on loopback, a free port and a private directory, always stopped."""

import asyncio
import os
import signal
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import settings

from queue_app import Job, embed_async
from queue_app.coordination.embedded_server import EmbeddedServer
from queue_app.coordination.redis_client import connect
from queue_app.host.processes import ProcessFile
from queue_app.job.directory import JobDir
from queue_app.outputs.export import export
from queue_app.outputs.faiss_index import write_index
from queue_app.settings import runtime_config
from tests.support.jobs_and_inputs import TEXTS, write_fasta
from tests.support.output_files import EVERY_FORMAT
from tests.support.redis_servers import IS_GUARDED, GuardedServer, RedisServer, programs_with_users

# A deadline would turn a busy machine into a failed promise.
settings.register_profile("holdfast", deadline=None)
settings.load_profile("holdfast")

# The models of the tests are small: their products on many threads are mostly waiting for each other.
# Workers set their own number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

STATE = tempfile.TemporaryDirectory(prefix="holdfast-tests-", dir="/tmp")
"""What tests remember of their fleets: never in the user's home."""
os.environ["XDG_STATE_HOME"] = STATE.name
# Each process of the tests has a machine to itself: with a temporary directory and locks on devices.
os.environ["TMPDIR"] = STATE.name
os.environ["HOLDFAST_LOCKS"] = f"{STATE.name}/locks"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in the background deaf to Ctrl-C, and so would be every command of the tests.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-table", action="store_true", help="write docs/right_vectors.md anew")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer | GuardedServer]:
    """One Valkey for the whole session; a Redis behind TLS with HOLDFAST_TEST_SERVER=acl+tls."""
    home = tmp_path_factory.mktemp("server")
    if IS_GUARDED:
        guarded = GuardedServer(home)
        guarded.start()
        yield guarded
        return guarded.stop()
    started = EmbeddedServer(JobDir(home), ProcessFile(home / "processes.json"))
    started.start()
    yield started
    started.stop()


@pytest.fixture
def other_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A second one, which the test may stop."""
    home = tmp_path_factory.mktemp("other-server")
    started = EmbeddedServer(JobDir(home), ProcessFile(home / "processes.json"))
    started.start()
    yield started
    started.stop()


@pytest.fixture(autouse=True)
def state_home(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the processes of this test remember: they would take over what an earlier one left undone."""
    home = Path(STATE.name) / uuid.uuid4().hex
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    runtime_config.cache_clear()
    return home / "holdfast"


@pytest.fixture
def server_url(server: EmbeddedServer | GuardedServer) -> str:
    assert server.address is not None
    return server.address.url


@pytest.fixture
def client(server_url: str) -> Iterator[redis.Redis]:
    """A client of an empty server."""
    made = connect(server_url)
    made.flushall()
    yield made
    made.close()


@pytest.fixture
def examples(request: pytest.FixtureRequest) -> Path:
    """The example data of the checkout."""
    return request.config.rootpath / "examples"


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with proteins.fasta and its vectors in every format: out.h5, out.npy, …, also as int8.npy;
    out.h5.faiss; and texts.npy, of TEXTS.

    The last of the 61 proteins is in quarantine. Both jobs were run at once by one event loop, in a thread
    that is not the main one.
    """
    home = tmp_path_factory.mktemp("finished")
    fasta = write_fasta(home / "proteins.fasta", 60)
    with fasta.open("a") as file:
        file.write(">bad\nMK1V\n")

    async def cell() -> None:
        on = {"model": "mock:8", "device": "cpu", "workers": 1}
        await asyncio.gather(
            embed_async(fasta, output=home / "out.h5", num_shards=3, **on),  # type: ignore[arg-type]
            embed_async(sequences=TEXTS, output=home / "texts.npy", **on),  # type: ignore[arg-type]
        )

    thread = threading.Thread(target=lambda: asyncio.run(cell()))
    thread.start()
    thread.join()
    job = Job.open(home / "out.h5")
    for name in EVERY_FORMAT:
        export(job.job, job.job_dir, home / name)
    export(job.job, job.job_dir, home / "int8.npy", precision="int8")
    write_index(job.job, job.job_dir, home / "out.h5.faiss")
    return home


@pytest.fixture(scope="module", params=programs_with_users(), ids=lambda program: Path(program).name)
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    """A server with the users of deploy/redis/users.acl; of each kind that this machine has."""
    server = RedisServer(tmp_path_factory.mktemp("guarded"), request.param, with_users=True).start()
    yield server
    server.stop()
