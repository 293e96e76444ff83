"""What Python hands over: strings in memory in every form, with their ids; all else says what to write."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import queue_app
from queue_app.api.inputs import input_files
from queue_app.errors import InputError, UsageError

TEXTS = ["MKV", "GLS\nAD", "ä 🧬"]
TABLE = {"acc": ["b", "a", "b"], "sequence": TEXTS}


def records(sequences: Any) -> list[tuple[str, str]]:
    """What the reader of JSON lines is given."""
    with input_files(None, sequences) as [path]:
        return [(each["id"], each["sequence"]) for each in map(json.loads, path.read_text().splitlines())]


FORMS: dict[str, Callable[[], Iterable[str]]] = {
    "a list": lambda: TEXTS,
    "a tuple": lambda: tuple(TEXTS),
    "a generator": lambda: (text for text in TEXTS),
    "an array of objects": lambda: np.array(TEXTS, object),
    "an array of strings": lambda: np.array(TEXTS),
    "an array of new strings": lambda: np.array(TEXTS, np.dtypes.StringDType()),
    "a series of polars": lambda: pl.Series(TEXTS),
    "a column of polars": lambda: pl.DataFrame(TABLE)["sequence"],
    "a column of datasets": lambda: datasets.Dataset.from_dict(TABLE)["sequence"],
    "a series of pandas": lambda: pd.Series(TEXTS),
    "the values of a mapping": lambda: {"x": TEXTS[0], "y": TEXTS[1], "z": TEXTS[2]}.values(),
}


@pytest.mark.parametrize("form", FORMS)
def test_strings_in_any_form_are_numbered_in_their_order(form: str) -> None:
    assert records(FORMS[form]()) == [*zip("012", TEXTS, strict=True)]


def test_the_index_of_a_series_is_its_ids(tmp_path: Path) -> None:
    series = pd.DataFrame(TABLE).set_index("acc")["sequence"]
    assert records(series) == [("b", "MKV"), ("a", "GLS\nAD"), ("b", "ä 🧬")]
    assert records(pd.Series(TEXTS, index=[7, 5, 9])) == [*zip("759", TEXTS, strict=True)]
    job = queue_app.embed(
        sequences=series[series != "x"].iloc[::-1],
        model="mock:8",
        output=tmp_path / "o.npy",
        device="cpu",
        workers=1,
    )
    assert job.result().ids == ["b", "a", "b"]


TABLES: dict[str, Callable[[], Any]] = {
    "pandas": lambda: pd.DataFrame(TABLE),
    "polars": lambda: pl.DataFrame(TABLE),
    "lazy polars": lambda: pl.DataFrame(TABLE).lazy(),
    "arrow": lambda: pa.table(TABLE),
    "datasets": lambda: datasets.Dataset.from_dict(TABLE),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_a_type_error_that_says_what_to_write(tmp_path: Path, name: str) -> None:
    """Looping over one gives the names of its columns, which were embedded."""
    output: Any = {"model": "mock:8", "output": tmp_path / "o.npy"}
    with pytest.raises(TypeError, match=r"write sequences=df\[column\], or of pandas with ids .*set_index"):
        queue_app.embed(sequences=TABLES[name](), **output)
    with pytest.raises(TypeError, match=r"inputs: a .*, where names of files stand; .*=df\[column\]"):
        queue_app.embed(TABLES[name](), **output)
    with pytest.raises(UsageError):
        queue_app.start(TABLES[name](), **output)
    assert not [*tmp_path.iterdir()]


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "a string": (lambda: "MKV", "a single string; write"),
    "bytes": (lambda: b"MKV", "that of 0 is not a string, but of type int"),
    "strings of bytes": (lambda: [b"MKV"], "that of 0 is not a string, but of type bytes"),
    "a set": (lambda: {"MKV", "MKL"}, "a set, which has no order"),
    "a missing value": (lambda: ["MKV", None], "that of 1 is not a string, but of type NoneType"),
    "a missing value of pandas": (lambda: pd.Series({"x": "MKV", "y": None}), "that of 'y' is not a string"),
    "columns": (lambda: TABLE, "that of 'acc' is not a string, but of type list"),
    "pairs": (lambda: [("a", "MKV")], "that of 0 is not a string, but of type tuple"),
    "rows": (lambda: pl.DataFrame(TABLE).rows(), "that of 0 is not a string, but of type tuple"),
    "two dimensions": (lambda: np.array([["MKV"]]), "that of 0 is not a string, but of type ndarray"),
    "numbers": (lambda: np.arange(3), "that of 0 is not a string, but of type int64"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_holds_no_strings_is_a_type_error_that_names_the_first(case: str) -> None:
    make, message = WRONG[case]
    with pytest.raises(TypeError, match=message):
        records(make())


STRINGS = ["MKTAYIAKQRQISFVKSHFSRQ", "MKV" * 500, "Is it? A question.", "a\0b", "no/such.fasta", "none[abc]*"]


@pytest.mark.parametrize("text", STRINGS)
def test_strings_where_names_of_files_stand_are_told_where_they_go(tmp_path: Path, text: str) -> None:
    for inputs in ([text], text, (text, "more")):
        with pytest.raises(InputError, match=r"no such file; inputs are names of files, .* go to sequences="):
            queue_app.embed(inputs, model="mock:8", output=tmp_path / "o.npy", device="cpu")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("inputs", [{"a": "MKV"}, pd.Series(["MKV"]), [5], [None], [["a"]]])
def test_what_is_no_name_of_a_file_is_a_type_error(inputs: Any) -> None:
    with pytest.raises(TypeError, match=r"where (names of|the name of a)"), input_files(inputs, None):
        pass


def test_names_of_files_may_come_from_a_generator_and_be_patterns(tmp_path: Path) -> None:
    for name in ("a.fasta", "b.fasta"):
        (tmp_path / name).write_text(">a\nMK\n")
    names = (str(tmp_path / name) for name in ("a.fasta", "*.fasta"))
    with input_files(names, None) as found:  # type: ignore[arg-type]
        assert found == [tmp_path / "a.fasta", tmp_path / "*.fasta"]


def test_a_delimiter_is_an_option_like_the_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name;smiles\nx;CCO\n")
    asked: Any = {"sequence_column": "smiles", "delimiter": ";", "device": "cpu", "workers": 1}
    job = queue_app.embed(tmp_path / "a.csv", model="mock:8", output=tmp_path / "o.npy", **asked)
    assert job.result().ids == ["x"]
    with pytest.raises(UsageError, match="--delimiter 'ab'"):
        queue_app.embed(tmp_path / "a.csv", model="mock:8", output=tmp_path / "p.npy", delimiter="ab")
