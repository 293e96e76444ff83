"""The run card of a published job, made from its directory alone."""

import dataclasses
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from queue_app.cli.main import app
from queue_app.ingest.model_options import configured
from queue_app.ingest.request import DECLARED, EmbedRequest
from queue_app.job.directory import JobDir
from queue_app.job.history import Attempt, AttemptLog, CommandLog, Outcome
from queue_app.job.spec import EmbedOptions, Job
from queue_app.model.spec import (
    AdapterSpec,
    EncoderSpec,
    ModelSpec,
    NormalizeSpec,
    PromptSpec,
    TokensSpec,
)
from queue_app.model.written_sequences import TokenRules
from queue_app.outputs.clean import clean
from queue_app.outputs.export import export
from queue_app.outputs.run_card.card_json import card_json
from queue_app.outputs.run_card.command import command_of
from queue_app.outputs.run_card.markdown import INPUTS_SHOWN, OPTIONS, card_markdown
from queue_app.status.summary import print_summary
from tests.support import ROOT
from tests.support.jobs_and_inputs import make_job, publish

JOB_ID = "0123456789ab-cafecafe"
PLANNED = {"num_tokens": 1000, "num_batches": 2, "num_long": 1, "fill": 0.25}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return dataclasses.replace(make_job(num_shards=3, records_per_shard=5), output=str(tmp_path / "out.npy"))


@pytest.fixture
def job_dir(tmp_path: Path) -> JobDir:
    return JobDir(tmp_path / "job")


def attempt(
    job_dir: JobDir,
    shard: int,
    token: int,
    *,
    began: float,
    seconds: float,
    worker: str = "gpu0@a",
    **news: Any,
) -> None:
    """One attempt's file, as a worker leaves it after `seconds`."""
    noted = Attempt(JOB_ID, shard, token, worker, "NVIDIA H200", "2.13", began=began, seen=began)
    AttemptLog(job_dir, noted, lambda: began + seconds, iter([0.0, seconds]).__next__).note(**news)


def exported(job: Job, job_dir: JobDir) -> dict[str, Any]:
    output = Path(job.output)
    export(job, job_dir, output)
    card = json.loads(output.with_name("out.npy.card.json").read_text())
    assert isinstance(card, dict)
    return card


def undisturbed(job: Job, job_dir: JobDir) -> None:
    """Each shard was done by the one attempt at it, in 10 s."""
    for shard in job.shards:
        attempt(
            job_dir, shard.index, 1, began=1000.0 + 10 * shard.index, seconds=10.0,
            outcome=Outcome.DONE, **PLANNED,
        )  # fmt: skip


def test_its_counts_are_those_of_the_output(job: Job, job_dir: JobDir) -> None:
    publish(job, job_dir, quarantined={0, 7})
    undisturbed(job, job_dir)
    card = exported(job, job_dir)
    assert card["counts"] == {
        "records": 15, "embedded": 13, "quarantined": 2, "longer_than_limit": 3,
        "duplicate_ids": 0, "duplicate_sequences": 0, "computed_once": 0, "reused": 0,
    }  # fmt: skip
    assert card["quarantine"]["reasons"] == {"empty sequence": 2}
    assert [entry["id"] for entry in card["quarantine"]["first"]] == ["p0", "p7"]
    assert card["inputs"][0]["digest"] == job.inputs[0].digest


def test_its_speed_is_over_the_time_at_work(job: Job, job_dir: JobDir) -> None:
    publish(job, job_dir)
    undisturbed(job, job_dir)
    card = exported(job, job_dir)
    assert card["throughput"] == {
        "began": "1970-01-01T00:16:40+00:00", "ended": "1970-01-01T00:17:10+00:00", "busy_seconds": 30.0,
        "sequences_per_second": 0.5, "num_tokens": 3000, "tokens_per_second": 100.0, "fill": 0.2441,
    }  # fmt: skip
    assert card["devices"] == [{"name": "NVIDIA H200", "num_workers": 1, "num_hosts": 1}]


