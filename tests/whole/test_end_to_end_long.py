"""Long sequences through the whole command: one definition, a limit that is heeded, bytes that stay."""

import json
import os
import random
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from transformers import EsmModel, EsmTokenizer

from queue_app.model.reader import find_model
from tests.support.command_runs import holdfast, running, wait_for_progress
from tests.support.jobs_and_inputs import write_fasta
from tests.support.model_directories import save_bert, save_esm2

LENGTHS = (30, 1022, 1023, 1500, 2000, 4000)
CPU = ["--device", "cpu", "--workers", "1"]


@pytest.fixture(scope="module")
def esm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_esm2(tmp_path_factory.mktemp("model") / "esm2")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("model") / "bert")


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("input") / "long.fasta"
    path.write_text("".join(f">p{length}\n{protein(length)}\n" for length in LENGTHS))
    return path


def protein(length: int) -> str:
    return "".join(random.Random(length).choices("ACDEFGHIKLMNPQRSTVWY", k=length))


def mean_of_transformers(directory: Path, sequence: str) -> np.ndarray:
    model = EsmModel.from_pretrained(directory, add_pooling_layer=False).eval()
    with torch.inference_mode():
        encoded = EsmTokenizer.from_pretrained(directory)(sequence, return_tensors="pt")
        mean: np.ndarray = model(**encoded).last_hidden_state[0, 1:-1].double().mean(dim=0).numpy()
    return mean


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def test_the_stored_mean_is_the_mean_of_what_pool_none_stores(
    esm2: Path, fasta: Path, tmp_path: Path
) -> None:
    holdfast("embed", fasta, "-m", esm2, "-o", tmp_path / "mean.npy", *CPU)
    holdfast("embed", fasta, "-m", esm2, "-o", tmp_path / "none.h5", "--pool", "none", *CPU)
    means = np.load(tmp_path / "mean.npy")
    with h5py.File(tmp_path / "none.h5") as file:
        tokens, offsets = file["embeddings"][:].astype(np.float64), file["offsets"][:].tolist()
    assert np.diff(offsets).tolist() == list(LENGTHS)
    for mean, first, end in zip(means, offsets, offsets[1:], strict=False):
        assert relative(mean, tokens[first:end].mean(axis=0)) <= 1e-6


def test_max_length_is_heeded_beyond_what_the_model_was_made_for(
    esm2: Path, fasta: Path, tmp_path: Path
) -> None:
    asked = [fasta, "-m", esm2, "-o", tmp_path / "out.npy", "--max-length"]
    planned = holdfast("plan", *asked, "2000", "--seconds", "0").stdout
    assert "1 over the limit of 2,000 tokens: embedded in overlapping windows" in planned
    holdfast("embed", *asked, "4000", *CPU)
    for vector, length in zip(np.load(tmp_path / "out.npy"), LENGTHS, strict=True):
        assert relative(vector, mean_of_transformers(esm2, protein(length))) < 1e-5
    card = json.loads((tmp_path / "out.npy.card.json").read_text())
    assert card["methods"].count("longer than the limit of 4,000 residues") == 1


@pytest.mark.parametrize("command", ["embed", "plan"])
def test_a_max_length_beyond_the_positions_is_refused_before_the_input_is_read(
    bert: Path, tmp_path: Path, command: str
) -> None:
    (source := tmp_path / "in.fasta").write_text("not a FASTA file\n")
    asked = [command, source, "-m", bert, "-o", tmp_path / "out.npy", "--max-length"]
    refused = holdfast(*asked, "511", expect=2).stderr
    assert "--max-length 511: bert has 512 positions, 2 of them for special tokens; ask for 510" in refused
    said = {"embed": 1, "plan": 2}  # plan tells first what it reads
    assert refused.count("\n") == said[command]
    assert list(tmp_path.iterdir()) == [source]
    assert find_model(str(bert)).spec.max_length == 510
    assert "positions" not in holdfast(*asked, "510", expect=2).stderr


def test_a_killed_worker_changes_no_byte_of_records_in_windows(tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "in.fasta", 120)
    options = ["--pool", "mean,max,last,cls", "--max-length", "24", "--toks-per-batch", "60"]
    shared = ["--device", "cpu", "--workers", "2", "--shards", "4", "--commit-seconds", "0.05", *options]
    holdfast("embed", fasta, "-o", tmp_path / "whole.npy", "-m", "mock:8", *shared)
    killed, kills = tmp_path / "killed.npy", 0
    with running("embed", fasta, "-o", killed, "-m", "mock:8,delay_ms=15", *shared) as job:
        for share in (0.2, 0.5):
            seen = wait_for_progress(tmp_path / "killed.npy.holdfast", share, job)
            os.kill(seen["workers"][0]["child_pid"], signal.SIGKILL)
            kills += 1
        assert job.wait(timeout=120) == 0
    assert kills == 2
    assert killed.read_bytes() == (tmp_path / "whole.npy").read_bytes()
