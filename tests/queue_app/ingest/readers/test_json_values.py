"""JSON as one array or one object: read as json.loads reads it, an element at a time."""

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queue_app.errors import InputError
from queue_app.ingest.readers import json_values
from queue_app.ingest.readers.bounds.limits import Limits
from queue_app.ingest.readers.sources import Input
from queue_app.ingest.records import Dataset
from queue_app.job.shard_files import Record
from tests.support.jobs_and_inputs import protein


def records(path: Path, **asked: str) -> list[Record]:
    return list(Dataset([Input(path, path)], alphabet="text", **asked))  # type: ignore[arg-type]


def pairs(path: Path, **asked: str) -> list[tuple[str, str]]:
    return [(record.id, record.sequence) for record in records(path, **asked)]


def written(home: Path, content: object, **how: int) -> Path:
    text = content if isinstance(content, str) else json.dumps(content, **how)  # type: ignore[arg-type]
    (path := home / "a.json").write_text(text, encoding="utf-8")
    return path


OBJECTS = [{"id": f"p{number}", "sequence": protein(number)} for number in range(50)]
EXPECTED = [(each["id"], each["sequence"]) for each in OBJECTS]


@pytest.mark.parametrize("indent", [None, 0, 2])
def test_an_array_of_objects_an_object_of_strings_and_one_of_objects_are_read(
    tmp_path: Path, indent: int | None
) -> None:
    how = {} if indent is None else {"indent": indent}
    assert pairs(written(tmp_path, OBJECTS, **how)) == EXPECTED
    assert pairs(written(tmp_path, dict(EXPECTED), **how)) == EXPECTED
    named = {name: {"sequence": sequence, "id": "not this"} for name, sequence in EXPECTED}
    assert pairs(written(tmp_path, named, **how)) == EXPECTED
    texts = [sequence for _, sequence in EXPECTED]
    assert pairs(written(tmp_path, texts, **how)) == [
        (str(number), text) for number, text in enumerate(texts, start=1)
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists, max_leaves=5
)


@settings(max_examples=50)
@given(
    st.lists(
        st.fixed_dictionaries({"text": st.text(min_size=1)}, optional={"x": JSON, "y\n": JSON}), min_size=1
    )
)
def test_wherever_the_text_is_cut_while_it_is_read_the_elements_are_those_of_json_loads(
    tmp_path_factory: pytest.TempPathFactory, array: list[dict[str, object]]
) -> None:
    home = tmp_path_factory.mktemp("array")
    for indent, chunk in itertools.product((None, 1), (1, 7, 1 << 20)):
        path = written(home, json.dumps(array, indent=indent))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_values, "CHUNK_CHARACTERS", chunk)
            found = records(path, keep="all")
        assert [record.kept for record in found] == [
            {name: value for name, value in each.items() if name != "text"}
            for each in json.loads(path.read_text())
        ]