def test_what_a_shard_needed_several_attempts_for_counts_once_and_is_told_as_survived(
    job: Job, job_dir: JobDir
) -> None:
    publish(job, job_dir)
    CommandLog(job_dir, lambda: 900.0).worker_died()
    CommandLog(job_dir, lambda: 950.0)
    attempt(job_dir, 0, 1, began=990.0, seconds=2.0, worker="gpu0@b", **PLANNED)  # died
    attempt(job_dir, 1, 1, began=990.0, seconds=1.0, outcome=Outcome.FAILED, reason="no room", **PLANNED)
    attempt(job_dir, 2, 1, began=991.0, seconds=1.0, outcome=Outcome.STOPPED, **PLANNED)
    for shard in job.shards:
        attempt(job_dir, shard.index, 2, began=1000.0, seconds=8.0, outcome=Outcome.DONE, **PLANNED)
    card = exported(job, job_dir)
    assert card["faults"] == {
        "command_starts": 2, "worker_deaths": 1, "server_deaths": 0, "shards_recovered": 1,
        "shards_retried": 1, "shards_given_back": 1, "errors": ["no room"],
    }  # fmt: skip
    assert card["throughput"]["num_tokens"] == 3000
    assert card["throughput"]["busy_seconds"] == 10.0
    assert card["devices"] == [{"name": "NVIDIA H200", "num_workers": 2, "num_hosts": 2}]


def test_a_job_without_a_whole_history_has_a_card_that_does_not_guess(job: Job, job_dir: JobDir) -> None:
    publish(job, job_dir)
    attempt(job_dir, 0, 1, began=1000.0, seconds=10.0, outcome=Outcome.DONE, **PLANNED)
    card = exported(job, job_dir)
    assert set(card["throughput"].values()) == {None}
    assert card["counts"]["longer_than_limit"] is None
    assert "does not tell how long" in Path(job.output).with_name("out.npy.card.md").read_text()


def test_reasons_are_counted_without_the_places_that_they_name(job: Job, job_dir: JobDir) -> None:
    publish(job, job_dir, quarantined={0, 7})
    for index, place in ((0, 3), (1, 12)):
        done = job_dir.done(index)
        reason = f"illegal letter '4' at position {place} of a protein sequence"
        done.write_text(done.read_text().replace("empty\\tsequence", reason))
    reasons = exported(job, job_dir)["quarantine"]["reasons"]
    assert reasons == {"illegal letter '4' of a protein sequence": 2}


