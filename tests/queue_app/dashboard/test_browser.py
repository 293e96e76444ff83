"""The page in a real browser, beside a real job."""

import http.server
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from checkpoint.records import QuarantineEntry
from queue_app.coordination import keys
from queue_app.coordination.job_control import pause
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.dashboard.map.embedding_map import EmbeddingMap
from queue_app.dashboard.map.make_map import make_map
from queue_app.dashboard.map.metadata import read_metadata
from queue_app.dashboard.map.published_vectors import Published
from queue_app.dashboard.serve import find_place
from queue_app.job.directory import JobDir
from queue_app.job.spec import Progress
from queue_app.status.snapshot import snapshots
from tests.support.chromium import needs_chromium, wait_for_text
from tests.support.command_runs import running, wait_for_progress
from tests.support.dashboard_pages import TOKEN, acquire, dashboard, running_job, serving
from tests.support.inline_job import embedded, write_numbered
from tests.support.jobs_and_inputs import make_job, publish, write_fasta
from tests.support.waiting import wait_for

pytestmark = needs_chromium

SLOW = ["-m", "mock:16,delay_ms=60", "--toks-per-batch", "512", "--commit-seconds", "0.2"]
CPU = ["--device", "cpu", "--workers", "2", "--shards", "2", "--quiet"]


def settled(page: Any) -> int:
    return int(page.locator("#settled").inner_text().replace(",", ""))


def test_a_job_is_seen_at_work_paused_crashing_recovering_and_cancelled(tmp_path: Path, page: Any) -> None:
    """The job is too long to end by itself, and rests until the page is there, however slow the machine."""
    output = tmp_path / "out.npy"

    def child_at_work() -> int | None:
        (now,) = snapshots(str(output), None)
        return next((worker.child_pid for worker in now.workers if worker.shard is not None), None)

    with running("embed", write_fasta(tmp_path / "a.fasta", 10_000), "-o", output, *SLOW, *CPU) as job:
        wait_for_progress(tmp_path / "out.npy.holdfast", 0.001, job)
        pause(str(output), None)
        with dashboard(output) as url:
            page.goto(url)
            wait_for_text(page, "#title", "out.npy")
            wait_for_text(page, "#link", "live")
            wait_for_text(page, "#state", "paused")
            assert "token" not in page.url
            first = settled(page)
            page.get_by_role("button", name="Unpause").click()
            wait_for_text(page, "#state", "running")
            wait_for(lambda: settled(page) > first, "the page to show progress")

            child = wait_for(child_at_work, "a worker at work")
            assert child is not None
            os.kill(child, signal.SIGKILL)
            wait_for_text(page, "#events .good", f"taken back from .*: its process {child} is gone")
            wait_for_text(page, "#legend", "with an early end")
            wait_for_text(page, "#workers td.marked", "1")
            recovered = settled(page)
            wait_for(lambda: settled(page) > recovered, "the job to go on")

            page.get_by_role("button", name="Pause", exact=True).click()
            wait_for_text(page, "#state", "paused")
            assert str(snapshots(str(output), None)[0].state) == "paused"
            page.get_by_role("button", name="Cancel…").click()
            page.get_by_role("button", name="Cancel the job").click()
            wait_for_text(page, "#state", "cancelled")
            assert job.wait(timeout=60) == 1
            wait_for_text(page, "#link", "read from the directory")


def test_ten_thousand_shards_are_one_picture_that_tells_each(
    server_url: str, client: redis.Redis, tmp_path: Path, page: Any
) -> None:
    job = make_job(num_shards=10_000, records_per_shard=10)
    manifest = running_job(client, job, tmp_path)
    with serving(find_place(None, server_url)) as url:
        page.goto(f"{url}/?token={TOKEN}")
        wait_for_text(page, "#legend", "10,000 pending")
        manifest.beat(acquire(manifest, job, 9_876), Progress(1, 4, 1))
        wait_for_text(page, "#legend", "1 running")
        page.get_by_label("Shard", exact=True).fill("9876")
        told = "running · 4 of 10 done · 1 quarantined · held by cpu0@here"
        wait_for_text(page, "#detail", told)
        box = page.locator("#map").bounding_box()
        assert box["height"] < 400
        page.mouse.move(box["x"] + 2, box["y"] + 2)
        wait_for_text(page, "#tip", "shard 0: pending")