BROKEN = {
    '[{"id": 1, "sequence": "MK"},\n{"id": 2 "sequence": "ML"}]': "line 2: not JSON \\(",
    '[{"id": 1, "sequence": "MK"}\n{"id": 2, "sequence": "ML"}]': "line 2: not JSON: a comma or ] is missing",
    '[{"id": 1, "sequence": "MK"},\n]': "line 2: not JSON: a comma before ]",
    '[{"id": 1, "sequence": "MK"}': "line 1: the JSON is cut off",
    '[{"id": 1, "sequence": "MK"},\n': "line 2: the JSON is cut off",
    '[{"id": 1, "sequence": "MK"},\n{"id": 2, "sequ': "line 2: not JSON",
    '{"P1": "MK", "P2"': "line 1: the JSON is cut off",
    '{"P1": "MK", P2: "ML"}': "line 1: not JSON: a key is missing",
    '["MK"]\n["ML"]\n': "line 2: something stands behind its ]; .*--input-format jsonl",
    '["MK", {"sequence": "ML"}]': "line 1: record 2 is another kind of value than the first",
    "[1, 2]": "line 1: record 1 is neither an object nor a string",
    '{"data": [{"id": "a", "sequence": "MKV"}]}': "record 1 is neither .* as in jq .data",
    '{"id": {"0": "a"}, "sequence": {"0": "MKV"}}': "columns, .* orient='records'",
    '{"id": ["a", "b"], "sequence": ["MKV", "MKL"]}': "columns, .* orient='records'",
    '{\n"id": "a",\n"sequence": "MKV"}': "line 2: one object with a key 'id' is one record",
    '[{"sequence": "MK", "sequence": "ML"}]': "a key stands there twice",
    '[{"x": "MK"}]': "record 1: no column of sequences by its name .*it has: x",
    '[{"seq": "MK"}, {"text": "MK"}]': "record 2: its sequence would come from 'text'",
    '[{"seq": "MK"}, {"id": 1, "seq": "MK"}]': "record 2: its id would come from 'id'",
}


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_json_or_no_records_is_named_by_its_line_or_record(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError, match=BROKEN[text]) as refused:
        pairs(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


def test_a_value_that_is_no_sequence_quarantines_its_record_alone(tmp_path: Path) -> None:
    array = [{"id": "a", "seq": "MK"}, {"id": "b", "seq": 7}, {"id": "c"}, {"id": "d", "seq": "\ud800"}]
    assert [record.problem for record in records(written(tmp_path, array))] == [
        None,
        "a number in the place of a sequence (record 2)",
        "no 'seq' in it (record 3)",
        "half of a surrogate pair in the sequence (record 4)",
    ]


def test_columns_are_asked_for_as_in_json_lines_and_strings_have_none(tmp_path: Path) -> None:
    array = [{"smiles": "CCO", "label": "m1"}]
    path = written(tmp_path, array)
    assert pairs(path, sequence_column="smiles", id_column="label") == [("m1", "CCO")]
    path = written(tmp_path, ["MKV"])
    with pytest.raises(InputError, match="--sequence-column: its records are strings, without keys"):
        pairs(path, sequence_column="smiles")


def test_one_line_may_be_longer_than_the_memory_and_one_element_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """18 MB in a line: of it a few MB are held at a time."""
    path = tmp_path / "a.json"
    with path.open("w") as file:
        file.write("[")
        file.writelines(f'{{"id": {number}, "text": "{"MKVLAT" * 150}"}},' for number in range(20_000))
        file.write('{"id": "last", "text": "M"}]')
    most = 0
    text = json_values.JsonText
    read = text._read

    def seen(self: json_values.JsonText, num_characters: int) -> None:
        nonlocal most
        read(self, num_characters)
        most = max(most, len(self._buffer))

    monkeypatch.setattr(text, "_read", seen)
    *_, last = Dataset([Input(path, path)], alphabet="text")
    assert (last.ordinal, last.id) == (20_000, "last")
    assert most < 4 << 20
    monkeypatch.setattr("queue_app.ingest.readers.bounds.limits.LINE_BYTES_LEAST", 100_000)
    with pytest.raises(InputError, match=r"not JSON, or longer than|record 1 is longer than"):
        list(
            Dataset(
                [Input(written(tmp_path, ["M" * 3_000_000]), path)], alphabet="text", limits=Limits(record=1)
            )
        )


def test_json_is_read_as_pandas_writes_records(tmp_path: Path) -> None:
    import pandas

    table = pandas.DataFrame({"id": ["a", "b"], "sequence": ["MKV", "GLé"], "n": [1, 2]})
    table.to_json(tmp_path / "a.json", orient="records")
    found = records(tmp_path / "a.json", keep="all")
    assert [(each.id, each.sequence, each.kept["n"]) for each in found] == list(table.itertuples(index=False))
    table.to_json(tmp_path / "a.json")
    with pytest.raises(InputError, match="orient='records'"):
        records(tmp_path / "a.json")