def test_its_command_names_every_option_that_counts(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("queue_app.host.devices.num_cores", lambda: 3)
    options = dataclasses.replace(job.options, id_column="my id", pool="max")
    words = shlex.split(command_of(dataclasses.replace(job, options=options), Path("/jobs/a b.npy")))
    assert words[:7] == ["holdfast", "embed", "/data/a.fasta", "-m", "mock:8", "-o", "/jobs/a b.npy"]
    flags = dict(zip(words[7::2], words[8::2], strict=True))
    assert flags == {
        "--pool": "max", "--dtype": "float32", "--store-dtype": "float32", "--alphabet": "protein",
        "--long": "window", "--max-length": "1022", "--toks-per-batch": "2048", "--id-column": "my id",
        "--layers": "-1", "--num-shards": "3", "--device": "cpu", "--workers": "3",
    }  # fmt: skip


def test_the_card_for_people_says_the_same(job: Job, job_dir: JobDir) -> None:
    piped = dataclasses.replace(job, inputs=(dataclasses.replace(job.inputs[0], name="a|b.fasta"),))
    publish(piped, job_dir, quarantined={0})
    undisturbed(piped, job_dir)
    card = exported(piped, job_dir)
    text = Path(job.output).with_name("out.npy.card.md").read_text()
    for said in (
        card["methods"].replace("|", r"\|"),
        card["command"],
        card["output"]["content_digest"],
        "| embedded | 14 |",
    ):
        assert said in text
    assert "| a\\|b.fasta | 100 bytes |" in text
    assert "## Interruptions survived\n\nNone.\n" in text


def test_its_keys_are_those_that_the_documentation_explains(job: Job, job_dir: JobDir) -> None:
    publish(job, job_dir)
    card = exported(job, job_dir)
    page = (ROOT / "docs" / "file_formats.md").read_text()
    section = page.partition("## The run card")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    assert list(card) == [key for row in rows for key in re.findall(r"`(\w+)`", row[1])]
    told = {row[1].strip(): row[2] for row in rows}
    for key in ("output", "counts", "model_name"):
        assert [*card[key]] == [
            word for word in re.findall(r"`(\w+)`", told[f"`{key}`"]) if word in card[key]
        ]


def test_the_card_for_people_has_its_fingerprints_at_the_end(job: Job, job_dir: JobDir) -> None:
    publish(job, job_dir, quarantined={0})
    exported(job, job_dir)
    text = Path(job.output).with_name("out.npy.card.md").read_text()
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [
        "# out.npy: embeddings by mock:8, a stand-in without weights, whose vectors mean nothing",
        "## What was embedded", "## How", "## What came out", "## Quarantined", "## Devices and speed",
        "## Interruptions survived", "## To compute it again", "## For a Methods section", "## To cite",
        "## Fingerprints",
    ]  # fmt: skip
    beginning, _, fingerprints = text.partition("## Fingerprints")
    assert job.model.digest in fingerprints
    assert re.search(r"\b[0-9a-f]{32}\b", beginning.replace(job.digest, "")) is None


def test_no_option_is_without_words_for_people() -> None:
    assert set(OPTIONS) == {field.name for field in dataclasses.fields(EmbedOptions)}


def test_the_card_for_people_lists_the_first_of_many_inputs(job: Job, job_dir: JobDir) -> None:
    many = dataclasses.replace(job, inputs=INPUTS_SHOWN * job.inputs + 2 * job.inputs)
    publish(many, job_dir)
    card = export(many, job_dir, Path(job.output)).card
    text = card_markdown(card)
    assert text.count(job.inputs[0].digest) == INPUTS_SHOWN
    assert f"And 2 more: `{card.output}.card.json` lists all of them." in text
    assert len(card_json(card)["inputs"]) == INPUTS_SHOWN + 2


def test_a_second_export_has_a_card_of_its_own(job: Job, job_dir: JobDir, tmp_path: Path) -> None:
    publish(job, job_dir)
    export(job, job_dir, tmp_path / "other.parquet")
    assert "-o " + str(tmp_path / "other.parquet") in (tmp_path / "other.parquet.card.md").read_text()


def test_clean_keeps_the_card_and_what_another_one_is_made_from(job: Job, job_dir: JobDir) -> None:
    publish(job, job_dir)
    undisturbed(job, job_dir)
    before = exported(job, job_dir)
    clean(job_dir)
    assert Path(job.output).with_name("out.npy.card.md").exists()
    assert {**exported(job, job_dir), "written": None} == {**before, "written": None}


def test_the_summary_names_what_was_survived_and_the_card(
    job: Job, job_dir: JobDir, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(job, job_dir, quarantined={0})
    undisturbed(job, job_dir)
    CommandLog(job_dir).worker_died()
    attempt(job_dir, 0, 0, began=990.0, seconds=10.0, **PLANNED)
    report = export(job, job_dir, Path(job.output))
    print_summary(report, quiet=True)
    assert capsys.readouterr().out.splitlines() == [
        f"{job.output}: 14 of 15 sequences embedded",
        f"1 quarantined, listed in {job.output}.quarantine.tsv",
        f"digest {report.output_digest}",
        "40 s at work: 0.3 seq/s, 75 tokens/s, batches filled to 24%",
        "survived 1 worker death and 1 recovered shard",
        f"run card {job.output}.card.md",
    ]


@pytest.mark.parametrize(
    ("cores", "threads", "workers"), [(8, 2, "4"), (7, 3, "2"), (2, 2, "1"), (1, 4, "1")]
)
def test_its_command_gives_each_worker_the_jobs_number_of_threads(
    job: Job, monkeypatch: pytest.MonkeyPatch, cores: int, threads: int, workers: str
) -> None:
    """Another number changes the last bits."""
    monkeypatch.setattr("queue_app.host.devices.num_cores", lambda: cores)
    words = shlex.split(command_of(dataclasses.replace(job, threads=threads), Path("out.npy")))
    assert words[words.index("--workers") + 1] == workers


def test_its_torch_is_that_of_the_workers_whoever_writes_it(job: Job, job_dir: JobDir) -> None:
    publish(job, job_dir)
    undisturbed(job, job_dir)
    assert exported(job, job_dir)["versions"]["torch"] == "2.13"


def test_it_names_what_made_the_tokens(job: Job, job_dir: JobDir) -> None:
    publish(job, job_dir)
    assert exported(job, job_dir)["versions"]["tokenizers"]


# ---- the model


BASE = ModelSpec(
    "org/model", "/models/m", "bert", "ef" * 16, 1000, "text", 254, "mean",
    EncoderSpec("", "bert", ("model.safetensors",), 384, 6, vocab_size=100, max_positions=512),
    TokensSpec("fast", (1,), (2,), 0, TokenRules("plain")), revision="0a1b",
    prompt=PromptSpec("query: ", "query"), prompts=(("query", "query: "),),
    head=(NormalizeSpec("normalize"),),
)  # fmt: skip


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"prompt": ""},
        {"prompt": 'it\'s "quoted": '},
        {"truncate_dim": 64},
        {"truncate_dim": 64, "normalize": False},
        {"normalize": False},
        {"rules": "protbert"},
        {"pool": "weighted_mean"},
        {"pool": "none"},
    ],
    ids=str,
)
def test_its_command_asks_the_model_for_the_same_again(job: Job, asked: dict[str, Any]) -> None:
    request = EmbedRequest(inputs=[], model="org/model", output=Path("out.npy"), **asked)
    tokens = dataclasses.replace(BASE.tokens, rules=TokenRules(asked.get("rules", "plain")))
    spec = configured(dataclasses.replace(BASE, tokens=tokens), request)
    options = dataclasses.replace(job.options, pool=asked.get("pool", "mean"), layers=(6,))
    words = shlex.split(command_of(dataclasses.replace(job, model=spec, options=options), Path("out.npy")))
    command = typer.main.get_command(app).commands["embed"]  # type: ignore[attr-defined]
    given = command.make_context("embed", words[2:]).params
    again = EmbedRequest(**{name: given[name] for name in DECLARED})
    assert again.revision == "0a1b"
    assert again.rules == spec.tokens.rules.name
    assert again.pool == options.pool
    unpooled = dataclasses.replace(spec, head=())
    left = configured(dataclasses.replace(BASE, tokens=spec.tokens), again)
    if options.pool == "none":  # what stands behind the pooling is not applied
        assert dataclasses.replace(left, head=()).identity() == unpooled.identity()
    else:
        assert left.identity() == spec.identity()


def test_the_card_says_what_the_model_is_and_what_it_was_given(job: Job, job_dir: JobDir) -> None:
    publish(job, job_dir)
    known = dataclasses.replace(
        job.model, prompt=PromptSpec("query: "), adapter=AdapterSpec("adapter_model.safetensors", (), ())
    )
    card = export(dataclasses.replace(job, model=known), job_dir, Path(job.output)).card
    text = card_markdown(card)
    for row in (
        "| type in transformers | mock |", "| computed by | a stand-in without weights |",
        "| prompt | 'query: ' |",
        "| adapter | LoRA, merged: adapter_model.safetensors |",
        "| after the pooling | nothing |", "| sequences | text: prompt 'query: ' in front |",
        "| numbers of a vector | 8, float32 |",
    ):  # fmt: skip
        assert row in text
