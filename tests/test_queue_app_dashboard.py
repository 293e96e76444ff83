"""What the page is told, and who is told it: over HTTP, from a real server."""

import asyncio
import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import redis
from factories import make_job, publish
from pages import TOKEN, acquire, owner, running_job, serving
from runs import HOLDFAST, environment
from waiting import wait_for

from checkpoint.records import QuarantineEntry
from queue_app import keys
from queue_app.dashboard.access import Guard
from queue_app.dashboard.cells import FEW_SHARDS, ShardMap
from queue_app.dashboard.feed import Feed
from queue_app.dashboard.look import JobReader
from queue_app.dashboard.place import Place
from queue_app.dashboard.serve import listen
from queue_app.dashboard.watch import Watch
from queue_app.job import Job, JobDir
from queue_app.manifest import CheckpointManifest
from queue_app.processes import ProcessFile
from queue_app.server import EmbeddedServer
from queue_app.settings import RuntimeConfig
from queue_app.states import JobState, Progress
from queue_app.workers import WorkerEntry, register

CONFIG = RuntimeConfig()


@pytest.fixture
def job() -> Job:
    return make_job(num_shards=4, records_per_shard=10)


@pytest.fixture
def manifest(client: redis.Redis, job: Job, tmp_path: Path) -> CheckpointManifest:
    return running_job(client, job, tmp_path)


@dataclass(frozen=True, slots=True)
class Served:
    """A page's server, and a browser of sorts that has opened its address."""

    url: str
    browser: httpx.Client

    def post(self, path: str, **headers: str) -> httpx.Response:
        return self.browser.post(self.url + path, headers={"Origin": self.url, **headers})


@contextlib.contextmanager
def opened(place: Place) -> Iterator[Served]:
    with serving(place) as url, httpx.Client(timeout=20) as browser:
        assert browser.get(f"{url}/?token={TOKEN}").status_code == 200
        yield Served(url, browser)


@pytest.fixture
def served(server_url: str, manifest: CheckpointManifest) -> Iterator[Served]:
    with opened(Place.find(None, server_url)) as made:
        yield made


@pytest.fixture(scope="module")
def door(server: EmbeddedServer) -> Iterator[Served]:
    """For tests that only want to get in: one for all of them."""
    assert server.address is not None
    with opened(Place.find(None, server.address.url)) as made:
        yield made


