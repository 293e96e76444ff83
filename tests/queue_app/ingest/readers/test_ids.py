"""`--id`: accessions, whole headers, and what an expression finds."""

from pathlib import Path

import pytest

from queue_app.errors import InputError, UsageError
from queue_app.ingest.readers.ids import accession, parse_id
from queue_app.ingest.readers.sources import Input
from queue_app.ingest.records import Dataset

ACCESSIONS = {
    "sp|P12345|AATM_RABIT": "P12345",
    "sp|P12345-2|AATM_RABIT": "P12345-2",
    "tr|A0A023GPI8|A0A023GPI8_CANAL": "A0A023GPI8",
    "UniRef50_P12345": "P12345",
    "UniRef100_UPI0000000001": "UPI0000000001",
    "gi|4557284|ref|NP_000029.2|": "NP_000029.2",
    "ref|NP_000029.2|": "NP_000029.2",
    "gi|129295|sp|P01013|OVAX_CHICK": "P01013",
    "gb|AAD44166.1|": "AAD44166.1",
    "pdb|1ABC|A": "1ABC_A",
    "pdb|1ABC|": "1ABC",
    "NP_000029.2": "NP_000029.2",
    "WP_012345678.1": "WP_012345678.1",
    "ENSP00000369497.3": "ENSP00000369497.3",
    "ENSP00000493376.2|ENST00000641515.2|ENSG00000186092.7": "ENSP00000493376.2",
    "1ABC_A": "1ABC_A",
    "P12345": "P12345",
    "": None,
    "protein_7": None,
    "sp||NAME": None,
    "lcl|ORF1": None,
    "|": None,
}


@pytest.mark.parametrize("name", ACCESSIONS)
def test_the_accession_is_what_a_data_base_calls_the_record(name: str) -> None:
    assert accession(name) == ACCESSIONS[name]


def ids(path: Path, rule: str | None) -> tuple[list[str], tuple[str, ...]]:
    dataset = Dataset([Input(path, path)], alphabet="text", id=rule)
    return [record.id for record in dataset], dataset.notes


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    headers = ["sp|P12345|AATM_RABIT Aspartate GN=GOT2", "tr|A0A0B4|X GN=abc", "mine of my own"]
    (path := tmp_path / "a.fasta").write_text("".join(f">{header}\nMK\n" for header in headers))
    return path


def test_ids_are_the_first_word_without_it_and_all_of_the_header_with_full(fasta: Path) -> None:
    assert ids(fasta, None)[0] == ["sp|P12345|AATM_RABIT", "tr|A0A0B4|X", "mine"]
    assert ids(fasta, "full")[0] == [
        "sp|P12345|AATM_RABIT Aspartate GN=GOT2", "tr|A0A0B4|X GN=abc", "mine of my own",
    ]  # fmt: skip


def test_an_expression_takes_its_first_group_or_all_that_it_matches(fasta: Path) -> None:
    found, notes = ids(fasta, r"GN=(\w+)")
    assert found == ["GOT2", "abc", "mine"]
    assert notes == (
        r"--id GN=(\w+) found nothing in 1 of 3 records, which keep their ids (the first: 'mine of my own')",
    )
    assert ids(fasta, r"GN=\w+|^mine")[0] == ["GN=GOT2", "GN=abc", "mine"]
    assert ids(fasta, r"(?:tr|sp)\|(\w+)|x")[0] == ["P12345", "A0A0B4", "mine"]


def test_records_without_an_accession_keep_their_ids_and_are_counted(fasta: Path) -> None:
    found, notes = ids(fasta, "accession")
    assert found == ["P12345", "A0A0B4", "mine"]
    assert notes == (
        "--id accession found nothing in 1 of 3 records, which keep their ids (the first: 'mine of my own')",
    )


def test_ids_of_tables_are_taken_apart_as_well(tmp_path: Path) -> None:
    (path := tmp_path / "a.csv").write_text("id,seq\nsp|P12345|X of it,MK\nsp|Q9XYZ1|Y,MV\n")
    assert ids(path, r"\|(\w+)\|")[0] == ["P12345", "Q9XYZ1"]
    (path := tmp_path / "a.jsonl").write_text('{"id": "sp|P12345|X", "seq": "MK"}\n')
    assert ids(path, "accession")[0] == ["P12345"]


@pytest.mark.parametrize("num_records", [3, 5_000])
def test_an_expression_that_matches_nothing_is_refused_with_an_example(
    tmp_path: Path, num_records: int
) -> None:
    (path := tmp_path / "a.fasta").write_text("".join(f">r{n} x\nMK\n" for n in range(num_records)))
    with pytest.raises(InputError, match=r"--id accesion: matches none of the records; the first is 'r0 x'"):
        ids(path, "accesion")


def test_an_expression_that_is_none_is_refused() -> None:
    assert parse_id(r"\w+") == r"\w+"
    with pytest.raises(
        UsageError, match=r"--id \(: accession, full, or a regular expression, which it is not"
    ):
        parse_id("(")


def test_a_nul_in_a_header_is_written_as_an_escape(tmp_path: Path) -> None:
    (path := tmp_path / "a.fasta").write_bytes(b">a b\0c\nMK\n")
    assert ids(path, "full")[0] == ["a b\\u0000c"]
