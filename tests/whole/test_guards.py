"""What a model does not know, what says nothing, and what it was not made for: quarantined, refused, or said.

Real commands throughout. References are transformers' own, one sequence at a time.
"""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tests.support.command_runs import holdfast
from tests.support.families import save_codonbert, save_dnabert, save_protbert, save_saprot
from tests.support.model_directories import MINILM, change_weights, save_esm2

CHANCE = random.Random(5)
PROTEINS = ["".join(CHANCE.choices("ACDEFGHIKLMNPQRSTVWY", k=length)) for length in range(40, 60)]
GENES = ["".join(CHANCE.choices("ACGT", k=3 * length)) for length in range(20, 40)]
ENGLISH_WORDS = ("our", "cautious", "mouse", "looks", "out", "of", "its", "house", "now")
ENGLISH = [" ".join(CHANCE.choices(ENGLISH_WORDS, k=12)) for _ in range(20)]
CPU = ("--device", "cpu", "--workers", "1")


def kmers(sequence: str, stride: int) -> str:
    return " ".join(sequence[at : at + 3] for at in range(0, len(sequence) - 2, stride))


def write(path: Path, sequences: list[str]) -> Path:
    path.write_text("".join(f">r{number}\n{each}\n" for number, each in enumerate(sequences)))
    return path


