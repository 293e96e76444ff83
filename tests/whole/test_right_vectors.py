"""Every model of the zoo: the vectors of transformers or sentence-transformers, or a refusal that says why.

`python -m pytest tests/whole/test_right_vectors.py --write-table` writes what it finds to
docs/right_vectors.md.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpu_tasks import load_model
from gpu_tasks.errors import ModelLoadError
from queue_app.errors import ModelError
from tests.support import ROOT
from tests.support.command_runs import holdfast
from tests.support.model_directories import contact_maps, embed
from tests.zoo.inputs import watched
from tests.zoo.records import TEXTS
from tests.zoo.reference import Vectors, differences, in_one_table, sentence_vectors
from tests.zoo.table import ROWS, Row
from tests.zoo.zoo import Zoo, folder

MOST = 1e-5
"""The largest norm of a difference, over the norm of the reference."""
PAGE = ROOT / "docs" / "right_vectors.md"
BEGIN, END = "<!-- the table -->\n", "<!-- end of the table -->\n"
HEAD = "| model | directory | difference, or why it is refused |\n|---|---|---|\n"
USABLE = [row for row in ROWS if row.reference]
REFUSED = [row for row in ROWS if row.words]


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("zoo"))


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    """The last column of each row that was right."""
    return {}


def named(row: Row) -> str:
    return row.name


def refusal(directory: Path) -> str | None:
    """What the model's loader says against it."""
    try:
        load_model(str(directory))
    except (ModelError, ModelLoadError) as error:
        return str(error)
    return None


# ---- the same vectors


@pytest.mark.parametrize("row", USABLE, ids=named)
def test_a_model_gives_the_vectors_of_its_reference(zoo: Zoo, found: dict[str, str], row: Row) -> None:
    directory = zoo.directory(row)
    if row.words and refusal(directory):
        pytest.skip("refused, which is as right: see the refusals")
    model = load_model(str(directory), pool=row.pool)
    if row.pool == "contacts":
        ours = in_one_table(contact_maps(model, row.records))
    else:
        ours = embed(model, row.records, long="truncate")
    difference = differences(ours, zoo.reference(row))
    assert difference <= MOST
    found[row.name] = f"{difference:.0e}"


@pytest.mark.parametrize("row", USABLE, ids=named)
def test_no_two_records_of_a_row_have_the_same_vector(zoo: Zoo, row: Row) -> None:
    """Else the comparison would say little."""
    vectors = zoo.reference(row)
    for index, vector in enumerate(vectors):
        assert not np.isclose(vectors[:index], vector, rtol=1e-3, atol=1e-4).all(axis=1).any()


# ---- refused


@pytest.mark.parametrize("row", REFUSED, ids=named)
def test_what_is_not_understood_is_refused_by_name(zoo: Zoo, found: dict[str, str], row: Row) -> None:
    directory = zoo.directory(row)
    said = refusal(directory)
    if row.reference and said is None:
        pytest.skip("gives vectors, which is as right: see the vectors")
    assert said is not None, "its loader takes it"
    assert [word for word in row.words if word not in said] == [], said
    told = said.replace(f"{directory}/", "").replace(str(directory), "DIR")
    found[row.name] = " ".join(told.split()).replace("|", r"\|")


KINDS = (
    "BERT: code of its own", "ESM-2: int8", "ESM-2: another adapter", "BERT: CNN", "Geneformer: no tokenizer",
    "BERT: a tensor lacks", "BERT: weights cut off", "BERT: the root of a hub cache",
)  # fmt: skip
"""A refusal for each of the files that a model is read from."""


@pytest.mark.parametrize("row", [row for row in ROWS if row.name in KINDS], ids=named)
def test_the_command_refuses_before_it_reads_any_input(zoo: Zoo, tmp_path: Path, row: Row) -> None:
    line = refused(tmp_path, "embed", "-m", zoo.directory(row), "-o", tmp_path / "out.npy", "--device", "cpu")
    assert [word for word in row.words if word not in line] == [], line


@pytest.mark.parametrize("command", ["embed", "enqueue", "plan", "doctor"])
def test_every_command_refuses_a_model_in_the_same_words(
    zoo: Zoo, tmp_path: Path, server_url: str, command: str
) -> None:
    (row,) = (row for row in ROWS if row.name == "BERT: code of its own")
    directory = zoo.directory(row)
    output = () if command in ("plan", "doctor") else ("-o", tmp_path / "out.npy")
    broker = ("--broker", server_url, "--queues", "cpu0") if command == "enqueue" else ()
    line = refused(tmp_path, command, "-m", directory, *output, *broker, reads=command != "doctor")
    assert str(directory / "config.json") in line
    assert "auto_map" in line


