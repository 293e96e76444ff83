"""Descriptions and columns in the outputs: each beside its record, whatever became of the others."""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas
import polars
import pyarrow.parquet as pq
import pytest

from queue_app.errors import Damage, JobChanged
from queue_app.host.durable_files import file_digest
from queue_app.job.directory import JobDir
from queue_app.outputs.clean import clean
from queue_app.outputs.export import export
from queue_app.outputs.verify import verify_job
from tests.support.inline_job import InlineJob, embedded, submitted
from tests.support.jobs_and_inputs import protein
from tests.support.output_files import table_of

TABLES = ["out.parquet", "out.arrow", "out.feather", "out"]
NUMBERS = [number % 40 for number in range(100)]  # of each protein two or three, far from each other
SPOILT = {7, 63}


def write_fasta(path: Path) -> Path:
    """The 7th and 63rd record are quarantined, every 10th has no description."""
    with path.open("w") as file:
        for place, number in enumerate(NUMBERS):
            described = "" if place % 10 == 0 else f" protein {number}, the {place}th"
            letters = protein(number) + ("4" if place in SPOILT else "")
            file.write(f">sp|P{place:05d}|X{described}\n{letters}\n")
    return path


def by_hand(fasta: Path) -> dict[str, str | None]:
    """Id and description, read with nothing of ours."""
    headers = [line[1:] for line in fasta.read_text().splitlines() if line.startswith(">")]
    parts = [header.partition(" ") for header in headers]
    return {name: description or None for name, _, description in parts}


def expected(fasta: Path) -> list[tuple[str, str | None]]:
    return [pair for place, pair in enumerate(by_hand(fasta).items()) if place not in SPOILT]


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    return write_fasta(tmp_path / "a.fasta")


def described(output: Path) -> list[tuple[str, str | None]]:
    table = table_of(output)
    return list(zip(table["id"].to_pylist(), table["description"].to_pylist(), strict=True))


@pytest.mark.parametrize("dedup", [True, False])
def test_every_table_has_each_record_s_own_description(tmp_path: Path, fasta: Path, dedup: bool) -> None:
    made = embedded(tmp_path / "out.npy", [fasta], dedup=dedup)
    vectors = np.load(tmp_path / "out.npy")
    for name in TABLES:
        export(made.job, made.job_dir, tmp_path / name)
        assert described(tmp_path / name) == expected(fasta)
        table = table_of(tmp_path / name)
        own = ["id", "ordinal"] if name == "out" else ["id"]
        assert table.column_names == [*own, "description", "embedding"]
        np.testing.assert_array_equal(np.array(table["embedding"].to_pylist(), np.float32), vectors)
    assert verify_job(made.job_dir).sound


def test_what_the_columns_are_is_in_the_files_digests_and_not_in_the_content_s(
    tmp_path: Path, fasta: Path
) -> None:
    kept = embedded(tmp_path / "kept.parquet", [fasta])
    bare = embedded(tmp_path / "bare.parquet", [fasta], keep="none")
    in_cards = [
        json.loads((tmp_path / f"{name}.parquet.card.json").read_text())["output"]
        for name in ("kept", "bare")
    ]
    assert in_cards[0]["content_digest"] == in_cards[1]["content_digest"]
    assert in_cards[0]["files"]["kept.parquet"] == file_digest(tmp_path / "kept.parquet")
    assert table_of(tmp_path / "bare.parquet").column_names == ["id", "embedding"]
    assert (kept.job.kept is not None, bare.job.kept, bare.job_dir.kept.exists()) == (True, None, False)


@pytest.mark.parametrize("name", ["out.h5", "out.npy"])
def test_formats_without_columns_are_what_they_were(tmp_path: Path, fasta: Path, name: str) -> None:
    embedded(tmp_path / name, [fasta])
    if name == "out.h5":
        with h5py.File(tmp_path / name) as file:
            assert {*file} == {"ids", "embeddings"}
    assert {path.name for path in tmp_path.glob("*.npy")} <= {"out.npy"}


UNIPROT = [
    {
        "Entry": f"P{place}",
        "Sequence": protein(number),
        "Organism, all": f"species {number}",
        "Length": place,
        "Score": place / 8,
    }
    for place, number in enumerate(NUMBERS)
]


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("kind", ["parquet", "json"])
def test_columns_of_a_table_are_those_that_pandas_and_polars_read_of_it(
    tmp_path: Path, kind: str, name: str
) -> None:
    frame = pandas.DataFrame(UNIPROT)
    table = tmp_path / f"a.{kind}"
    frame.to_parquet(table) if kind == "parquet" else frame.to_json(table, orient="records")
    embedded(tmp_path / name, [table], keep='Score,"Organism, all",Length')
    names = ["Score", "Organism, all", "Length"]
    read = (pandas.read_feather if name.endswith(("arrow", "feather")) else pandas.read_parquet)(
        tmp_path / name
    )
    pandas.testing.assert_frame_equal(
        read[["id", *names]], frame.rename(columns={"Entry": "id"})[["id", *names]]
    )
    if name.endswith("arrow"):
        assert polars.read_ipc(tmp_path / name)["Length"].to_list() == list(range(100))
    if name.endswith("parquet"):
        assert (
            polars.read_parquet(tmp_path / name)["Organism, all"].to_list()
            == frame["Organism, all"].to_list()
        )


