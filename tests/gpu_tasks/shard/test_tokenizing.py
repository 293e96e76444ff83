"""A tokenizer that ends its process: the text at which it does costs its own record, and no other."""

import json
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gpu_tasks.shard import tokenizing
from gpu_tasks.shard.tokenizing import TokenizingLog
from queue_app.ingest.prepare import Prepared
from queue_app.ingest.request import EmbedRequest
from queue_app.job.done_records import read_done
from tests.support.dying_tokenizers import Dying, attempt
from tests.support.inline_job import prepare_here
from tests.support.jobs_and_inputs import write_fasta

MOTIF = "WWKILLWW"
BY_SIGNAL = -signal.SIGKILL


def prepared(home: Path, letters: str) -> Prepared:
    fasta = write_fasta(home / "a.fasta", 50)
    fasta.write_text(fasta.read_text() + f">bad\n{letters}\n>last\nMKV\n")
    return prepare_here(EmbedRequest(inputs=[fasta], model="mock:8", output=home / "a.npy", num_shards=1))


def quarantined(job: Prepared) -> dict[str, str]:
    done = read_done(job.job_dir, job.job.shards[0])
    assert done is not None
    rows = pq.read_table(job.job_dir.results / done.file).num_rows
    assert rows == done.num_embedded == 52 - len(done.quarantine)
    return {entry.id: entry.reason for entry in done.quarantine}


def test_a_text_that_kills_its_tokenizer_is_quarantined_and_all_others_are_embedded(tmp_path: Path) -> None:
    """One death among many, two alone; and the note goes with the store."""
    job = prepared(tmp_path, f"MKV{MOTIF}")
    home = job.job_dir.path
    assert [attempt(home, token, MOTIF) for token in (1, 2, 3)] == [BY_SIGNAL] * 3
    assert attempt(home, 4, MOTIF) == 0
    assert quarantined(job) == {"bad": "tokenising it ended the process, 2 times"}


def test_of_a_long_text_two_deaths_are_enough(tmp_path: Path) -> None:
    """It is no chunk with others, so that the first death is its own."""
    job = prepared(tmp_path, "MKVL" * (1 << 18) + MOTIF)
    assert [attempt(job.job_dir.path, token, MOTIF) for token in (1, 2)] == [BY_SIGNAL] * 2
    assert attempt(job.job_dir.path, 3, MOTIF) == 0
    assert quarantined(job) == {"bad": "tokenising it ended the process, 2 times"}


def test_a_tokenizer_that_raises_costs_its_record_alone_too(tmp_path: Path) -> None:
    job = prepared(tmp_path, f"MKV{MOTIF}")
    assert [attempt(job.job_dir.path, token, MOTIF, "raise") for token in (1, 2, 3)] == [1, 1, 1]
    assert attempt(job.job_dir.path, 4, MOTIF, "raise") == 0
    reason = f"tokenising it failed (ValueError: a text holds {MOTIF}), 2 times"
    assert quarantined(job) == {"bad": reason}


def test_a_death_that_does_not_come_again_accuses_nobody(tmp_path: Path) -> None:
    job = prepared(tmp_path, f"MKV{MOTIF}")
    assert attempt(job.job_dir.path, 1, MOTIF) == BY_SIGNAL
    assert attempt(job.job_dir.path, 2, MOTIF, "live") == 0
    assert quarantined(job) == {}


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / "store" / "tokenizing.json"


def dying(note: Path) -> TokenizingLog:
    """A log whose last process left record 7 as the one that it was at."""
    log = TokenizingLog.open(note, accuse_after=1)
    model = Dying(None, MOTIF, "raise")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=MOTIF):
        log.tokenize(model, [7], [MOTIF])
    return log


def test_only_a_death_that_its_parent_outlived_accuses(note: Path) -> None:
    dying(note)
    assert TokenizingLog.open(note, accuse_after=1).accused.keys() == {7}
    note.unlink()
    dying(note)
    left = json.loads(note.read_text())
    note.write_text(json.dumps({**left, "parent": [2**22 + 1, 1]}))
    assert not TokenizingLog.open(note, accuse_after=1).accused


def test_a_holder_that_lives_on_without_its_lease_is_no_death(note: Path) -> None:
    dying(note)
    left = json.loads(note.read_text())
    note.write_text(json.dumps({**left, "process": left["parent"]}))  # which lives
    assert not TokenizingLog.open(note, accuse_after=1).accused


def test_a_note_that_cannot_be_read_is_as_good_as_none(note: Path) -> None:
    note.parent.mkdir()
    for left in ("", "{", "[]", '{"at": 5, "no": 1}'):
        note.write_text(left)
        assert not TokenizingLog.open(note, accuse_after=1).accused


def test_chunks_are_bounded_and_hold_every_record_once(note: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizing, "CHUNK_CHARACTERS", 10)
    monkeypatch.setattr(tokenizing, "CHUNK_RECORDS", 3)
    log = TokenizingLog.open(note, accuse_after=1)
    records = list(enumerate(["A" * 30, "A", "A", "A", "A", "A" * 9, "AA", "A" * 11]))
    chunks = list(log._chunks(records))
    assert [[ordinal for ordinal, _ in chunk] for chunk in chunks] == [[0], [1, 2, 3], [4, 5], [6], [7]]


def test_a_store_of_a_plan_with_a_record_that_kills_now_gives_way(tmp_path: Path) -> None:
    """Another host could tokenise it, say, and has begun the shard."""
    job = prepared(tmp_path, "MKVL" * (1 << 18) + MOTIF)
    home = job.job_dir.path
    assert attempt(home, 1, MOTIF, "stop") == 1
    assert [attempt(home, token, MOTIF) for token in (2, 3)] == [BY_SIGNAL] * 2
    assert attempt(home, 4, MOTIF) == 0
    assert quarantined(job).keys() == {"bad"}
