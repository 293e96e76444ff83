"""The promises of a plan: it says what embed then does, names what would fail, and leaves nothing behind."""

import inspect
import json
import re
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.testing import CliRunner

from queue_app.choices import H5Layout
from queue_app.cli import main, preflight_commands
from queue_app.errors import InputError, UsageError
from queue_app.ingest.request import EmbedRequest
from queue_app.ingest.settle import start_settling
from queue_app.job.directory import JobDir
from queue_app.job.spec import Job
from queue_app.outputs.export import export
from queue_app.outputs.formats.writers import OUTPUTS
from queue_app.preflight.plan import Plan, make_plan
from queue_app.preflight.plan_json import plan_as_json
from queue_app.preflight.plan_text import about, describe_plan
from queue_app.preflight.time_estimate import DeviceTime, Timing
from queue_app.settings import RuntimeConfig
from tests.support.command_runs import holdfast
from tests.support.jobs_and_inputs import protein
from tests.support.output_files import files_of

MODEL = "mock:64"
LIMIT = 110
OPTIONS = ["-m", MODEL, "--max-length", LIMIT, "--toks-per-batch", 512, "--device", "cpu", "--workers", 2]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Proteins, some of them twice, with bad ones among them, and a job that embedded them."""
    home = tmp_path_factory.mktemp("plan")
    records = [(f"p{number}", protein(number)) for number in range(600)]
    records += [("p7", protein(7)), ("twin", protein(8)), ("bad", "MK1V"), ("worse", "MKVV?"), ("none", "")]
    records += [(f"odd{number}", "MK1" + "A" * number) for number in range(5)]
    (home / "in.fasta").write_text("".join(f">{name} of the test\n{letters}\n" for name, letters in records))
    holdfast("embed", home / "in.fasta", *OPTIONS, "-o", home / "out.h5", expect=3)
    return home


@pytest.fixture(scope="module")
def job(home: Path) -> Job:
    return JobDir(home / "out.h5.holdfast").load()


@pytest.fixture(scope="module")
def planned(home: Path) -> dict[str, Any]:
    """The command's own answer, for an output beside that of the job."""
    arguments = [home / "in.fasta", *OPTIONS, "-o", home / "other.h5", "--json", "--gpu-hour-cost", 3.6]
    before = sorted(home.rglob("*"))
    answer: dict[str, Any] = json.loads(holdfast("plan", *arguments).stdout)
    assert sorted(home.rglob("*")) == before
    return answer


def request_for(source: Path, **more: Any) -> EmbedRequest:
    output = source.with_name("planned.h5")
    return replace(EmbedRequest(inputs=[source], model=MODEL, output=output, max_length=LIMIT), **more)


def plan_of(request: EmbedRequest, seconds: float = 0) -> Plan:
    config = RuntimeConfig()
    return make_plan(
        request,
        start_settling(request, to_write=False)(),
        queues=["cpu0", "cpu1"],
        threads=1,
        config=config,
        seconds=seconds,
        say=lambda _: None,
    )


def screen(plan: Plan, gpu_hour_cost: float | None = None, width: int = 100) -> str:
    return "\n".join(describe_plan(plan, gpu_hour_cost=gpu_hour_cost, width=width, unicode=True))


def flat(shown: str) -> str:
    """However its lines are broken."""
    return " ".join(shown.split())


# ---- what embed then does


def test_the_counts_options_and_shards_are_those_of_the_job(planned: dict[str, Any], job: Job) -> None:
    counts = job.counts
    assert (planned["records"], planned["rejected"]) == (counts.num_records, counts.num_rejected)
    assert planned["duplicate_ids"] == counts.num_duplicate_ids == 1
    assert planned["duplicate_sequences"] == counts.num_duplicate_sequences == 2
    assert planned["shards"] == len(job.shards)
    assert planned["options"]["toks_per_batch"] == job.options.toks_per_batch == 512
    assert (planned["threads"], planned["queues"]) == (job.threads, ["cpu0", "cpu1"])


def test_the_shards_are_cut_where_the_producer_cuts_them(home: Path, job: Job) -> None:
    shards = plan_of(request_for(home / "in.fasta")).job.shards
    nameless = {"job_id": "", "digest": "00" * 16}
    assert [replace(shard, **nameless) for shard in shards] == [
        replace(shard, **nameless) for shard in job.shards
    ]