def refused(home: Path, command: str, *options: str | Path, reads: bool = True) -> str:
    """The line that a command ends with, which has read no input and left nothing behind."""
    with watched(home / "input.fasta") as fifo:
        inputs = (fifo.path,) if reads else ()
        ended = holdfast(command, *inputs, *options, expect=2)
    assert not fifo.opened
    assert [path.name for path in home.iterdir()] == ["input.fasta"]
    return ended.stderr


# ---- through the whole command


SOFT = {"protein": "MKTayiakqrQISFVKsh", "other": "gshmasMTGGQQMGRGSU"}
"""As a database masks them."""


@pytest.mark.parametrize("name", ["ProtBERT: vocab.txt", "ESM-C: as published", "Ankh: as published"])
def test_soft_masked_proteins_are_read_as_proteins(zoo: Zoo, tmp_path: Path, name: str) -> None:
    (row,) = (row for row in ROWS if row.name == name)
    assert row.reference
    fasta = tmp_path / "masked.fasta"
    fasta.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in SOFT.items()))
    expected = row.reference(zoo.directory(row), [sequence.upper() for sequence in SOFT.values()])
    assert differences(embedded(fasta, zoo.directory(row)), expected) <= MOST


OPTIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "prompt, truncated": (
        ("--prompt", "represent: ", "--truncate-dim", "16"),
        {"prompt": "represent: ", "truncate_dim": 16},
    ),
    "prompt name, normalised": (
        ("--prompt-name", "document", "--normalize"),
        {"prompt_name": "document", "normalize_embeddings": True},
    ),
    "nothing": ((), {}),
}
"""Options of the command, and of sentence-transformers' encode."""


@pytest.mark.parametrize("options", OPTIONS)
def test_options_change_what_they_change_in_sentence_transformers(
    zoo: Zoo, tmp_path: Path, options: str
) -> None:
    (row,) = (row for row in ROWS if row.name == "BERT: sentences, default_prompt_name")
    given, theirs = OPTIONS[options]
    lines = tmp_path / "texts.txt"
    lines.write_text("\n".join(TEXTS[:3]) + "\n")
    expected = sentence_vectors(zoo.directory(row), TEXTS[:3], **theirs)
    assert differences(embedded(lines, zoo.directory(row), *given), expected) <= MOST


def test_normalisation_of_the_model_can_be_left_out(zoo: Zoo, tmp_path: Path) -> None:
    rows = {row.name: row for row in ROWS}
    lines = tmp_path / "texts.txt"
    lines.write_text("\n".join(TEXTS[:3]) + "\n")
    ours = embedded(lines, zoo.directory(rows["BERT: sentences, Normalize"]), "--no-normalize")
    expected = sentence_vectors(zoo.directory(rows["BERT: sentences, pooling mean"]), TEXTS[:3])
    assert differences(ours, expected) <= MOST


def embedded(source: Path, model: Path, *options: str) -> Vectors:
    output = source.parent / "out.npy"
    holdfast("embed", source, "-m", model, "-o", output, "--device", "cpu", "--workers", "1", *options)
    vectors: Vectors = np.load(output)
    return vectors


# ---- the table of the documentation


def test_no_two_rows_have_the_same_directory() -> None:
    assert len({folder(row) for row in ROWS}) == len(ROWS)


def test_the_documentation_has_every_row_and_no_other(
    request: pytest.FixtureRequest, found: dict[str, str]
) -> None:
    """What is right and what is refused there is so here: differences and paths apart."""
    if request.config.getoption("write_table"):
        assert found.keys() == {row.name for row in ROWS}, "some are not right: nothing is written"
        write_table(found)
    table = read_table()
    assert list(table) == [row.name for row in ROWS]
    for row in ROWS:
        if is_number(table[row.name]):
            assert row.reference
            assert float(table[row.name]) <= MOST
        else:
            assert [word for word in row.words if word not in table[row.name]] == []
        if row.name in found:
            assert is_number(found[row.name]) == is_number(table[row.name]), row.name


def write_table(found: dict[str, str]) -> None:
    lines = [f"| {row.family} | {row.layout} | {found[row.name]} |\n" for row in ROWS]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + BEGIN + HEAD + "".join(lines) + END + rest.partition(END)[2])


def read_table() -> dict[str, str]:
    """The last column of each line."""
    lines = PAGE.read_text().partition(BEGIN)[2].partition(END)[0].removeprefix(HEAD).splitlines()
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {f"{family}: {layout}": last for family, layout, last in cells}


def is_number(text: str) -> bool:
    return bool(re.fullmatch(r"\d(\.\d)?e[-+]\d\d", text))
