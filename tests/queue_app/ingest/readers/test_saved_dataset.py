"""A directory of Hugging Face's datasets is what its state.json says: those files, in that order alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest

from queue_app.errors import InputError
from queue_app.ingest.gather import gather
from queue_app.ingest.readers.saved_dataset import saved_dataset
from queue_app.ingest.records import Dataset

TEXTS = [f"text {number}" for number in range(30)]


@pytest.fixture(autouse=True)
def quiet() -> None:
    datasets.disable_progress_bars()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Three files, and beside them what a filter of an earlier time cached."""
    whole = datasets.Dataset.from_dict({"id": [f"p{number}" for number in range(30)], "text": TEXTS})
    whole.save_to_disk(tmp_path / "saved", num_shards=3)
    whole.select([3, 1]).save_to_disk(tmp_path / "other")
    (other,) = (tmp_path / "other").glob("data-*.arrow")
    shutil.copy(other, tmp_path / "saved" / "cache-0123456789abcdef.arrow")
    return tmp_path / "saved"


def read(*named: Path) -> list[tuple[str, str]]:
    with gather(named, named[0].parent / "piped") as files:
        dataset = Dataset(files, alphabet="text")
        return [(record.id, record.sequence) for record in dataset]


def with_state(directory: Path, **changes: Any) -> None:
    state = json.loads((directory / "state.json").read_text())
    (directory / "state.json").write_text(json.dumps({**state, **changes}))


def as_datasets_reads_it(directory: Path) -> list[tuple[str, str]]:
    return [(row["id"], row["text"]) for row in datasets.load_from_disk(directory)]


def test_what_was_saved_is_read_as_datasets_reads_it_and_its_cache_is_not(saved: Path) -> None:
    assert read(saved) == as_datasets_reads_it(saved)
    assert len(read(saved)) == 30


def test_the_files_are_those_of_the_state_in_its_order(saved: Path) -> None:
    files = [{"filename": f"data-0000{number}-of-00003.arrow"} for number in (2, 0)]
    with_state(saved, _data_files=files)
    assert read(saved) == as_datasets_reads_it(saved)
    assert [text for _, text in read(saved)] == TEXTS[20:] + TEXTS[:10]


def test_a_file_of_the_state_that_is_missing_is_named(saved: Path) -> None:
    (saved / "data-00001-of-00003.arrow").unlink()
    with pytest.raises(InputError, match=r"saved/data-00001-of-00003\.arrow: no such file"):
        read(saved)


def test_of_several_splits_one_must_be_named(tmp_path: Path, saved: Path) -> None:
    splits = datasets.DatasetDict(
        {"train": datasets.load_from_disk(saved), "test": datasets.load_from_disk(tmp_path / "other")}
    )
    splits.save_to_disk(tmp_path / "splits")
    with pytest.raises(InputError) as refused:
        read(tmp_path / "splits")
    home = tmp_path / "splits"
    assert (
        str(refused.value) == f"{home}: a dataset of several splits; name one: {home}/train and {home}/test"
    )
    assert read(home / "test") == [("p3", "text 3"), ("p1", "text 1")]
    assert read(home / "test", home / "train")[2:] == read(saved)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "state.json: not a JSON object, as datasets writes it"),
        ('{"_data_files": [1]}', "its _data_files are no list of names of files"),
        ('{"_data_files": [{"filename": "../other/data.arrow"}]}', "no list of names of files beside it"),
        ('{"_data_files": []}', "a dataset without files, as its state.json says"),
        ('{"_data_files": [{"filename": "a.arrow"}], "_indices_data_files": [1]}', "a selection of rows"),
    ],
)
def test_a_state_that_says_nothing_sure_is_refused(saved: Path, content: str, message: str) -> None:
    (saved / "state.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read(saved)


def test_a_dataset_without_its_state_is_refused(saved: Path) -> None:
    (saved / "state.json").unlink()
    with pytest.raises(InputError, match=r"saved: a dataset whose state\.json is missing"):
        read(saved)


def test_a_state_of_something_else_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(">a\nMK\n")
    (tmp_path / "state.json").write_text("[]")
    assert saved_dataset(tmp_path) is None
    assert read(tmp_path) == [("a", "MK")]


# ---- as downloaded from the hub


def downloaded(home: Path, **splits: int) -> Path:
    """A split's name and its number of files."""
    for split, num_files in splits.items():
        for number in range(num_files):
            texts = TEXTS[number::num_files]
            path = home / "hub/data" / f"{split}-{number:05d}-of-{num_files:05d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            datasets.Dataset.from_dict({"id": texts, "text": texts}).to_parquet(path)
    (home / "hub/README.md").write_text("---\nlicense: mit\n---\n")
    return home / "hub"


def test_a_download_of_one_split_is_read_as_datasets_reads_it(tmp_path: Path) -> None:
    hub = downloaded(tmp_path, train=3)
    theirs = datasets.load_dataset(str(hub), split="train", cache_dir=str(tmp_path / "cache"))
    assert read(hub) == [(row["id"], row["text"]) for row in theirs]


def test_of_several_splits_one_is_to_be_named_by_its_pattern(tmp_path: Path) -> None:
    hub = downloaded(tmp_path, train=2, test=1)
    with pytest.raises(InputError, match="several splits or configurations; name one: ") as refused:
        read(hub)
    for split, number in (("train", 30), ("test", 30)):
        pattern = hub / f"data/{split}-*.parquet"
        assert repr(str(pattern)) in str(refused.value)
        assert len(read(pattern)) == number


def test_a_download_that_lacks_a_file_is_refused(tmp_path: Path) -> None:
    hub = downloaded(tmp_path, train=3)
    (hub / "data/train-00001-of-00003.parquet").unlink()
    with pytest.raises(InputError, match="2 of 3 files of the split 'train' are there"):
        read(hub)


def test_parquet_as_the_hub_converts_it_is_found_by_configuration_and_split(tmp_path: Path) -> None:
    path = tmp_path / "hub/default/train/0000.parquet"
    path.parent.mkdir(parents=True)
    datasets.Dataset.from_dict({"id": TEXTS, "text": TEXTS}).to_parquet(path)
    assert len(read(tmp_path / "hub")) == 30


def test_a_dictionary_of_splits_names_them_and_each_is_read(tmp_path: Path) -> None:
    parts = {name: datasets.Dataset.from_dict({"text": [name]}) for name in ("train", "test")}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    with pytest.raises(InputError, match="saved/train"):
        read(tmp_path / "saved")
    assert read(tmp_path / "saved/train") == [("1", "train")]


@pytest.mark.parametrize("content", ["[" * 100_000, '{"_data_files": ' + "[" * 100_000, "\0", ""])
def test_a_state_that_is_no_json_or_nested_without_end_is_refused(saved: Path, content: str) -> None:
    (saved / "state.json").write_text(content)
    with pytest.raises(InputError, match=r"state\.json: not a JSON object"):
        saved_dataset(saved)


def test_a_name_with_a_nul_is_no_file_of_a_dataset(saved: Path) -> None:
    with_state(saved, _data_files=[{"filename": "a\0b"}])
    with pytest.raises(InputError, match="no list of names of files beside it"):
        saved_dataset(saved)