def test_tokens_and_batches_are_those_that_are_computed(home: Path, planned: dict[str, Any]) -> None:
    logs = "".join(log.read_text() for log in (home / "out.h5.holdfast" / "logs").glob("cpu*.log"))
    computed = {
        shard: (int(batches), int(tokens))
        for shard, batches, tokens in re.findall(r"shard=(\d+) token=\d+ batches=(\d+) tokens=(\d+)", logs)
    }
    # What twins spare is told by their share of the characters.
    assert planned["tokens"] == pytest.approx(sum(tokens for _, tokens in computed.values()), rel=0.005)
    assert planned["batches"] == pytest.approx(sum(batches for batches, _ in computed.values()), rel=0.15)


def test_the_sizes_are_those_of_the_files(
    home: Path, job: Job, planned: dict[str, Any], tmp_path: Path
) -> None:
    there = JobDir(home / "out.h5.holdfast")
    sizes = {
        "results": sum(path.stat().st_size for path in there.results.iterdir()),
        "shards": sum(path.stat().st_size for path in there.shards.iterdir()),
    }
    assert {name: planned["bytes"][name] for name in sizes} == pytest.approx(sizes, rel=0.1)
    for name in planned["bytes"]["outputs"].keys() - {"directory"}:
        output = tmp_path / f"out.{name}"
        export(job, there, output)
        size = sum(path.stat().st_size for path in files_of(output))
        assert planned["bytes"]["outputs"][name] == pytest.approx(size, rel=0.06)
    assert planned["bytes"]["outputs"].keys() == OUTPUTS.keys()
    assert (planned["output"], planned["format"]) == (str(home / "other.h5"), "h5")


def test_twins_are_in_the_output_and_not_in_the_results(tmp_path: Path) -> None:
    alone, twice = (tmp_path / "alone.fasta", tmp_path / "twice.fasta")
    text = "".join(f">p{number}\n{protein(number)}\n" for number in range(200))
    alone.write_text(text)
    twice.write_text(text * 2)
    once, doubled = (plan_of(request_for(each)) for each in (alone, twice))
    assert doubled.output_bytes == pytest.approx(2 * once.output_bytes, rel=0.1)
    assert doubled.sizes.results == pytest.approx(once.sizes.results, rel=0.1)


@pytest.mark.parametrize("layout", get_args(H5Layout))
def test_the_size_of_an_h5_is_that_of_its_layout(
    home: Path, job: Job, tmp_path: Path, layout: H5Layout
) -> None:
    request = request_for(home / "in.fasta", h5_layout=layout)
    export(job, JobDir(home / "out.h5.holdfast"), tmp_path / "out.h5", h5_layout=layout)
    size = (tmp_path / "out.h5").stat().st_size
    assert plan_of(request).sizes.outputs["h5"] == pytest.approx(size, rel=0.06)


def test_every_rejected_record_is_counted_under_its_reason_and_the_first_are_named(
    planned: dict[str, Any],
) -> None:
    found = {
        each["reason"]: (each["num_records"], each["first_ids"]) for each in planned["rejected_by_reason"]
    }
    assert found == {
        "illegal letter '1' of a protein sequence": (6, ["bad", "odd0", "odd1"]),
        "illegal letter '?' of a protein sequence": (1, ["worse"]),
        "empty sequence": (1, ["none"]),
    }


def test_records_over_the_limit_are_counted_with_and_without_timing(
    home: Path, planned: dict[str, Any]
) -> None:
    letters = [protein(number) for number in [*range(600), 7, 8]]
    long = sum(len(each) > LIMIT for each in letters)
    untimed = plan_of(request_for(home / "in.fasta"))
    assert planned["longer_than_limit"] == untimed.num_long == long > 0


def test_the_time_is_measured_on_every_device_and_priced(planned: dict[str, Any]) -> None:
    time, cost = planned["time"], planned["cost"]
    assert [device["queue"] for device in time["devices"]] == ["cpu0", "cpu1"]
    assert 0 < time["least_seconds"] <= time["seconds"] <= time["most_seconds"]
    assert 3 < time["beside_seconds"] < time["seconds"]
    assert 0 < time["free_share"] <= 1
    assert cost["usual"] == pytest.approx(time["seconds"] / 1000)  # one processor at 3.6 an hour


