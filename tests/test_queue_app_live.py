"""The live picture, drawn to text."""

import io
from dataclasses import replace

from rich.console import Console

from queue_app.events import Event, EventKind
from queue_app.figures import Figures
from queue_app.live import EVENTS_SHOWN, LiveView, picture
from queue_app.monitor import Snapshot, WorkerView
from queue_app.states import JobState
from queue_app.view import PlainView, describe

FIGURES = Figures(105.2, 7812.0, fill=0.984, wait_share=0.012)
GPU = replace(
    FIGURES, gpu_share=0.97, gpu_memory_bytes=41_200_000_000, gpu_memory_total_bytes=150_000_000_000
)
NOW = Snapshot(
    job="0123456789ab-cafecafe",
    state=JobState.RUNNING,
    total=3652,
    done=1200,
    quarantined=4,
    num_shards=32,
    shards={"pending": 20, "running": 2, "done": 10, "failed": 0, "cancelled": 0},
    rate=210.4,
    eta_seconds=725.0,
    workers=(
        WorkerView("cpu0@host", "cpu0", "cpu", "host", 11, 12, 7, 45, 114, FIGURES),
        WorkerView("cpu1@host", "cpu1", "cpu", "host", 13, 14, None),
    ),
)
DIED = Event(1000.0, EventKind.WORKER, "worker cpu0 died and was started again")


def drawn(now: Snapshot, *, workers_most: int = 10) -> str:
    console = Console(record=True, width=110, file=io.StringIO())
    console.print(picture(now, 75.0, workers_most))
    return console.export_text()


def line_with(shown: str, what: str) -> str:
    (line,) = [line for line in shown.splitlines() if what in line]
    return line


def test_the_job_stands_with_its_counts_rates_and_time_left() -> None:
    shown = drawn(NOW)
    headline = line_with(shown, "sequences")
    assert "running" in headline
    assert "1,204/3,652 sequences  33%  10/32 shards" in headline
    assert "1 min 15 s so far   210 seq/s   7,812 tokens/s   12 min 05 s left   4 quarantined" in shown


def test_every_worker_has_a_line_with_its_shard_and_figures() -> None:
    shown = drawn(NOW)
    busy = line_with(shown, "cpu0@host").split()
    assert busy[:3] == ["cpu0@host", "cpu", "7"]
    assert busy[-5:] == ["45/114", "105", "7,812", "98%", "1%"]
    assert line_with(shown, "cpu1@host").split() == ["cpu1@host", "cpu", "idle"]
    assert "GPU" not in shown


def test_a_gpus_load_and_memory_are_shown_where_there_is_one() -> None:
    shown = drawn(replace(NOW, workers=(replace(NOW.workers[0], figures=GPU), NOW.workers[1])))
    assert line_with(shown, "device").split()[-2:] == ["GPU", "memory"]
    assert "97%  41/150 GB" in line_with(shown, "cpu0@host")


def test_more_workers_than_lines_are_counted() -> None:
    many = tuple(replace(NOW.workers[0], name=f"gpu{number}@host") for number in range(64))
    shown = drawn(replace(NOW, workers=many), workers_most=10)
    assert shown.count("@host") == 9
    assert "and 55 more" in shown


def test_the_latest_events_are_shown_and_earlier_ones_counted() -> None:
    events = tuple(replace(DIED, text=f"event {number}") for number in range(EVENTS_SHOWN + 2))
    shown = drawn(replace(NOW, events=events))
    assert "2 earlier events" in shown
    assert "event 1\n" not in shown
    assert f"event {EVENTS_SHOWN + 1}" in shown


def test_a_job_that_nobody_works_on_says_so() -> None:
    assert "no worker is at work on it" in drawn(replace(NOW, workers=()))


def test_an_ended_job_shows_neither_workers_nor_rates() -> None:
    shown = drawn(replace(NOW, state=JobState.DONE, done=3648, events=(DIED,)))
    assert "3,652/3,652 sequences  100%" in shown
    assert "cpu0@host" not in shown
    assert "seq/s" not in shown
    assert DIED.text in shown


def test_a_worker_between_two_shards_keeps_its_figures_on_the_screen() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=110, height=40)
    with LiveView(console) as live:
        live.update(NOW)
        between = replace(NOW.workers[0], shard=None, figures=None)
        live.update(replace(NOW, workers=(between,)))
        with console.capture() as shown:
            console.print(live._picture())
    assert "7,812" in shown.get()


def plainly(*snapshots: Snapshot) -> list[str]:
    stream = io.StringIO()
    view = PlainView(stream)
    for now in snapshots:
        view.update(now)
    return [line for line in stream.getvalue().splitlines() if "sequences" not in line]


def test_elsewhere_each_event_is_one_line_told_once() -> None:
    after = replace(NOW, events=(DIED,))
    assert plainly(NOW, after, after) == [DIED.text]


def test_the_events_of_an_earlier_run_are_not_told_again() -> None:
    later = replace(DIED, time=2000.0)
    before = replace(NOW, events=(DIED,))
    assert plainly(before, replace(before, events=(DIED, later))) == [later.text]


def test_a_retry_that_says_the_same_is_told_again_only_after_the_job_got_on() -> None:
    retries = [Event(float(n), EventKind.RETRIED, "tried again: shard 1: no room") for n in range(4)]
    stuck = replace(NOW, trouble="shard 1: no room")
    told = plainly(
        NOW,
        replace(stuck, events=tuple(retries[:1])),
        replace(stuck, events=tuple(retries[:2])),
        replace(NOW, events=tuple(retries[:2])),
        replace(stuck, events=tuple(retries[:3])),
    )
    assert told == ["tried again: shard 1: no room"] * 2


def test_status_describes_each_worker_in_a_line() -> None:
    assert (
        "  cpu0@host (cpu, pid 11): shard 7, 45/114, 105 seq/s, 7,812 tokens/s, fill 98%, wait 1%\n"
        "  cpu1@host (cpu, pid 13): idle"
    ) in describe(NOW)