def test_a_phone_shows_ten_thousand_shards_within_its_width_and_height(
    server_url: str, client: redis.Redis, tmp_path: Path, page: Any
) -> None:
    running_job(client, make_job(num_shards=10_000, records_per_shard=10), tmp_path)
    page.set_viewport_size({"width": 390, "height": 844})
    with serving(find_place(None, server_url)) as url:
        page.goto(f"{url}/?token={TOKEN}")
        wait_for_text(page, "#legend", "10,000 pending")
        page.wait_for_function("document.getElementById('map').style.height")
        assert page.locator("#map").bounding_box()["height"] <= 340
        assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_whatever_an_id_or_a_reason_says_is_text(
    server_url: str, client: redis.Redis, tmp_path: Path, page: Any
) -> None:
    job, evil = make_job(num_shards=2, records_per_shard=10), "<img src=x onerror=document.title='evil'>"
    manifest = running_job(client, job, tmp_path)
    entry = QuarantineEntry(3, f"{evil}<script>document.title='evil'</script>", 35_213, evil)
    manifest.complete(acquire(manifest, job, 0), Progress(1, 9, 1), [entry])
    manifest.release(acquire(manifest, job, 1, worker=evil), evil)
    with serving(find_place(None, server_url)) as url:
        page.goto(f"{url}/?token={TOKEN}")
        wait_for_text(page, "#quarantine td", re.escape(entry.id))
        wait_for_text(page, "#events", re.escape(evil))
        wait_for_text(page, "#trouble", re.escape(evil))
        assert page.locator("img, #quarantine script").count() == 0
        assert "evil" not in page.title()
        length = page.locator("#quarantine .number").filter(has_text="35,213")
        lines = "it => { const r = new Range(); r.selectNodeContents(it); return r.getClientRects().length }"
        assert length.evaluate(lines) == 1
        assert page.evaluate("[typeof page, typeof chart, typeof showBoard]") == ["undefined"] * 3


def test_what_is_cancelled_is_the_job_that_was_asked_about(
    server_url: str, client: redis.Redis, tmp_path: Path, page: Any
) -> None:
    """Its place may be taken by another one while the question is on the screen."""
    old = make_job(num_shards=2, records_per_shard=10)
    manifest = running_job(client, old, tmp_path)
    with serving(find_place(None, server_url)) as url:
        page.goto(f"{url}/?token={TOKEN}")
        wait_for_text(page, "#state", "running")
        page.get_by_role("button", name="Cancel…").click()
        wait_for_text(page, "#confirm-title", r"Cancel out\.npy\?")
        new = make_job(num_shards=3, records_per_shard=10, job_id="0123456789ab-00000001")
        other = CheckpointManifest(client, new.job_id)
        other.initialize(new, "/jobs/b.h5.holdfast", {})
        client.hdel(keys.JOBS, old.job_id)
        wait_for_text(page, "#title", r"b\.h5")
        page.get_by_role("button", name="Cancel the job").click()
        wait_for_text(page, "#answer", "Could not cancel")
        assert manifest.job_id != other.job_id
        status = other.job_status()
        assert status is not None
        assert status.state == "running"


def test_a_control_says_that_it_waits_until_it_is_seen_to_work(
    server_url: str, client: redis.Redis, tmp_path: Path, page: Any
) -> None:
    job = make_job(num_shards=2, records_per_shard=10)
    manifest = running_job(client, job, tmp_path)
    with serving(find_place(None, server_url)) as url:
        page.goto(f"{url}/?token={TOKEN}")
        page.get_by_role("button", name="Pause", exact=True).click()
        wait_for_text(page, "#state", "paused")
        page.wait_for_function("!document.getElementById('answer').textContent")
        manifest.unpause()
        wait_for_text(page, "#state", "running")
        assert page.inner_text("#answer") == ""


def point_finder(page: Any, job_id: str) -> Callable[[int], dict[str, float]]:
    """Where each point of the map lies on its canvas, while all of them are in sight."""
    drawn = page.evaluate(f"fetch('jobs/{job_id}/map').then((answer) => answer.json())")
    box = page.locator("#points").bounding_box()
    ends = {axis: (min(drawn[axis]), max(drawn[axis])) for axis in "xy"}
    sizes = {"x": box["width"], "y": box["height"]}
    scale = min((sizes[axis] - 40) / ((ends[axis][1] - ends[axis][0]) or 1) for axis in "xy")

    def where(place: int) -> dict[str, float]:
        off = {axis: (drawn[axis][place] - sum(ends[axis]) / 2) * scale for axis in "xy"}
        return {"x": sizes["x"] / 2 + off["x"], "y": sizes["y"] / 2 - off["y"]}

    return where


