"""The limits of reading: what is over one is quarantined or refused, under its name, in bounded memory."""

from collections.abc import Callable
from pathlib import Path

import pytest

from queue_app.errors import InputError, UsageError
from queue_app.ingest.readers.bounds.limit_option import parse_limits
from queue_app.ingest.readers.bounds.limits import DEFAULT, TOKENIZED_LETTERS, Limits, limits_of
from queue_app.ingest.readers.sources import Input
from queue_app.ingest.records import Dataset
from queue_app.job.shard_files import Record
from tests.support.bombs import write_bomb
from tests.support.command_runs import holdfast
from tests.support.measured_reader import measure

SMALL = Limits(record=100, id=20, field=50, nesting=5)


def read(home: Path, name: str, text: str, limits: Limits = SMALL, **asked: str) -> list[Record]:
    (path := home / name).write_text(text, encoding="utf-8")
    return list(Dataset([Input(path, path)], alphabet="text", limits=limits, **asked))  # type: ignore[arg-type]


# ---- memory


@pytest.mark.parametrize(
    ("name", "mib", "becomes"),
    [
        ("legal.fasta", 48, 1), ("illegal.fasta", 48, 1), ("wide.fasta", 48, 1), ("ids.fasta", 48, 4800),
        ("descriptions.fasta", 96, 0),
        ("quoted.csv", 512, "line 2: a field of more than 33,554,432 characters: look at the quotation"),
        ("fields.csv", 60, "the row on line 3 has more than 250,000 values: --limit values=500000 allows"),
        ("values.jsonl", 60, "line 1 has more than 250,000 values: --limit values=500000 allows twice"),
        ("string.json", 512, "record 1 is longer than 40 MiB; is this the right file? --limit record=N"),
        ("line.txt", 512, "line 1 is longer than 16 MiB; is this the right file? --limit record=N"),
    ],
)  # fmt: skip
def test_a_bomb_costs_its_reader_no_more_than_the_limits_say(
    tmp_path: Path, name: str, mib: int, becomes: int | str
) -> None:
    """Half a gigabyte of each by `python -m tests.campaigns.fuzzing.bombs`."""
    seen = measure(write_bomb(name, mib, tmp_path), tmp_path, "record=1000000")
    assert seen.peak_mib <= 280
    if isinstance(becomes, str):
        assert f"{tmp_path}/{name}.zst: {becomes}" in str(seen.error)
        assert len(str(seen.error)) < 500
    else:
        assert (seen.error, seen.num_quarantined) == (None, becomes)


# ---- records


FASTA = ">a\n" + "MKV\n" * 40 + ">b some words\n" + "MKV\n" * 20
PASSED = "120 letters, more than 100: --limit record=120 takes it"


