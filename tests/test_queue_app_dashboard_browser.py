"""The page in a real browser, beside a real job."""

import contextlib
import http.server
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from chromium import browser, needs_chromium
from factories import make_job, publish, write_fasta
from pages import TOKEN, acquire, running_job, serving
from runs import HOLDFAST, environment, running, wait_for_progress
from waiting import wait_for

from queue_app.control import pause
from queue_app.dashboard.metadata import read_metadata
from queue_app.dashboard.place import Place
from queue_app.job import JobDir
from queue_app.lookup import snapshots
from queue_app.states import Progress

pytestmark = needs_chromium

SLOW = ["-m", "mock:16,delay_ms=60", "--toks-per-batch", "512", "--commit-seconds", "0.2"]
CPU = ["--device", "cpu", "--workers", "2", "--shards", "2", "--quiet"]
SOON = 40_000


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


def settled(page: Any) -> int:
    return int(page.locator("#settled").inner_text().replace(",", ""))


def wait_for_text(page: Any, selector: str, text: str) -> None:
    page.locator(selector).filter(has_text=re.compile(text)).first.wait_for(timeout=SOON)


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def page(window: Any) -> Iterator[Any]:
    """A tab, in which no script may fail."""
    opened = window.new_page()
    failed: list[object] = []
    opened.set_default_timeout(SOON)
    opened.on("pageerror", lambda error: failed.append(error))
    yield opened
    opened.close()
    assert failed == []


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
            wait_for_text(page, "#events .bad", f"process {child} died")
            wait_for_text(page, "#events .bad", f"early end: its process {child} is gone")
            wait_for_text(page, "#legend", "with an early end")
            wait_for_text(page, "#workers td.marked", "1")
            wait_for_text(page, "#events .good", "goes on after its last commit")

            page.get_by_role("button", name="Pause", exact=True).click()
            wait_for_text(page, "#state", "paused")
            assert str(snapshots(str(output), None)[0].state) == "paused"
            page.get_by_role("button", name="Cancel…").click()
            page.get_by_role("button", name="Cancel the job").click()
            wait_for_text(page, "#state", "cancelled")
            assert job.wait(timeout=60) == 1
            wait_for_text(page, "#link", "its server has ended; read from the directory")


def test_ten_thousand_shards_are_one_picture_that_tells_each(
    server_url: str, client: redis.Redis, tmp_path: Path, page: Any
) -> None:
    job = make_job(num_shards=10_000, records_per_shard=10)
    manifest = running_job(client, job, tmp_path)
    with serving(Place.find(None, server_url)) as url:
        page.goto(f"{url}/?token={TOKEN}")
        wait_for_text(page, "#legend", "10,000 pending")
        manifest.beat(acquire(manifest, job, 9_876), Progress(1, 4, 1))
        wait_for_text(page, "#legend", "1 running")
        page.get_by_label("Shard", exact=True).fill("9876")
        told = "running · 4 of 10 done · 1 set aside · held by cpu0@here"
        wait_for_text(page, "#detail", told)
        box = page.locator("#map").bounding_box()
        assert box["height"] < 400
        page.mouse.move(box["x"] + 2, box["y"] + 2)
        wait_for_text(page, "#tip", "shard 0: pending")


def test_a_finished_jobs_map_is_coloured_searched_and_tells_neighbours(tmp_path: Path, page: Any) -> None:
    job, job_dir = make_job(num_shards=3, records_per_shard=40), JobDir(tmp_path / "a.npy.holdfast")
    publish(job, job_dir)
    table = tmp_path / "kinds.csv"
    table.write_text(
        "id,kind,mass\n" + "".join(f"p{n},{'odd' if n % 2 else 'even'},{n}\n" for n in range(120))
    )
    with serving(Place.find(str(job_dir.path), None), read_metadata(table)) as url:
        page.goto(f"{url}/?token={TOKEN}")
        page.get_by_role("button", name="Draw the map").click()
        wait_for_text(page, "#caption", r"120 records\. The two directions of greatest variance: 100 %")
        page.get_by_role("button", name="even 60").click()
        assert page.evaluate("points.lit.size") == 60
        page.get_by_role("button", name="even 60").click()

        page.get_by_label("Find").fill("P11")
        wait_for_text(page, "#hits", "11 found")
        page.get_by_label("Found").get_by_role("button", name="p112").click()
        wait_for_text(page, "#chosen-value", "kind: even")
        page.locator("#near li").nth(9).wait_for()
        assert page.locator("#near li").count() == 10
        wait_for_text(page, "#near li", r"p1\s*1\.000")
        page.locator("#near button").first.click()
        wait_for_text(page, "#chosen-id", "^p1$")

        page.get_by_label("Find").fill("")
        page.get_by_label("Colour").select_option("mass")
        wait_for_text(page, "#colours", "116.6 or more")
        x, y = page.evaluate("points.at(7)")
        page.locator("#points").click(position={"x": x, "y": y})
        wait_for_text(page, "#chosen-id", "^p7$")
        page.locator("#points").press("Escape")
        page.locator("#unchosen").wait_for()
        page.locator("#points").press("+")
        assert page.evaluate("points.at(7)") != [x, y]
        page.locator("#points").press("0")
        page.wait_for_function("([x]) => points.view && Math.abs(points.at(7)[0] - x) < 1", arg=[x])

        job_dir.result(1, 1).unlink()
        page.locator("#points").click(position={"x": x, "y": y})
        wait_for_text(page, "#map-note", "00001-1.parquet: not a readable result")


@pytest.fixture
def another_page() -> Iterator[str]:
    """The address of a page that somebody else serves on this host."""
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.handle_request)  # its 404 is page enough
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/none"
        thread.join(timeout=20)


def test_only_the_page_itself_may_change_anything(
    server_url: str, client: redis.Redis, tmp_path: Path, window: Any, page: Any, another_page: str
) -> None:
    manifest = running_job(client, make_job(num_shards=4, records_per_shard=10), tmp_path)

    def state() -> str:
        known = manifest.job_status()
        return str(known.state) if known else "unknown"

    window.clear_cookies()
    with serving(Place.find(None, server_url)) as url:
        page.goto(url)
        assert "holdfast dashboard" in page.inner_text("body")
        page.goto(f"{url}/?token={TOKEN}")
        wait_for_text(page, "#state", "running")

        page.goto(another_page)
        # Of the same host, so that the browser sends the cookie along.
        ask = "url => fetch(url, {method: 'POST', mode: 'no-cors', credentials: 'include'}).catch(() => null)"
        page.evaluate(ask, f"{url}/jobs/{manifest.job_id}/cancel")
        assert state() == "running"

        page.goto(url)
        page.get_by_role("button", name="Cancel…").click()
        page.keyboard.press("Escape")
        assert state() == "running"
        page.get_by_role("button", name="Cancel…").click()
        page.get_by_role("button", name="Cancel the job").click()
        wait_for_text(page, "#state", "cancelled")
        assert state() == "cancelled"
