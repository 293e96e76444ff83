"""The live picture, drawn to text."""

import io
import re
import time
from dataclasses import replace
from datetime import datetime

import pytest
from rich.console import Console

from queue_app.coordination.events import Event, EventKind
from queue_app.coordination.states import JobState, Trouble
from queue_app.coordination.worker_figures import Figures
from queue_app.status.job_snapshot import JobSnapshot, WorkerView
from queue_app.status.live import LiveView
from queue_app.status.picture import COLUMNS, EVENTS_SHOWN, GPU_COLUMNS, TROUBLES_SHOWN, picture
from queue_app.status.screens import UNCHANGED_EVERY_SECONDS, PlainView
from queue_app.status.text import UNATTENDED, describe
from tests.support.command_runs import untimed

FIGURES = Figures(105.2, 7812.0, fill=0.984, wait_share=0.012)
GPU = replace(
    FIGURES, gpu_share=0.97, gpu_memory_bytes=41_200_000_000, gpu_memory_total_bytes=150_000_000_000
)
NOW = JobSnapshot(
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


def drawn(now: JobSnapshot, *, width: int = 110, workers_most: int = 10, seconds: float | None = 75.0) -> str:
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(picture(now, seconds, width, workers_most))
    return console.export_text().replace("\N{NO-BREAK SPACE}", " ")


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
    assert line_with(shown, "cpu1@host").split() == ["cpu1@host", "cpu", "getting", "ready"]
    assert "GPU" not in shown


def test_a_gpus_load_and_memory_are_shown_where_there_is_one() -> None:
    shown = drawn(replace(NOW, workers=(replace(NOW.workers[0], figures=GPU), NOW.workers[1])))
    assert line_with(shown, "device").split()[-2:] == ["GPU", "memory"]
    assert line_with(shown, "cpu0@host").split()[-3:] == ["97%", "41/150", "GB"]


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


def test_what_happens_again_and_again_takes_one_line() -> None:
    retries = tuple(Event(1000.0 + n, EventKind.RETRIED, "tried again: shard 1: no room") for n in range(7))
    shown = drawn(replace(NOW, events=(DIED, *retries)))
    assert shown.count("no room") == 1
    assert "no room (7 times)" in shown
    assert DIED.text in shown


def test_what_happened_on_another_day_has_its_day() -> None:
    today = replace(DIED, time=time.time())
    assert re.search(r"^\d\d \w+ +worker cpu0 died", drawn(replace(NOW, events=(DIED,))), re.MULTILINE)
    assert re.search(r"^\d\d:\d\d:\d\d  worker cpu0 died", drawn(replace(NOW, events=(today,))), re.MULTILINE)


def test_a_job_that_nobody_works_on_says_so() -> None:
    left = replace(NOW, workers=())
    assert UNATTENDED in drawn(left)
    assert UNATTENDED in describe(left)


def test_an_ended_job_shows_neither_workers_nor_rates() -> None:
    shown = drawn(replace(NOW, state=JobState.DONE, done=3648, rate=0.0, workers=(), events=(DIED,)))
    assert "3,652/3,652 sequences  100%" in shown
    assert "cpu0@host" not in shown
    assert "seq/s" not in shown
    assert DIED.text in shown


def frames(*snapshots: JobSnapshot, timed: bool = True) -> str:
    """The picture after the last of these."""
    console = Console(file=io.StringIO(), force_terminal=True, width=110, height=40)
    with LiveView(console, timed=timed) as live:
        for now in snapshots:
            live.update(now)
        with console.capture() as shown:
            console.print(live._picture())
    return shown.get()


def test_a_worker_between_two_shards_is_shown_as_it_was() -> None:
    between = replace(NOW.workers[0], shard=None, figures=None)
    assert "7,812" in frames(NOW, replace(NOW, workers=(between,)))
    assert "45/114" in frames(NOW, replace(NOW, workers=(between,)))


def plainly(*snapshots: JobSnapshot) -> list[str]:
    stream = io.StringIO()
    view = PlainView(stream)
    for now in snapshots:
        view.update(now)
    return [line for line in untimed(stream.getvalue()).splitlines() if "sequences" not in line]


def test_elsewhere_each_line_begins_with_its_time_by_the_local_clock() -> None:
    stream = io.StringIO()
    before = datetime.now().replace(microsecond=0)
    PlainView(stream).say("reading the inputs")
    told, text = stream.getvalue()[:19], stream.getvalue()[19:]
    assert before <= datetime.strptime(told, "%Y-%m-%d %H:%M:%S") <= datetime.now()
    assert text == " reading the inputs\n"


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


TROUBLE = Trouble("/m/esm2: no such model", times=3, since=100.0, seen=104.2, retry_at=106.0)
STUCK = replace(NOW, workers=(NOW.workers[0], replace(NOW.workers[1], trouble=TROUBLE)))


def test_a_worker_that_cannot_begin_says_why_and_how_often_it_tried() -> None:
    said = "cannot begin: /m/esm2: no such model (tried 3 times in 4 s)"
    assert f"  cpu1@host (cpu, pid 13): {said}" in describe(STUCK)
    shown = drawn(STUCK)
    assert f"cpu1@host {said}" in shown
    assert "getting ready" not in shown
    assert STUCK.as_json()["workers"][1]["trouble"]["times"] == 3


def test_of_many_workers_that_cannot_begin_a_few_are_told_and_the_rest_counted() -> None:
    workers = tuple(replace(STUCK.workers[1], name=f"cpu{number}@host") for number in range(8))
    shown = drawn(replace(NOW, workers=workers))
    assert shown.count("no such model") == TROUBLES_SHOWN
    assert f"and {8 - TROUBLES_SHOWN} more that cannot begin" in shown


def test_a_failed_job_says_why() -> None:
    events = (Event(1.0, EventKind.FAILED, "given up: no room"),)
    assert "given up: no room" in describe(replace(NOW, state=JobState.FAILED, events=events))
    assert "given up" not in describe(replace(NOW, events=events))


def test_status_describes_each_worker_in_a_line() -> None:
    assert (
        "  cpu0@host (cpu, pid 11): shard 7, 45/114, 105 seq/s, 7,812 tokens/s, packed 98%, wait 1%\n"
        "  cpu1@host (cpu, pid 13): getting ready"
    ) in describe(NOW)


@pytest.mark.parametrize("held", [JobState.PAUSED, JobState.RUNNING])
def test_a_worker_without_a_shard_is_idle_only_when_there_is_none_for_it(held: JobState) -> None:
    """Else it loads the model, which takes its time with a large one."""
    waits = {"pending": 20} if held is JobState.PAUSED else {"pending": 0}
    now = replace(NOW, state=held, shards={**NOW.shards, **waits})
    assert line_with(drawn(now), "cpu1@host").split() == ["cpu1@host", "cpu", "idle"]
    assert describe(now).endswith("idle")


def test_a_narrow_terminal_shows_fewer_columns_each_of_them_whole() -> None:
    with_gpu = replace(NOW, workers=(replace(NOW.workers[0], figures=GPU), NOW.workers[1]), events=(DIED,))
    for width in range(50, 121):
        shown = drawn(with_gpu, width=width)
        headings = line_with(shown, "worker  ").split()
        assert headings[:3] in (["worker", "device", "shard"], ["worker", "shard", "seq/s"])
        assert {*headings} <= {*COLUMNS, *GPU_COLUMNS}
        assert "1,204/3,652 sequences  33%  10/32 shards" in shown
        assert "45/114" in line_with(shown, "cpu0@")
        assert len(shown.splitlines()) <= 9  # of these the job's rates may take two
    assert headings[-2:] == ["GPU", "memory"]


def test_a_job_that_is_watched_from_elsewhere_is_not_timed() -> None:
    shown = drawn(NOW, seconds=None)
    assert "so far" not in shown
    assert "\n210 seq/s   7,812 tokens/s" in shown


def test_the_events_of_an_earlier_run_are_shown_to_who_watches_and_not_to_who_runs() -> None:
    later = replace(DIED, text="worker cpu1 died and was started again")
    before = replace(NOW, events=(DIED,))
    after = replace(NOW, events=(DIED, later))
    assert DIED.text not in frames(before, after)
    assert later.text in frames(before, after)
    assert DIED.text in frames(before, after, timed=False)


def test_a_job_that_stands_shows_no_worker_as_it_was() -> None:
    between = replace(NOW.workers[0], shard=None, figures=None)
    for state in (JobState.PAUSED, JobState.DONE):
        assert "7,812" not in frames(NOW, replace(NOW, state=state, rate=0.0, workers=(between,)))


def test_a_worker_whose_process_died_shows_nothing_of_what_that_one_did() -> None:
    died = replace(NOW.workers[0], shard=None, figures=None, child_pid=99)
    assert "getting ready" in frames(NOW, replace(NOW, workers=(died,)))
    assert "7,812" not in frames(NOW, replace(NOW, workers=(died,)))


def test_a_shard_that_is_not_under_way_has_no_figures() -> None:
    begun = replace(NOW.workers[0], figures=Figures())
    assert line_with(drawn(replace(NOW, workers=(begun,))), "cpu0@host").split()[-1] == "45/114"


def test_plain_lines_that_say_the_same_come_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("queue_app.status.screens.time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    view = PlainView(stream)
    for second in range(int(UNCHANGED_EVERY_SECONDS) + 1):
        clock[0] = float(second)
        view.update(NOW)
    assert len(stream.getvalue().splitlines()) == 2
    clock[0] += 5
    view.update(replace(NOW, done=1201))
    assert len(stream.getvalue().splitlines()) == 3


def test_a_slow_rate_has_a_digit_more() -> None:
    assert ", 0.4 seq/s, " in describe(replace(NOW, rate=0.36))


def test_only_what_is_complete_is_called_so() -> None:
    assert "3,651/3,652 sequences (99%)" in describe(replace(NOW, done=3647))