def test_plan_takes_every_option_of_embed() -> None:
    asked, taken = (inspect.signature(each).parameters for each in (main.embed, preflight_commands.plan))
    assert asked.keys() - taken.keys() == {"allow_quarantine"}, "which is about how the job ends"
    different = {name for name in asked.keys() & taken.keys() if asked[name].default != taken[name].default}
    assert different == {"output"}


# ---- what would fail


def test_too_little_room_is_a_problem_that_names_the_disk(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10_000, 9_000, 1_000))
    plan = plan_of(request_for(home / "in.fasta"))
    assert any("1.0 kB are free; make room" in problem for problem in plan.problems)
    assert re.search(r"problem .* needs .* 1.0 kB are free", flat(screen(plan)))


def test_a_device_that_cannot_compute_is_a_problem_and_all_else_is_told(tmp_path: Path) -> None:
    (tmp_path / "in.fasta").write_text(f">a\nMKV\n>b\n{protein(1)}\n")
    options = ["-m", "mock:8,kill=MK", "--device", "cpu", "-o", str(tmp_path / "out.npy"), "--quiet"]
    ended = CliRunner().invoke(main.app, ["plan", str(tmp_path / "in.fasta"), *options])
    assert ended.exit_code == 1
    assert "2 proteins" in ended.stdout
    assert re.search(r"problem +cpu\d: the process was killed", ended.stdout)


def test_what_embed_refuses_is_refused_alike(tmp_path: Path) -> None:
    source = tmp_path / "bad.csv"
    source.write_text("id,sequence\n" + "a,MKV\n" * 50 + "b\n")
    with pytest.raises(InputError, match=r"bad.csv: line 52: 1 fields"):
        plan_of(request_for(source))
    with pytest.raises(UsageError, match="unknown format"):
        plan_of(request_for(source, output=tmp_path / "out.pickle"))


# ---- the screen


def test_nothing_is_computed_when_no_time_is_asked_for(home: Path) -> None:
    plan = plan_of(request_for(home / "in.fasta"))
    assert plan.timing is None
    assert plan_as_json(plan, gpu_hour_cost=1.0)["cost"] is None
    assert "time" not in [line[:4] for line in screen(plan, 1.0).splitlines()]
    assert "cost       not known, as nothing was computed" in screen(plan, 1.0)


def test_a_job_that_is_there_already_is_noticed(home: Path) -> None:
    assert not plan_of(request_for(home / "in.fasta")).begun
    begun = plan_of(request_for(home / "in.fasta", output=home / "out.h5"))
    assert "a job lies there already" in screen(begun)
    assert sum(copy.num_bytes for room in begun.rooms for copy in room.copies if copy.name == "results")


def test_inputs_without_one_good_record_are_planned_too(tmp_path: Path) -> None:
    (tmp_path / "bad.fasta").write_text(">a\n\n>b\nM1\n")
    plan = plan_of(request_for(tmp_path / "bad.fasta"), seconds=5)
    assert "2 records cannot be embedded" in screen(plan)
    assert "1 sequences" not in screen(plan)
    assert plan.timing is None
    assert plan_as_json(plan, gpu_hour_cost=None)["lengths"] is None


def test_ids_of_any_length_and_kind_are_shown_short_and_without_breaks(tmp_path: Path) -> None:
    table = f'id,sequence\n"two\nlines",M1\n{"x" * 300},M1\n'
    (tmp_path / "ids.csv").write_text(table)
    shown = screen(plan_of(request_for(tmp_path / "ids.csv", alphabet="protein")))
    assert "two lines, " + "x" * 40 + "…" in flat(shown)


@pytest.mark.parametrize("width", [100, 80, 40])
def test_a_line_that_does_not_fit_goes_on_below_under_its_label(home: Path, width: int) -> None:
    plan = replace(plan_of(request_for(home / "in.fasta")), timing=timing_of(device(300, waited=0.5)))
    lines = screen(plan, 2.5, width=width).splitlines()
    assert all(len(line) <= width for line in lines)
    labels = [line[:10].strip() for line in lines if line[:10].strip()]
    assert labels == [
        "input",
        "lengths",
        "quarantine",
        "repeats",
        "too long",
        "model",
        "work",
        "disk",
        "time",
        "cost",
    ]