def test_a_finished_jobs_map_is_coloured_searched_and_tells_neighbours(tmp_path: Path, page: Any) -> None:
    job, job_dir = make_job(num_shards=3, records_per_shard=40), JobDir(tmp_path / "a.npy.holdfast")
    publish(job, job_dir)
    table = tmp_path / "kinds.csv"
    table.write_text(
        "id,kind,mass\n" + "".join(f"p{n},{'odd' if n % 2 else 'even'},{n}\n" for n in range(120))
    )
    with serving(find_place(str(job_dir.path), None), read_metadata(table)) as url:
        page.goto(f"{url}/?token={TOKEN}")
        wait_for_text(page, "#caption", r"120 records\. The two directions of greatest variance: 100%")
        where = point_finder(page, job.job_id)
        for kind in ("odd", "even"):
            page.locator("#points").hover(position=where(7))
            wait_for_text(page, "#tip", f"kind: {kind}")  # of the nearest one that is lit
            page.get_by_role("button", name="even 60").click()

        page.get_by_label("Search").fill("P11")
        wait_for_text(page, "#hits", "11 found")
        page.get_by_label("Found").get_by_role("button", name="p112").click()
        wait_for_text(page, "#chosen-value", "kind: even")
        page.locator("#near li").nth(9).wait_for()
        assert page.locator("#near li").count() == 10
        wait_for_text(page, "#near li", r"p1\s*1\.000")
        page.locator("#near button").first.click()
        wait_for_text(page, "#chosen-id", "^p1$")

        page.get_by_label("Search").fill("")
        page.get_by_label("Colour").select_option("mass")
        wait_for_text(page, "#colours", "116.6 or more")
        page.locator("#points").click(position=where(7))
        wait_for_text(page, "#chosen-id", "^p7$")
        page.locator("#points").press("Escape")
        page.locator("#unchosen").wait_for()

        def is_there() -> bool:
            page.locator("#points").hover(position={"x": 30, "y": 5})
            page.locator("#points").hover(position=where(7))
            return bool(page.locator("#tip").is_visible() and page.inner_text("#tip").startswith("p7\n"))

        page.locator("#points").press("+")
        wait_for(lambda: not is_there(), "the map to be zoomed")
        page.locator("#points").press("0")
        wait_for(is_there, "all points to be shown again")

        job_dir.result(1, 1).unlink()
        page.locator("#points").click(position=where(7))
        wait_for_text(page, "#map-note", "00001-1.parquet: not a readable result")


def test_a_map_stays_in_use_with_its_chosen_point_while_another_is_drawn(
    tmp_path: Path, page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = embedded(tmp_path / "a.npy", [write_numbered(tmp_path / "a.fasta", range(30))], pool="mean,cls")
    may_go_on = threading.Event()

    def make_in_time(published: Published, column: str, *more: Any) -> EmbeddingMap:
        assert column == "embedding_mean" or may_go_on.wait(60)
        return make_map(published, column, *more)

    monkeypatch.setattr("queue_app.dashboard.map.cache.make_map", make_in_time)
    with serving(find_place(made.job.output, None)) as url:
        page.goto(f"{url}/?token={TOKEN}")
        wait_for_text(page, "#caption", "30 records")
        page.get_by_label("Vectors").select_option("embedding_cls")
        wait_for_text(page, "#map-note", "Drawing the map")
        page.get_by_label("Search").fill("r17")
        page.get_by_label("Search").press("Enter")
        page.locator("#near li").nth(9).wait_for()
        of_mean = page.inner_text("#near")
        may_go_on.set()
        wait_for(lambda: page.inner_text("#near") not in ("", of_mean), "the neighbours by the other vectors")
        wait_for_text(page, "#chosen-id", "^r17$")


@dataclass(slots=True)
class AnotherPage:
    """A page that somebody else serves on this host, and the cookies that browsers sent to it."""

    address: str = ""
    cookies: list[str] = field(default_factory=list)


@pytest.fixture
def another_page() -> Iterator[AnotherPage]:
    served = AnotherPage()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            served.cookies.append(self.headers.get("Cookie", ""))
            self.send_error(404)  # which is page enough

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        served.address = f"http://127.0.0.1:{server.server_port}/none"
        yield served
        thread.join(timeout=20)


def test_only_the_page_itself_may_change_anything(
    server_url: str, client: redis.Redis, tmp_path: Path, window: Any, page: Any, another_page: AnotherPage
) -> None:
    manifest = running_job(client, make_job(num_shards=4, records_per_shard=10), tmp_path)

    def state() -> str:
        known = manifest.job_status()
        return str(known.state) if known else "unknown"

    window.clear_cookies()
    with serving(find_place(None, server_url)) as url:
        page.goto(url)
        assert "holdfast dashboard" in page.inner_text("body")
        page.goto(f"{url}/?token={TOKEN}")
        wait_for_text(page, "#state", "running")
        ours = page.url.partition("#")[0]

        page.goto(another_page.address)
        assert another_page.cookies == [""]
        # Of the same host, so that the browser sends the cookie along.
        ask = "url => fetch(url, {method: 'POST', mode: 'no-cors', credentials: 'include'}).catch(() => null)"
        page.evaluate(ask, f"{ours}jobs/{manifest.job_id}/cancel")
        assert state() == "running"

        page.goto(ours)
        page.get_by_role("button", name="Cancel…").click()
        page.keyboard.press("Escape")
        assert state() == "running"
        page.get_by_role("button", name="Cancel…").click()
        page.get_by_role("button", name="Cancel the job").click()
        wait_for_text(page, "#state", "cancelled")
        assert state() == "cancelled"
