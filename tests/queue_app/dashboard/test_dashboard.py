"""What the page is told, and who is told it: over HTTP, from a real server."""

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import redis

from checkpoint.records import QuarantineEntry
from queue_app.coordination import keys
from queue_app.coordination.dealing import tick
from queue_app.coordination.embedded_server import EmbeddedServer
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import JobState
from queue_app.coordination.worker_figures import Figures
from queue_app.coordination.workers import WorkerEntry, server_time
from queue_app.dashboard.access import Guard
from queue_app.dashboard.board import Board, JobReader, Watch
from queue_app.dashboard.job_source import Place
from queue_app.dashboard.map_routes import MAP_THREADS
from queue_app.dashboard.serve import find_place, listen
from queue_app.dashboard.shard_cells import FEW_SHARDS, ShardMap
from queue_app.dashboard.streams import Feed
from queue_app.host.processes import ProcessFile
from queue_app.job.directory import JobDir
from queue_app.job.spec import Job, Progress
from queue_app.settings import RuntimeConfig
from queue_app.status.snapshot import snapshot
from tests.support.command_runs import HOLDFAST, environment
from tests.support.dashboard_pages import TOKEN, acquire, owner, running_job, serving
from tests.support.jobs_and_inputs import make_job, publish
from tests.support.waiting import wait_for

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

    root: str
    url: str
    """Where the page lies: under a path of its own below `root`."""
    browser: httpx.Client

    def post(self, path: str, **headers: str) -> httpx.Response:
        return self.browser.post(self.url + path, headers={"Origin": self.root, **headers})


@contextlib.contextmanager
def opened(place: Place) -> Iterator[Served]:
    with serving(place) as root, httpx.Client(timeout=20) as browser:
        welcome = browser.get(f"{root}/?token={TOKEN}")
        path = re.search(r'content="0; url=(/\w+)/"', welcome.text)
        assert path
        yield Served(root, root + path[1], browser)


@pytest.fixture
def served(server_url: str, manifest: CheckpointManifest) -> Iterator[Served]:
    with opened(find_place(None, server_url)) as made:
        yield made


@pytest.fixture(scope="module")
def door(server: EmbeddedServer) -> Iterator[Served]:
    """For tests that only want to get in: one for all of them."""
    assert server.address is not None
    with opened(find_place(None, server.address.url)) as made:
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
    "path",
    ["/", "/events", "/page.js", "/jobs/x/quarantine", "/none", "/?token=guess", f"/events?token={TOKEN}"],
)
def test_nothing_is_answered_without_the_token(door: Served, path: str) -> None:
    for url in (door.root, door.url):
        answer = httpx.get(url + path)
        assert answer.status_code == 403
        assert "holdfast dashboard" in answer.text


def test_the_address_opens_the_page_and_its_cookie_all_else(served: Served, job: Job) -> None:
    first = httpx.get(f"{served.root}/?token={TOKEN}")
    path = served.url.removeprefix(served.root)
    assert re.search(f"HttpOnly; Path={path}/; SameSite=strict", first.headers["set-cookie"])
    assert "<h1>Holdfast</h1>" in served.browser.get(f"{served.url}/").text
    assert served.browser.get(f"{served.url}/jobs/{job.job_id}/quarantine").status_code == 200


def test_the_cookie_goes_to_the_pages_own_path_alone(door: Served) -> None:
    """Browsers send a cookie to every port of a host, which may be another user's."""
    assert door.browser.get(f"{door.root}/").status_code == 403
    assert door.browser.get(f"{door.url}x/").status_code == 403
    assert TOKEN not in door.url


def test_a_program_brings_the_token_in_a_header(served: Served, job: Job) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert httpx.post(f"{served.root}/jobs/{job.job_id}/pause", headers=headers).json() == {"state": "paused"}
    headers = {"Authorization": "Bearer guess"}
    assert httpx.post(f"{served.root}/jobs/{job.job_id}/pause", headers=headers).status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "["])
