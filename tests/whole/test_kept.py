"""Descriptions through the real command: killed and resumed, with duplicates and quarantined records."""

import json
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from tests.support.command_runs import holdfast, left_over, running, wait_for_progress
from tests.support.jobs_and_inputs import protein
from tests.support.waiting import wait_for

SLOW = ["-m", "mock:16,delay_ms=40", "--toks-per-batch", "512", "--commit-seconds", "0.2"]
CPU = ["--device", "cpu", "--workers", "2"]
NUM_RECORDS = 600


def write_headers(path: Path) -> Path:
    """Every third record repeats one before, every 50th is no protein, every 7th has no description."""
    with path.open("w") as file:
        for place in range(NUM_RECORDS):
            letters = protein(place // 3 if place % 3 == 0 else place) + "4" * (place % 50 == 0)
            described = "" if place % 7 == 0 else f" the {place}th OS=Homo sapiens PE={place % 5}"
            file.write(f">sp|P{place:05d}|NAME_{place}{described}\n{letters}\n")
    return path


def by_hand(fasta: Path) -> list[tuple[str, str | None]]:
    """Accession and description of every good record, read with nothing of ours."""
    found = []
    for record in fasta.read_text().split(">")[1:]:
        header, letters = record.splitlines()
        name, _, description = header.partition(" ")
        if "4" not in letters:
            found.append((name.split("|")[1], description or None))
    return found


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a job that was killed with its workers half-way, and of the same command again."""
    home = tmp_path_factory.mktemp("kept")
    fasta = write_headers(home / "a.fasta")
    command = ["embed", fasta, "-o", home / "out.parquet", "--id", "accession", *SLOW, *CPU]
    with running(*command) as job:
        seen = wait_for_progress(home / "out.parquet.holdfast", 0.3, job)
        job.kill()
        job.wait()
        pids = [pid for worker in seen["workers"] for pid in (worker["pid"], worker["child_pid"])]
        wait_for(lambda: not left_over(pids), "the workers to die with the command")
    holdfast(*command, expect=3)
    return home / "out.parquet"


def test_every_row_of_a_killed_and_resumed_job_has_its_own_description(killed: Path) -> None:
    table = pq.read_table(killed)
    found = list(zip(table["id"].to_pylist(), table["description"].to_pylist(), strict=True))
    assert found == by_hand(killed.with_name("a.fasta"))
    assert len(found) == NUM_RECORDS - NUM_RECORDS // 50
    card = json.loads(Path(f"{killed}.card.json").read_text())
    assert card["counts"]["computed_once"] > 100


def test_they_are_verified_exported_and_found_by_a_query(killed: Path, tmp_path: Path) -> None:
    assert "sound" in holdfast("verify", killed).stdout
    holdfast("export", killed, "-o", tmp_path / "out", expect=3)
    found = duckdb.sql(f"SELECT id FROM '{tmp_path}/out/*.parquet' WHERE description LIKE '%PE=3'").fetchall()
    wanted = [name for name, text in by_hand(killed.with_name("a.fasta")) if text and "PE=3" in text]
    assert sorted(name for (name,) in found) == wanted


def test_a_column_that_is_not_there_and_a_changed_job_are_refused_in_one_line(
    killed: Path, tmp_path: Path
) -> None:
    (table := tmp_path / "a.tsv").write_text("Entry\tSequence\tOrganism\nP1\tMKV\tx\n")
    options = ["-m", "mock:8", *CPU]
    said = holdfast(
        "embed", table, "-o", tmp_path / "o.parquet", "--keep", "organism", *options, expect=2
    ).stderr
    assert "a.tsv: --keep: no column 'organism'; it has: Entry, Sequence, Organism" in said
    said = holdfast("embed", killed.with_name("a.fasta"), "-o", killed, *SLOW, *CPU, expect=2).stderr
    assert "id: accession -> None" in said
    holdfast("embed", table, "-o", tmp_path / "o.parquet", "--keep", "Organism", *options)
    assert pq.read_table(tmp_path / "o.parquet")["Organism"].to_pylist() == ["x"]