def test_one_is_said_of_one_and_small_money_is_not_rounded_away(tmp_path: Path) -> None:
    (tmp_path / "in.fasta").write_text(">a\nMKV\n>a\nMKV\n>b\nM1\n")
    plan = plan_of(request_for(tmp_path / "in.fasta"))
    shown = screen(replace(plan, timing=timing_of(device(10))), 1.0)
    assert "1 record cannot be embedded" in shown
    assert "1 sequence (33.3%) seen before: computed once for all" in shown
    assert "1 id seen before" in shown
    assert re.search(r"cost +about 0\.006 \(0\.005 to 0\.006\), at 1 an hour", shown)


def test_reused_vectors_are_counted_and_cost_no_time(home: Path) -> None:
    plan = plan_of(request_for(home / "in.fasta", reuse=home / "out.h5", toks_per_batch=512), seconds=5)
    assert "600 vectors copied from an earlier job (--reuse)" in screen(plan)
    assert plan.timing is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "1 s"), (59, "59 s"), (118, "2 min"), (133, "2 min 10 s"), (599, "10 min"), (1500, "25 min"),
        (5399, "90 min"), (19_300, "5 h 20 min"), (86_399, "24 h 00 min"), (280_000, "3.2 days"),
    ],
)  # fmt: skip
def test_times_are_said_as_exactly_as_an_estimate_deserves(seconds: float, said: str) -> None:
    assert about(seconds) == said


# ---- the reckoning


def device(seconds: float, error: float = 0.0, *, queue: str = "gpu0", waited: float = 0.0) -> DeviceTime:
    return DeviceTime(queue, seconds, error, 1e6, 0, 10, 1000, 10, waited)


def timing_of(*devices: DeviceTime, largest_share: float = 0.0) -> Timing:
    return Timing(devices, loading_seconds=6, fixed_seconds=4, largest_share=largest_share)


def test_devices_share_the_work_by_their_speed() -> None:
    timing = timing_of(device(300), device(600))
    assert timing.seconds == pytest.approx(10 + 200)
    assert timing.tokens_per_second == pytest.approx(1e6 / 300 + 1e6 / 600)


def test_an_uncertain_device_widens_the_range() -> None:
    sure, unsure = (timing_of(device(300, error)) for error in (0.01, 0.2))
    assert sure.seconds == unsure.seconds
    assert unsure.least_seconds < sure.least_seconds < sure.seconds < sure.most_seconds < unsure.most_seconds


def test_a_large_last_shard_may_keep_the_others_waiting() -> None:
    pair = (device(300), device(300))
    apart = timing_of(*pair, largest_share=0.5).most_seconds - timing_of(*pair).most_seconds
    assert apart == pytest.approx(150)
    assert timing_of(pair[0], largest_share=0.5).most_seconds == timing_of(pair[0]).most_seconds


def test_on_a_busy_machine_all_beside_computing_takes_longer_and_the_range_begins_with_a_free_one() -> None:
    free, busy = (timing_of(device(300, queue="cpu0", waited=waited)) for waited in (0.0, 0.75))
    assert free.beside_seconds == 6 + 4
    assert busy.beside_seconds == 6 + 4 * 4
    assert busy.least_seconds * 1.15 == pytest.approx(6 / 4 + 4 + 300 / 4)
    # A GPU computes as fast, however long its process waits for a processor.
    assert timing_of(device(300, waited=0.75)).least_seconds * 1.15 == pytest.approx(6 / 4 + 4 + 300)


def test_a_busy_machine_is_said_to_be_one(home: Path) -> None:
    plan = plan_of(request_for(home / "in.fasta"))
    busy, free = (replace(plan, timing=timing_of(device(300, waited=waited))) for waited in (0.6, 0.05))
    assert "a busy machine: the sample waited 60% of its time for a processor" in flat(screen(busy))
    assert "busy" not in screen(free)