def test_a_name_that_was_rebound_to_this_address_is_refused(door: Served, host: str) -> None:
    assert door.browser.get(f"{door.url}/", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:9", "127.0.0.1:9", "[::1]:9", "10.0.0.7"])
def test_a_forwarded_port_is_none_of_its_business(door: Served, host: str) -> None:
    assert door.browser.get(f"{door.url}/", headers={"Host": host}).status_code == 200


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


def test_the_page_runs_its_own_scripts_alone_and_asks_nobody_else(door: Served) -> None:
    answer = door.browser.get(f"{door.url}/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
    for name in re.findall(r"(?:src|href)=\"(?!data:|#)([^\"]*)\"", answer.text):
        assert door.browser.get(f"{door.url}/{name}").status_code == 200


@pytest.mark.parametrize("name", ["app.py", "page.png", "..%2Fkeys.py", "%2Fetc%2Fpasswd"])
def test_no_file_but_the_pages_own_is_sent(door: Served, name: str) -> None:
    assert door.browser.get(f"{door.url}/{name}").status_code == 404


def test_two_servers_of_one_host_do_not_take_each_others_cookie() -> None:
    first, second = (Guard(None, token=token, host="") for token in ("a", "b"))  # type: ignore[arg-type]
    assert first.path != second.path


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
    assert served.post(f"/jobs/{name}/pause").status_code in (404, 405)
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
    CheckpointManifest(client, other.job_id).initialize(other, "/jobs/b.h5.holdfast", {})
    name, told = next(stream := events(served, ""))
    stream.close()  # type: ignore[attr-defined]
    assert name == "jobs"
    assert "redis" not in str(told)
    shown = {line["job"]: (line["title"], line["state"], line["total"]) for line in told["jobs"]}
    assert shown == {job.job_id: ("out.npy", "running", 40), other.job_id: ("b.h5", "running", 10)}


def test_the_page_is_told_what_status_tells(
    served: Served, manifest: CheckpointManifest, client: redis.Redis, job: Job
) -> None:
    tick(client, WorkerEntry("cpu0@here", "cpu0", "cpu", "here", 10, 11, owner("cpu0@here")))
    manifest.beat(acquire(manifest, job, 2), Progress(1, 6, 1), Figures(12.5, 800.0, 0.9, 0.01))
    manifest.complete(acquire(manifest, job, 0), Progress(1, 9, 1), [quarantined(3)])
    told = next(stream := boards(served, job.job_id))["status"]
    stream.close()  # type: ignore[attr-defined]
    known = snapshot(client, job.job_id, lease_seconds=CONFIG.lease_seconds)
    assert known is not None
    for worker in told["workers"]:
        assert worker.pop("restarts") == 0
    assert told == known.as_json()


# ---- what happened


def watch(server_url: str, job: Job) -> Watch:
    return Watch(JobReader(find_place(job.job_id, server_url), job.job_id, CONFIG))


def look(watching: Watch) -> Board:
    board = watching.board()
    assert board is not None
    return board


def test_a_lease_that_was_taken_away_is_told_and_marks_its_shard(
    server_url: str, manifest: CheckpointManifest, job: Job
) -> None:
    watching = watch(server_url, job)
    acquire(manifest, job, 1)
    assert look(watching).look.cells[1].losses == 0
    status = manifest.shard_status(1)
    assert status is not None
    assert manifest.expire(status.index, status.token, status.beat, "its process 7 on this host is gone")
    acquire(manifest, job, 1, worker="cpu1@here")
    for board in (look(watching), look(watch(server_url, job))):
        assert [cell.losses for cell in board.look.cells] == [0, 1, 0, 0]
        (event,) = board.look.summary.events
        assert event.text == "shard 1 taken back from cpu0@here: its process 7 on this host is gone"


def test_a_shard_that_ends_early_again_for_the_same_reason_counts_again(
    server_url: str, manifest: CheckpointManifest, job: Job
) -> None:
    watching = watch(server_url, job)
    for expected in (0, 1, 2):
        lease = acquire(manifest, job, 0)
        assert look(watching).look.cells[0].losses == expected
        manifest.release(lease, "OSError: the disk is full")
        look(watching)


def test_what_was_given_back_for_a_pause_is_no_early_end(
    server_url: str, manifest: CheckpointManifest, job: Job
) -> None:
    watching = watch(server_url, job)
    lease = acquire(manifest, job, 0)
    look(watching)
    manifest.pause()
    manifest.release(lease, "stopped early", counts=False)
    assert look(watching).look.cells[0].losses == 0


def test_a_workers_process_that_was_replaced_is_counted(
    server_url: str, client: redis.Redis, manifest: CheckpointManifest, job: Job
) -> None:
    watching = watch(server_url, job)
    counted = []
    for pid, child_pid in ((10, 11), (10, 0), (10, 12), (20, 0), (20, 21), (20, 21)):
        tick(client, WorkerEntry("cpu0@here", "cpu0", "cpu", "here", pid, child_pid, owner("cpu0@here")))
        (line,) = look(watching).workers
        counted.append(line.restarts)
    assert counted == [0, 0, 1, 2, 2, 2]


def test_a_worker_between_two_shards_keeps_its_figures_for_a_moment(
    server_url: str, client: redis.Redis, manifest: CheckpointManifest, job: Job
) -> None:
    tick(client, WorkerEntry("cpu0@here", "cpu0", "cpu", "here", 10, 11, owner("cpu0@here")))
    watching, figures = watch(server_url, job), Figures(12.5, 800.0, 0.9, 0.01)
    lease = acquire(manifest, job, 0)
    manifest.beat(lease, Progress(1, 6, 0), figures)
    assert look(watching).workers[0].view.figures == figures
    manifest.complete(lease, Progress(1, 10, 0))
    acquire(manifest, job, 1)
    assert look(watching).workers[0].view.figures == figures


def test_of_a_server_that_is_away_the_job_is_read_from_the_directory(tmp_path: Path) -> None:
    job, directory = make_job(num_shards=3, records_per_shard=4), JobDir(tmp_path / "a.npy.holdfast")
    directory.path.mkdir()
    publish(job, directory, quarantined=[5])
    directory.done(2).unlink()
    server = EmbeddedServer(directory, ProcessFile(tmp_path / "processes.json"))
    server.start()
    try:
        manifest = CheckpointManifest(find_place(str(directory.path), None).client(), job.job_id)
        manifest.initialize(job, str(directory.path), {0: Progress(1, 4, 0), 1: Progress(1, 3, 1)})
        manifest.release(acquire(manifest, job, 2), "OSError: the disk is full")
        watching = Watch(JobReader(find_place(str(tmp_path / "a.npy"), None), job.job_id, CONFIG))
        told = look(watching).look.summary.events
        assert len(told) == 1
        server.stop()
        board = look(watching)
        assert board.look.source == "directory"
        assert [str(cell.state) for cell in board.look.cells] == ["done", "done", "pending"]
        assert (board.look.summary.done, board.look.summary.quarantined) == (7, 1)
        assert board.look.summary.events == told
        server.start()
        assert look(watching).look.source == "server"
    finally:
        server.stop()


def test_of_a_server_that_is_away_no_rate_is_told(tmp_path: Path) -> None:
    """Nobody knows how fast the job goes on, or whether it does."""
    job, home = make_job(num_shards=2, records_per_shard=40), JobDir(tmp_path / "server")
    home.path.mkdir()
    server = EmbeddedServer(home, ProcessFile(tmp_path / "processes.json"))
    server.start()
    try:
        assert server.address is not None
        place = find_place(None, server.address.url)
        client = place.client()
        manifest = running_job(client, job, tmp_path)
        tick(client, WorkerEntry("cpu0@here", "cpu0", "cpu", "here", 10, 11, owner("cpu0@here")))
        manifest.beat(acquire(manifest, job, 0), Progress(1, 20, 0), Figures(12.5, 800.0))
        now = server_time(client)
        client.delete(keys.samples(job.job_id))
        for seconds, done in ((20, 0), (10, 10), (0, 30)):
            client.lpush(keys.samples(job.job_id), f"{now - seconds:.3f} {done} {25 * done}")
        reader = JobReader(place, job.job_id, CONFIG)
        seen = reader.look()
        assert seen is not None
        assert seen.summary.rate == pytest.approx(2, abs=0.1)
    finally:
        server.stop()
    last = reader.look()
    assert last is not None
    assert (last.source, last.summary.done) == ("memory", 20)
    assert (last.summary.rate, last.summary.eta_seconds, last.summary.workers[0].figures) == (0, None, None)


# ---- what it costs


def test_of_many_shards_only_those_that_move_are_asked_for(client: redis.Redis, tmp_path: Path) -> None:
    job = make_job(num_shards=FEW_SHARDS + 1, records_per_shard=2)
    manifest = CheckpointManifest(client, job.job_id)
    manifest.initialize(job, str(tmp_path), {})
    shards = ShardMap()
    assert len(shards.look(manifest, len(job.shards), JobState.RUNNING)) == len(job.shards)
    lease = acquire(manifest, job, 7)

    def asked() -> int:
        return int(client.info("commandstats").get("cmdstat_hmget", {}).get("calls", 0))

    before = asked()
    cells = shards.look(manifest, len(job.shards), JobState.RUNNING)
    assert (str(cells[7].state), asked() - before) == ("running", 7)
    manifest.complete(lease, Progress(1, 2, 0))
    assert str(shards.look(manifest, len(job.shards), JobState.RUNNING)[7].state) == "done"
    manifest.cancel()
    cells = shards.look(manifest, len(job.shards), JobState.CANCELLED)
    assert {str(cell.state) for cell in cells} == {"done", "cancelled"}


def test_however_many_look_the_server_is_asked_once(server_url: str, manifest: CheckpointManifest) -> None:
    place = find_place(None, server_url)
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


def test_a_page_is_fed_while_many_ask_what_takes_long_of_a_map(
    served: Served, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    monkeypatch.setattr("queue_app.dashboard.map.cache.Maps.made", lambda *asked: answered.wait(60))
    monkeypatch.setattr("queue_app.dashboard.map_routes.neighbourhood", lambda *asked: [])
    headers = {"Authorization": f"Bearer {TOKEN}"}
    url = f"{served.root}/jobs/{job.job_id}/map/nearest"
    with ThreadPoolExecutor(64) as many:
        try:
            asked = [many.submit(httpx.get, url, headers=headers, timeout=60) for _ in range(64)]
            stream = events(served, job.job_id)
            assert next(stream)[0] == "jobs"
            stream.close()  # type: ignore[attr-defined]
        finally:
            answered.set()
        assert {each.result().status_code for each in asked} == {200}


def test_who_has_gone_away_is_not_answered(served: Served, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of many points that were clicked in a row would cost a pass over all results."""
    calls, answered = [], threading.Event()

    def wait(*asked: object) -> list[object]:
        calls.append(asked)
        answered.wait(60)
        return []

    monkeypatch.setattr("queue_app.dashboard.map.cache.Maps.made", wait)
    monkeypatch.setattr("queue_app.dashboard.map_routes.neighbourhood", lambda *asked: [])
    ask = partial(
        httpx.get,
        f"{served.root}/jobs/{job.job_id}/map/nearest",
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    with ThreadPoolExecutor(MAP_THREADS) as some:
        try:
            asked = [some.submit(ask, timeout=60) for _ in range(MAP_THREADS)]
            wait_for(lambda: len(calls) == MAP_THREADS, "the first ones to be under way")
            with pytest.raises(httpx.ReadTimeout):
                ask(timeout=0.5)
        finally:
            answered.set()
        assert {each.result().status_code for each in asked} == {200}
    assert ask(timeout=60).status_code == 200
    assert len(calls) == MAP_THREADS + 1


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
        "from queue_app.cli.main import main; sys.argv = ['holdfast', 'dashboard']; main()"
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
            stream = boards(Served(url, url, browser), manifest.job_id)
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