def events(served: Served, job_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and data of each event of the stream."""
    with served.browser.stream("GET", f"{served.url}/events?job={job_id}") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in answer.iter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, json.loads(value)


def boards(served: Served, job_id: str) -> Iterator[dict[str, Any]]:
    return (data for name, data in events(served, job_id) if name == "board")


def quarantined(ordinal: int) -> QuarantineEntry:
    return QuarantineEntry(ordinal, f"<b>p{ordinal}</b>", 7, "empty sequence")


# ---- who may ask


@pytest.mark.parametrize(
    "path", ["/", "/events", "/jobs/x/quarantine", "/none", "/?token=guess", f"/events?token={TOKEN}"]
)
def test_nothing_is_answered_without_the_token(door: Served, path: str) -> None:
    answer = httpx.get(door.url + path)
    assert answer.status_code == 403
    assert "holdfast dashboard" in answer.text


def test_the_address_opens_the_page_and_its_cookie_all_else(served: Served, job: Job) -> None:
    first = httpx.get(f"{served.url}/?token={TOKEN}")
    assert "<h1>Holdfast</h1>" in first.text
    assert re.search("HttpOnly; Path=/; SameSite=Strict", first.headers["set-cookie"])
    assert served.browser.get(served.url).status_code == 200
    assert served.browser.get(f"{served.url}/jobs/{job.job_id}/quarantine").status_code == 200


def test_a_program_brings_the_token_in_a_header(served: Served, job: Job) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert httpx.post(f"{served.url}/jobs/{job.job_id}/pause", headers=headers).json() == {"state": "paused"}
    headers = {"Authorization": "Bearer guess"}
    assert httpx.post(f"{served.url}/jobs/{job.job_id}/pause", headers=headers).status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "["])
def test_a_name_that_was_rebound_to_this_address_is_refused(door: Served, host: str) -> None:
    assert door.browser.get(door.url, headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:9", "127.0.0.1:9", "[::1]:9", "10.0.0.7"])
def test_a_forwarded_port_is_none_of_its_business(door: Served, host: str) -> None:
    assert door.browser.get(door.url, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:9", "null", None])
def test_another_page_cannot_use_the_cookie_to_change_anything(
    door: Served, manifest: CheckpointManifest, origin: str | None
) -> None:
    headers = {"Origin": origin} if origin else {}
    answer = door.browser.post(f"{door.url}/jobs/{manifest.job_id}/cancel", headers=headers)
    assert answer.status_code == 403
    status = manifest.job_status()
    assert status is not None
    assert status.state is JobState.RUNNING


def test_nothing_may_be_changed_by_reading(served: Served, job: Job) -> None:
    assert served.browser.get(f"{served.url}/jobs/{job.job_id}/cancel").status_code == 405


def test_the_page_runs_its_own_script_alone_and_asks_nobody_else(door: Served) -> None:
    answer = door.browser.get(door.url)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", answer.text)


def test_two_servers_of_one_host_do_not_take_each_others_cookie() -> None:
    first, second = (Guard(None, token=token, host="") for token in ("a", "b"))  # type: ignore[arg-type]
    assert first.cookie != second.cookie


# ---- what is asked for


def test_the_page_pauses_unpauses_and_cancels(served: Served, manifest: CheckpointManifest) -> None:
    for control, state in (("pause", "paused"), ("unpause", "running"), ("cancel", "cancelled")):
        answer = served.post(f"/jobs/{manifest.job_id}/{control}")
        assert (answer.status_code, answer.json()) == (200, {"state": state})
    status = manifest.job_status()
    assert status is not None
    assert status.state is JobState.CANCELLED


@pytest.mark.parametrize("name", ["0123456789ab-00000000", "%2Ftmp", "..", "out.npy"])
def test_only_a_job_of_the_list_can_be_named(served: Served, name: str) -> None:
    assert served.post(f"/jobs/{name}/pause").status_code == 404
    assert served.browser.get(f"{served.url}/jobs/{name}/quarantine").status_code == 404


def test_what_was_set_aside_comes_in_pages(
    served: Served, manifest: CheckpointManifest, client: redis.Redis
) -> None:
    entries = {str(n): quarantined(n).encode() for n in range(120)}
    client.hset(keys.quarantine(manifest.job_id), mapping=entries)
    answer = served.browser.get(f"{served.url}/jobs/{manifest.job_id}/quarantine?from=100").json()
    assert (answer["start"], answer["num_entries"], len(answer["entries"])) == (100, 120, 20)
    assert answer["entries"][0] == {
        "ordinal": 100, "id": "<b>p100</b>", "length": 7, "reason": "empty sequence"
    }  # fmt: skip
    bad = served.browser.get(f"{served.url}/jobs/{manifest.job_id}/quarantine?from=-1")
    assert bad.status_code == 400


def test_a_job_is_told_whole_and_then_what_changed(
    served: Served, manifest: CheckpointManifest, job: Job
) -> None:
    stream = boards(served, job.job_id)
    whole = next(stream)
    assert whole["whole"]
    assert whole["about"]["title"] == "out.npy"
    assert [cell[:5] for cell in whole["cells"]] == [[n, "pending", 0, 0, 10] for n in range(4)]
    manifest.beat(acquire(manifest, job, 2), Progress(1, 6, 1))
    change = next(stream)
    assert not change["whole"]
    assert [cell[:5] for cell in change["cells"]] == [[2, "running", 6, 1, 10]]
    assert change["cells"][0][7] == "cpu0@here"
    assert change["status"]["sequences"] == {"total": 40, "done": 6, "quarantined": 1}
    stream.close()  # type: ignore[attr-defined]


def test_the_list_shows_every_job_of_the_server(served: Served, client: redis.Redis, job: Job) -> None:
    other = make_job(num_shards=2, records_per_shard=5, job_id="0123456789ab-00000001")
    CheckpointManifest(client, other.job_id).initialize(other, "/jobs/b.h5.holdfast", {}, {})
    name, told = next(stream := events(served, ""))
    stream.close()  # type: ignore[attr-defined]
    assert name == "jobs"
    assert "@" not in told["server"] or ":***@" in told["server"]
    shown = {line["job"]: (line["title"], line["state"], line["total"]) for line in told["jobs"]}
    assert shown == {job.job_id: ("out.npy", "running", 40), other.job_id: ("b.h5", "running", 10)}


# ---- what happened


def watch(server_url: str, job: Job) -> Watch:
    return Watch(JobReader(Place.find(job.job_id, server_url), job.job_id, CONFIG))


def told(watching: Watch) -> list[tuple[str, str]]:
    board = watching.board()
    assert board is not None
    return [(event.kind, event.text) for event in board.events]


def test_a_lease_that_is_taken_away_and_taken_up_again_is_told(
    server_url: str, manifest: CheckpointManifest, job: Job
) -> None:
    watching = watch(server_url, job)
    acquire(manifest, job, 1)
    assert told(watching) == []
    status = manifest.shard_status(1)
    assert status is not None
    assert manifest.expire(status, "its process 7 on this host is gone")
    acquire(manifest, job, 1, worker="cpu1@here")
    board = watching.board()
    assert board is not None
    assert board.look.cells[1].losses == 1
    assert [(event.kind, event.text) for event in board.events] == [
        ("bad", "shard 1, held by cpu0@here, came to an early end: its process 7 on this host is gone"),
        ("good", "shard 1 goes on after its last commit, with cpu1@here"),
    ]


def test_a_shard_that_ends_early_again_for_the_same_reason_is_told_again(
    server_url: str, manifest: CheckpointManifest, job: Job
) -> None:
    watching = watch(server_url, job)
    for expected in (0, 1, 2):
        lease = acquire(manifest, job, 0)
        board = watching.board()
        assert board is not None
        assert board.look.cells[0].losses == expected
        manifest.release(lease, "OSError: the disk is full")
        watching.board()


def test_a_shard_that_recovers_between_two_looks_is_told_all_the_same(
    server_url: str, manifest: CheckpointManifest, job: Job
) -> None:
    watching = watch(server_url, job)
    lease = acquire(manifest, job, 0)
    assert told(watching) == []
    manifest.release(lease, "OSError: the disk is full")
    manifest.complete(acquire(manifest, job, 0, worker="cpu1@here"), Progress(1, 10, 0))
    assert told(watching) == [("good", "shard 0 goes on after its last commit, with cpu1@here")]


def test_what_happened_before_anybody_looked_is_told_as_the_server_keeps_it(
    server_url: str, manifest: CheckpointManifest, job: Job
) -> None:
    manifest.release(acquire(manifest, job, 0), "OSError: the disk is full")
    status = manifest.shard_status(acquire(manifest, job, 1).shard.index)
    assert status is not None
    assert manifest.expire(status, "its process 7 on this host is gone")
    (retried, text), (recovered, other) = told(watch(server_url, job))
    assert (retried, recovered) == ("bad", "good")
    assert "OSError: the disk is full" in text
    assert "its process 7 on this host is gone" in other


def test_an_early_end_that_the_server_keeps_no_more_is_told_by_the_trace_it_left(
    server_url: str, client: redis.Redis, manifest: CheckpointManifest, job: Job
) -> None:
    manifest.release(acquire(manifest, job, 0), "OSError: the disk is full")
    manifest.release(acquire(manifest, job, 1), "stopped early", counts=False)
    client.delete(keys.events(job.job_id))
    watching = watch(server_url, job)
    assert told(watching) == [("bad", "shard 0 had come to an early end: OSError: the disk is full")]
    acquire(manifest, job, 0)
    assert told(watching)[1:] == [("good", "shard 0 goes on after its last commit, with cpu0@here")]


def test_what_was_given_back_for_a_pause_is_no_early_end(
    server_url: str, manifest: CheckpointManifest, job: Job
) -> None:
    watching = watch(server_url, job)
    lease = acquire(manifest, job, 0)
    watching.board()
    manifest.pause()
    manifest.release(lease, "stopped early", counts=False)
    assert told(watching) == [("note", "the job is paused")]
    manifest.unpause()
    manifest.complete(acquire(manifest, job, 0), Progress(1, 9, 1), [quarantined(3)])
    assert told(watching)[1:] == [("note", "the job is running")]


def test_a_workers_process_that_was_replaced_is_told_and_its_rate_known(
    server_url: str, client: redis.Redis, manifest: CheckpointManifest, job: Job
) -> None:
    def show(pid: int, child_pid: int) -> None:
        entry = WorkerEntry("cpu0@here", "cpu0", "cpu", "here", pid, child_pid, owner("cpu0@here"))
        register(client, entry)

    watching = watch(server_url, job)
    lease = acquire(manifest, job, 0)
    for pid, child_pid in ((10, 11), (10, 0), (10, 12), (20, 21)):
        show(pid, child_pid)
        watching.board()
    manifest.beat(lease, Progress(1, 8, 0))
    board = watching.board()
    assert board is not None
    assert [event.text for event in board.events] == [
        "worker cpu0@here: process 11 died, 12 takes its place",
        "worker cpu0@here was started again, as process 20",
    ]
    (line,) = board.workers
    assert (line.restarts, line.rate > 0) == (2, True)


def test_a_server_that_is_away_is_told_and_its_job_read_from_the_directory(tmp_path: Path) -> None:
    job, directory = make_job(num_shards=3, records_per_shard=4), JobDir(tmp_path / "a.npy.holdfast")
    directory.path.mkdir()
    publish(job, directory, quarantined=[5])
    directory.done(2).unlink()
    server = EmbeddedServer(directory, ProcessFile(tmp_path / "processes.json"))
    server.start()
    try:
        manifest = CheckpointManifest(Place.find(str(directory.path), None).client(), job.job_id)
        manifest.initialize(job, str(directory.path), {}, {0: Progress(1, 4, 0), 1: Progress(1, 3, 1)})
        watching = Watch(JobReader(Place.find(str(tmp_path / "a.npy"), None), job.job_id, CONFIG))
        assert told(watching) == []
        server.stop()
        board = watching.board()
        assert board is not None
        assert board.look.source == "directory"
        assert [str(cell.state) for cell in board.look.cells] == ["done", "done", "pending"]
        assert (board.look.summary.done, board.look.summary.quarantined) == (7, 1)
        server.start()
        assert told(watching) == [("bad", "the server does not answer"), ("good", "the server answers again")]
    finally:
        server.stop()


# ---- what it costs


def test_of_many_shards_only_those_that_move_are_asked_for(client: redis.Redis, tmp_path: Path) -> None:
    job = make_job(num_shards=FEW_SHARDS + 1, records_per_shard=2)
    manifest = CheckpointManifest(client, job.job_id)
    manifest.initialize(job, str(tmp_path), {}, {})
    shards = ShardMap()
    assert len(shards.look(manifest, len(job.shards), JobState.RUNNING)) == len(job.shards)
    lease = acquire(manifest, job, 7)

    def asked() -> int:
        return int(client.info("commandstats").get("cmdstat_hmget", {}).get("calls", 0))

    before = asked()
    cells = shards.look(manifest, len(job.shards), JobState.RUNNING)
    assert (str(cells[7].state), asked() - before) == ("running", 1)
    manifest.complete(lease, Progress(1, 2, 0))
    assert str(shards.look(manifest, len(job.shards), JobState.RUNNING)[7].state) == "done"
    manifest.cancel()
    cells = shards.look(manifest, len(job.shards), JobState.CANCELLED)
    assert {str(cell.state) for cell in cells} == {"done", "cancelled"}


def test_however_many_look_the_server_is_asked_once(server_url: str, manifest: CheckpointManifest) -> None:
    place = Place.find(None, server_url)
    calls: list[int] = []
    client = place.client()
    place.client = lambda: (calls.append(1), client)[1]  # type: ignore[method-assign]

    async def look() -> list[str]:
        feed = Feed(place, CONFIG)
        streams = [feed.stream(manifest.job_id) for _ in range(5)]
        return await asyncio.gather(*(anext(stream) for stream in streams))

    shown = asyncio.run(look())
    assert len(shown) == 5
    assert len(set(shown)) == 1
    assert len(calls) == 2  # the list, and the job


# ---- the command


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HOLDFAST, "dashboard", *map(str, arguments)],
        capture_output=True, text=True, timeout=60, env=environment(),
    )  # fmt: skip


def test_a_port_that_is_taken_is_one_line(server_url: str, client: redis.Redis) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        ended = command("--broker", server_url, "--port", str(port))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        f"holdfast: 127.0.0.1:{port}: Address already in use; --port 0 takes one that is free\n"
    )


def test_without_a_server_there_is_one_line() -> None:
    ended = command("--broker", "redis://:secret@127.0.0.1:1/0")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("holdfast: redis://:***@127.0.0.1:1/0: no server answers")
    assert ended.stderr.count("\n") == 1


def test_without_the_extra_the_command_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['starlette'] = None\n"
        "from queue_app.cli import main; sys.argv = ['holdfast', 'dashboard']; main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "pip install 'holdfast[dashboard]'" in ended.stderr


def test_ctrl_c_ends_the_page_though_somebody_looks(server_url: str, manifest: CheckpointManifest) -> None:
    process = subprocess.Popen(
        [*HOLDFAST, "dashboard", manifest.job_id, "--broker", server_url, "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    assert process.stdout is not None
    try:
        url, _, token = process.stdout.readline().strip().partition("/?token=")
        with httpx.Client(timeout=20, headers={"Authorization": f"Bearer {token}"}) as browser:
            stream = boards(Served(url, browser), manifest.job_id)
            assert next(stream)["status"]["job"] == manifest.job_id
            process.send_signal(2)
            assert [board["whole"] for board in stream] == []
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert said.count("\n") == 1
    wait_for(lambda: process.poll() is not None, "the command to end")