def test_fasta_and_tables_in_one_job_have_their_columns_and_no_others(tmp_path: Path, fasta: Path) -> None:
    (tmp_path / "b.csv").write_text("id,seq,description,organism\nq,MKV,of the table,human\n")
    embedded(
        tmp_path / "out.parquet", [fasta, tmp_path / "b.csv"], keep="organism,description", alphabet="protein"
    )
    table = table_of(tmp_path / "out.parquet")
    assert table.column_names == ["id", "organism", "description", "embedding"]
    assert described(tmp_path / "out.parquet") == [*expected(fasta), ("q", "of the table")]
    assert table["organism"].to_pylist() == [None] * (len(NUMBERS) - len(SPOILT)) + ["human"]


def test_what_is_kept_outlives_a_cleaning_and_a_move_and_is_there_for_another_export(
    tmp_path: Path, fasta: Path
) -> None:
    (tmp_path / "here").mkdir()
    made = embedded(tmp_path / "here/out.npy", [fasta])
    clean(made.job_dir)
    (tmp_path / "here").rename(tmp_path / "there")
    fasta.rename(tmp_path / "gone.fasta")
    job_dir = JobDir(tmp_path / "there/out.npy.holdfast")
    export(job_dir.load(), job_dir, tmp_path / "there/later.parquet")
    assert described(tmp_path / "there/later.parquet") == expected(tmp_path / "gone.fasta")


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9] + b"123456789")]
)
def test_damage_is_seen_and_nothing_is_written_of_it(tmp_path: Path, fasta: Path, damage: Any) -> None:
    made = embedded(tmp_path / "out.npy", [fasta])
    damage(made.job_dir.kept)
    (line,) = verify_job(made.job_dir).damage
    assert "kept.parquet: not the file that was submitted" in line
    with pytest.raises(Damage, match=r"kept\.parquet"):
        export(made.job, made.job_dir, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()
    export(made.job, made.job_dir, tmp_path / "out.h5")  # which needs none of it


def again(made: InlineJob, fasta: Path, **changed: Any) -> InlineJob:
    return submitted(Path(made.job.output), [fasta], **changed)


def test_other_columns_or_ids_on_the_same_output_are_another_job(tmp_path: Path, fasta: Path) -> None:
    made = embedded(tmp_path / "out.parquet", [fasta])
    again(made, fasta)
    with pytest.raises(JobChanged, match="keep: None -> none"):
        again(made, fasta, keep="none")
    with pytest.raises(JobChanged, match="id: None -> accession"):
        again(made, fasta, id="accession")


def test_an_overwritten_job_keeps_nothing_of_the_one_before(tmp_path: Path, fasta: Path) -> None:
    made = embedded(tmp_path / "out.parquet", [fasta])
    assert made.job_dir.kept.exists()
    anew = embedded(tmp_path / "out.parquet", [fasta], keep="none", overwrite=True)
    assert not anew.job_dir.kept.exists()
    assert table_of(tmp_path / "out.parquet").column_names == ["id", "embedding"]


def test_a_job_that_copies_vectors_keeps_what_its_own_input_says(tmp_path: Path, fasta: Path) -> None:
    embedded(tmp_path / "one.parquet", [fasta])
    other = tmp_path / "other.fasta"
    other.write_text(fasta.read_text().replace(" protein", " another protein") + ">new of now\nMKVLATTT\n")
    made = embedded(tmp_path / "two.parquet", [other], reuse=tmp_path / "one.parquet", id="accession")
    assert made.job.reuse is not None
    assert made.job.reuse.num_vectors == 40
    found = described(tmp_path / "two.parquet")
    assert [description for _, description in found] == [text for _, text in [*expected(other)]]
    assert found[0][0] == "P00000"
    assert found[-1] == ("new", "of now")


def test_a_directory_of_a_job_that_keeps_nothing_is_still_made_of_the_results(tmp_path: Path) -> None:
    fasta = tmp_path / "bare.fasta"
    fasta.write_text("".join(f">p{number}\n{protein(number)}\n" for number in range(30)))
    made = embedded(tmp_path / "out", [fasta])
    (linked, *_) = sorted((tmp_path / "out").iterdir())
    (result, *_) = sorted(made.job_dir.results.iterdir())
    assert linked.samefile(result)


def test_kept_columns_are_packed_and_vectors_are_not(tmp_path: Path, fasta: Path) -> None:
    embedded(tmp_path / "out.parquet", [fasta])
    group = pq.read_metadata(tmp_path / "out.parquet").row_group(0)
    packed = {group.column(place).path_in_schema: group.column(place).compression for place in range(3)}
    assert packed == {"id": "UNCOMPRESSED", "description": "ZSTD", "embedding.list.element": "UNCOMPRESSED"}


def test_nothing_of_the_reading_is_left_in_the_job_directory(tmp_path: Path, fasta: Path) -> None:
    made = submitted(tmp_path / "out.parquet", [fasta])
    assert [path.name for path in made.job_dir.path.iterdir() if path.name.startswith(".")] == []
    shutil.rmtree(made.job_dir.path)
