"""Inputs changed at random, and those that broke a promise once: read whole, or refused in a line."""

import json
import signal
from pathlib import Path

import pytest

from queue_app.ingest.readers.bounds.limits import DEFAULT
from queue_app.shown import visible
from tests.campaigns.fuzzing import guided, inputs
from tests.campaigns.fuzzing.columnar_changes import seed_tables
from tests.campaigns.fuzzing.guided import FOUND as GUIDED_FOUND
from tests.campaigns.fuzzing.guided_readers import CORPUS, READERS, look_as_the_product_does, seeds
from tests.campaigns.fuzzing.inputs import FOUND, TIGHT, Asked, Verdict, judge, judge_many, judge_table

SEEDS = range(1000)
TABLES = range(150)


def test_a_thousand_changed_inputs_are_read_whole_or_refused_in_one_clear_line(tmp_path: Path) -> None:
    """`python -m tests.campaigns.fuzzing.inputs --first SEED --inputs 1` makes one again."""
    outcomes, broken = judge_many(SEEDS, tmp_path)
    assert broken == []
    assert outcomes.keys() == {"read", "refused"}


def test_changed_tables_are_read_whole_or_refused_in_one_clear_line(tmp_path: Path) -> None:
    """`python -m tests.campaigns.fuzzing.inputs --tables --first SEED --inputs 1` makes one again."""
    outcomes, broken = judge_many(TABLES, tmp_path, judged=judge_table)
    assert broken == []
    assert outcomes.keys() == {"read", "refused"}


def test_every_table_that_is_changed_is_sound_before(tmp_path: Path) -> None:
    for name, data in seed_tables().items():
        assert judge(name, data, Asked(keep="all"), tmp_path) == Verdict("read"), name


@pytest.mark.parametrize("path", sorted(FOUND.glob("*/*")), ids=lambda path: path.parent.name)
def test_an_input_that_broke_a_promise_once_keeps_it(path: Path, tmp_path: Path) -> None:
    for keep in (None, "all"):
        for limits in (DEFAULT, TIGHT):
            verdict = judge(
                path.name, path.read_bytes(), Asked(keep=keep, limits=limits), tmp_path, whole=True
            )
            assert verdict.wrong is None


@pytest.mark.parametrize("reader", READERS)
def test_what_a_fuzzer_that_watches_the_code_has_reached_breaks_no_promise(reader: str) -> None:
    """What it begins with, the corpus, and what broke a promise once."""
    reached = [*seeds(reader).values()]
    reached += [path.read_bytes() for home in (CORPUS, GUIDED_FOUND) for path in (home / reader).glob("*")]
    assert reached
    for data in reached:
        look_as_the_product_does(reader, data)


def test_the_fuzzer_says_how_to_install_what_it_needs_and_does_nothing_without_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["guided", "--reader", "csv"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert guided.main() == 0
    assert capsys.readouterr().out == "skipped: atheris is not installed (pip install -e '.[fuzz]')\n"


def test_what_must_not_be_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback, words without end, control characters, and a reader that hangs."""

    def wrong(name: str, data: bytes) -> str:
        return str(judge(name, data, Asked(keep="all"), tmp_path).wrong)

    with monkeypatch.context() as broken:
        broken.setattr("queue_app.ingest.readers.keep.visible", lambda text, most: text)
        assert "control characters" in wrong("a.csv", b"id,residues\x1b[31m\na,MKV\n")
    with monkeypatch.context() as broken:
        broken.setattr("queue_app.ingest.readers.keep.shown", repr)
        assert "characters: " in wrong("a.csv", b"id,seq,embedding_" + b"x" * 5000 + b"\na,MKV,1\n")
    with monkeypatch.context() as broken:
        broken.setattr("queue_app.ingest.readers.json_lines.loads", lambda text, _: json.loads(text))
        assert wrong("a.jsonl", b'{"id": 1, "seq": ' + b"[" * 5000).startswith("RecursionError")
    with monkeypatch.context() as broken:
        broken.setattr(inputs, "SECONDS_MOST", 1)
        broken.setattr(inputs, "BUSY", 0.1)
        broken.setattr(inputs, "_read", lambda *_: signal.pause())
        assert wrong("a.txt", b"MKV\n") == "took more than 1 s"
    assert visible(wrong("a.txt", b"MKV\n")) == "None"