def means(directory: Path, texts: list[str]) -> np.ndarray:
    """The mean over the tokens, special ones left out."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModel.from_pretrained(directory, add_pooling_layer=False).eval()
    with torch.no_grad():
        states = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 1:-1] for text in texts]
    return torch.stack([state.mean(dim=0) for state in states]).numpy()


def embedded(fasta: Path, model: Path, *options: str, expect: int = 0) -> np.ndarray:
    output = fasta.with_suffix(".npy")
    holdfast("embed", fasta, "-m", model, "-o", output, *CPU, *options, expect=expect)
    vectors: np.ndarray = np.load(output)
    return vectors


def refusal(command: str, fasta: Path, model: Path, *options: str) -> str:
    """The one line of a command that is refused, and leaves nothing behind."""
    output = fasta.with_suffix(".npy")
    ended = holdfast(command, fasta, "-m", model, "-o", output, *CPU, *options, expect=2)
    assert not output.exists()
    assert not output.with_name(f"{output.name}.holdfast").exists()
    return next(line for line in ended.stderr.splitlines() if line.startswith("holdfast: "))


def planned(fasta: Path, model: Path, *options: str) -> dict[str, Any]:
    output = fasta.with_suffix(".npy")
    arguments = ("plan", fasta, "-m", model, "-o", output, *CPU, "--seconds", "0", "--json", *options)
    answer: dict[str, Any] = json.loads(holdfast(*arguments).stdout)
    return answer


@pytest.fixture(scope="module")
def esm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_esm2(tmp_path_factory.mktemp("esm2"))


@pytest.fixture(scope="module")
def protbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_protbert(tmp_path_factory.mktemp("protbert"))


@pytest.fixture(scope="module")
def dnabert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_dnabert(tmp_path_factory.mktemp("dnabert"))


# ---- sequences that are written in the model's words


@pytest.mark.parametrize("written", [True, False], ids=["in k-mers", "plain"])
def test_dnabert_gives_the_vectors_of_its_kmers_whether_they_were_written_or_not(
    tmp_path: Path, dnabert: Path, written: bool
) -> None:
    fasta = write(tmp_path / "in.fasta", [kmers(gene, 1).lower() if written else gene for gene in GENES])
    expected = means(dnabert, [kmers(gene, 1) for gene in GENES])
    np.testing.assert_allclose(embedded(fasta, dnabert), expected, atol=1e-5)


@pytest.mark.parametrize("written", [True, False], ids=["in codons", "plain"])
def test_codonbert_gives_the_vectors_of_its_codons_whether_they_were_written_or_not(
    tmp_path: Path, written: bool
) -> None:
    directory = save_codonbert(tmp_path / "codonbert")
    fasta = write(tmp_path / "in.fasta", [kmers(gene, 3) if written else gene for gene in GENES])
    expected = means(directory, [kmers(gene, 3).replace("T", "U") for gene in GENES])
    np.testing.assert_allclose(embedded(fasta, directory), expected, atol=1e-5)


def test_saprot_reads_pairs_as_they_stand_and_gives_a_plain_protein_unknown_shapes(tmp_path: Path) -> None:
    directory = save_saprot(tmp_path / "saprot")
    shapes = random.Random(1)
    pairs = ["".join(letter + shapes.choice("pynwrqhgdlvtmfsaeikc#") for letter in each) for each in PROTEINS]
    plain = ["".join(f"{letter}#" for letter in each) for each in PROTEINS]
    fasta = write(tmp_path / "in.fasta", [*pairs, *PROTEINS])
    np.testing.assert_allclose(embedded(fasta, directory), means(directory, [*pairs, *plain]), atol=1e-5)


# ---- what the model does not know


def test_a_record_that_the_model_mostly_does_not_know_is_set_aside_with_its_twins(
    tmp_path: Path, dnabert: Path
) -> None:
    strange = f"{'N' * 40}{GENES[0][:30]}"
    fasta = write(tmp_path / "in.fasta", [*GENES, strange, strange])
    vectors = embedded(fasta, dnabert, expect=3)
    np.testing.assert_allclose(vectors, means(dnabert, [kmers(gene, 1) for gene in GENES]), atol=1e-5)
    job_dir = tmp_path / "in.npy.holdfast"
    entries = json.loads(holdfast("quarantine", job_dir, "--json").stdout)
    assert [entry["id"] for entry in entries] == ["r20", "r21"]
    reason = "more than half of its tokens are unknown to the model (40 of 68); see --alphabet and --rules"
    assert {entry["reason"] for entry in entries} == {reason}
    card = json.loads((tmp_path / "in.npy.card.json").read_text())
    assert card["counts"]["records"] == 22
    assert card["counts"]["embedded"] + card["counts"]["quarantined"] == 22
    holdfast("verify", job_dir)
    again = holdfast("quarantine", job_dir, "--retry").stderr
    assert "no record can be tried again as it stands" in again


@pytest.mark.parametrize("command", ["embed", "plan"])
def test_a_job_that_would_set_most_records_aside_is_refused(
    tmp_path: Path, protbert: Path, command: str
) -> None:
    """Without blanks a protein is one word, which no ProtBERT knows: all would have one vector."""
    fasta = write(tmp_path / "in.fasta", PROTEINS)
    said = refusal(command, fasta, protbert, "--alphabet", "text")
    assert "100% of the records would be quarantined" in said
    assert "r0: 1 of 1 tokens are unknown to the model" in said
    assert "--alphabet" in said


def test_proteins_for_a_model_of_dna_are_refused_and_not_set_aside_one_by_one(
    tmp_path: Path, dnabert: Path
) -> None:
    said = refusal("embed", write(tmp_path / "in.fasta", PROTEINS), dnabert)
    assert "100% of the records would be quarantined" in said
    assert "the records look like proteins" in said


def test_a_tokenizer_that_only_workers_have_ends_the_job_with_the_reason(tmp_path: Path) -> None:
    directory = save_saprot(tmp_path / "saprot")
    fasta = write(tmp_path / "in.fasta", ["X" * length for length in range(30, 60)])
    command = ("embed", fasta, "-m", directory, "-o", tmp_path / "out.npy", *CPU, "--shards", "1")
    said = holdfast(*command, expect=1).stderr
    assert "30 of 30 records would be quarantined; the first is r0: more than half of its tokens" in said
    assert not (tmp_path / "out.npy").exists()


@pytest.mark.parametrize(("alphabet", "lacking"), [("protein", "D, E, F, H, I"), ("rna", "no token for U;")])
def test_an_alphabet_that_the_model_has_no_letters_of_is_refused_before_the_input_is_read(
    tmp_path: Path, dnabert: Path, alphabet: str, lacking: str
) -> None:
    damaged = tmp_path / "in.fasta"
    damaged.write_text("this is no FASTA")
    for command in ("embed", "plan"):
        said = refusal(command, damaged, dnabert, "--alphabet", alphabet)
        assert f"--alphabet {alphabet}" in said
        assert lacking in said
        assert "leave --alphabet out" in said


# ---- what says nothing


def test_different_sequences_with_one_vector_end_the_job_and_an_option_lets_it(tmp_path: Path) -> None:
    def collapse(tensors: dict[str, torch.Tensor]) -> None:
        for name in tensors:
            if name.endswith("emb_layer_norm_after.weight"):
                tensors[name].zero_()

    directory = change_weights(save_esm2(tmp_path / "esm2"), collapse)
    fasta = write(tmp_path / "in.fasta", PROTEINS)
    output = tmp_path / "in.npy"
    command = ("embed", fasta, "-m", directory, "-o", output, *CPU)
    said = holdfast(*command, expect=1).stderr
    assert "20 of 20 different sequences have one and the same vector, r0 and r1 among them" in said
    assert "--allow-same-vectors" in said
    assert not output.exists()
    assert not list((tmp_path / "in.npy.holdfast" / "done").iterdir())
    holdfast(*command, "--allow-same-vectors")
    vectors = np.load(output)
    np.testing.assert_allclose(vectors, np.broadcast_to(vectors[0], vectors.shape), rtol=1e-5)


def test_sequences_whose_tokens_are_the_same_may_have_one_vector(tmp_path: Path, protbert: Path) -> None:
    """U, Z, O and B are X to ProtBERT: ten texts, one sequence of tokens."""
    alike = [f"MKTAYIAKQR{letter}{other}" for letter in "UZOB" for other in "UZOB"]
    vectors = embedded(write(tmp_path / "in.fasta", alike), protbert)
    assert len(np.unique(vectors, axis=0)) == 1


# ---- what the model was not made for

NOTES = {
    "DNA": (GENES, "the records look like DNA (100% of the letters are A C G T U N), and {} reads proteins"),
    "text": (ENGLISH, "the records look like text"),
    "proteins": (PROTEINS, None),
}


@pytest.mark.parametrize("kind", NOTES)
def test_records_that_a_protein_model_was_not_made_for_are_noted(
    tmp_path: Path, esm2: Path, kind: str
) -> None:
    sequences, note = NOTES[kind]
    found = planned(write(tmp_path / "in.fasta", sequences), esm2)["notes"]
    assert len(found) == (note is not None)
    if note is not None:
        assert found[0].startswith(note.format(esm2.name))


@pytest.mark.parametrize(
    ("sequences", "note"),
    [(PROTEINS, "the records look like proteins"), (ENGLISH, "")],
    ids=["protein", "text"],
)
def test_proteins_are_noted_by_a_model_of_texts(tmp_path: Path, sequences: list[str], note: str) -> None:
    found = planned(write(tmp_path / "in.fasta", sequences), MINILM)["notes"]
    assert [each.startswith(note) for each in found] == ([True] if note else [])


def test_the_note_stands_in_the_view_the_plan_and_the_card(tmp_path: Path, esm2: Path) -> None:
    fasta = write(tmp_path / "in.fasta", GENES)
    output = tmp_path / "in.npy"
    note = f"the records look like DNA (100% of the letters are A C G T U N), and {esm2.name} reads proteins"
    assert f"note: {note}\n" in holdfast("embed", fasta, "-m", esm2, "-o", output, *CPU).stderr
    assert json.loads((tmp_path / "in.npy.card.json").read_text())["notes"] == [note]
    assert f"Note: {note}." in (tmp_path / "in.npy.card.md").read_text()
    told = holdfast("plan", fasta, "-m", esm2, "-o", tmp_path / "other.npy", *CPU, "--seconds", "0").stdout
    assert "note       the records look like DNA" in told