@pytest.mark.parametrize(("block", "problem"), [(16, f"{PASSED} (line 1)"), (1 << 20, PASSED)])
def test_a_record_that_is_too_long_is_quarantined_with_the_option_and_those_behind_it_are_read(
    tmp_path: Path, block: int, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was passed over as its lines were read, or seen when all of it was there."""
    monkeypatch.setattr("queue_app.ingest.readers.sources.BLOCK_CHARACTERS", block)
    first, second = read(tmp_path, "a.fasta", FASTA)
    assert (first.sequence, first.problem) == ("", problem)
    assert (second.id, second.sequence, second.problem) == ("b", "MKV" * 20, None)
    assert [each.problem for each in read(tmp_path, "a.fasta", FASTA, Limits(record=120))] == [None, None]


def test_a_record_of_pir_is_read_across_blocks_as_it_is_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = ">P1;CRAB\nALPHA CRYSTALLIN\n" + "  MDIT IHNP\n" * 5 + "*\n>P1;B\nBETA\nMK*\n"
    whole = read(tmp_path, "a.fasta", text)
    monkeypatch.setattr("queue_app.ingest.readers.sources.BLOCK_CHARACTERS", 16)
    assert read(tmp_path, "a.fasta", text) == whole
    assert [record.sequence for record in whole] == ["MDITIHNP" * 5, "MK"]


TOO_LONG: dict[str, Callable[[str, str], str]] = {
    "a.csv": lambda name, text: f"id,seq\n{name},{text}\nlast,MKV\n",
    "a.jsonl": lambda name, text: f'{{"id": "{name}", "seq": "{text}"}}\n{{"id": "last", "seq": "MKV"}}\n',
    "a.json": lambda name, text: f'[{{"id": "{name}", "seq": "{text}"}}, {{"id": "last", "seq": "MKV"}}]',
    "a.fastq": lambda name, text: f"@{name}\n{text}\n+\n{text}\n@last\nMKV\n+\nIII\n",
}


@pytest.mark.parametrize("name", TOO_LONG)
def test_of_every_format_a_record_or_an_id_over_its_limit_costs_itself_alone(
    tmp_path: Path, name: str
) -> None:
    long, last = read(tmp_path, name, TOO_LONG[name]("a", "M" * 101))
    assert (long.id, long.sequence) == ("a", "")
    assert long.problem == "101 letters, more than 100: --limit record=101 takes it"
    named, last = read(tmp_path, name, TOO_LONG[name]("x" * 500, "MKV"))
    assert (named.id, named.sequence) == ("x" * 200 + "…", "")
    assert named.problem == "an id of 500 characters, more than 20: --limit id=500 takes it"
    assert (last.id, last.sequence, last.problem) == ("last", "MKV", None)


def test_a_description_over_its_limit_quarantines_its_record(tmp_path: Path) -> None:
    long, last = read(tmp_path, "a.fasta", f">a {'w' * 51}\nMKV\n>b {'w' * 50}\nMKV\n")
    assert long.problem == "a value beside it of 51 characters, more than 50: --limit field=51 takes it"
    assert (last.problem, dict(last.kept)) == (None, {"description": "w" * 50})


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_json_that_is_nested_too_deep_is_refused_with_its_place(tmp_path: Path, name: str) -> None:
    def record(depth: int) -> str:
        return f'{{"id": "a", "seq": "MKV", "x": {"[" * depth}{"]" * depth}}}'

    text = f"[{record(4)}]" if name == "a.json" else record(4)
    assert len(read(tmp_path, name, text, keep="x")) == 1
    for depth in (5, 90_000):
        with pytest.raises(
            InputError, match=r"line 1: .*more than 5 lists and objects .*--limit nesting=10"
        ) as refused:
            read(tmp_path, name, text.replace(record(4), record(depth)), keep="x")
        assert "\n" not in str(refused.value)


# ---- the option


def test_limits_are_raised_by_name_and_what_is_none_is_refused() -> None:
    assert parse_limits("id=10_000, record = 300000000") == "record=300000000,id=10000"
    assert limits_of("record=300000000,id=10000") == Limits(record=300_000_000, id=10_000)
    assert limits_of(None) == DEFAULT
    assert limits_of(None, is_tokenized=True).record == TOKENIZED_LETTERS
    assert limits_of("record=9", is_tokenized=True).record == 9
    for wrong in ("", "record", "record=", "record=x", "record=0", "record=-1", "sequence=5", "id=1,id=2"):
        with pytest.raises(UsageError, match="--limit"):
            parse_limits(wrong)


def test_a_job_whose_limits_were_raised_is_another_job(tmp_path: Path) -> None:
    (path := tmp_path / "a.fasta").write_text(FASTA)
    command = ["embed", path, "-m", "mock:8", "-o", tmp_path / "out.npy", "--device", "cpu", "--workers", "1"]
    holdfast(*command, "--limit", "record=100", expect=3)
    listed = (tmp_path / "out.npy.quarantine.tsv").read_text()
    assert "120 letters, more than 100: --limit record=120 takes it" in listed
    refused = holdfast(*command, "--limit", "record=120", expect=2)
    assert "limit: record=100 -> record=120" in refused.stderr
