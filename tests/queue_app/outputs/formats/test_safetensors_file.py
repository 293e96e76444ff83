"""Files of safetensors: as their own library would have written them, with the ids beside them."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save

from tests.support.inline_job import embedded, write_numbered


def parts(data: bytes) -> tuple[dict[str, object], bytes]:
    """Header and tensors."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


@pytest.mark.parametrize(
    "options", [{}, {"store_dtype": "float16"}, {"pool": "mean,cls"}, {"pool": "none"}], ids=str
)
def test_the_bytes_are_those_that_safetensors_itself_writes(tmp_path: Path, options: dict[str, str]) -> None:
    fasta = write_numbered(tmp_path / "a.fasta", range(40))
    embedded(tmp_path / "out.safetensors", [fasta], **options)
    tensors = load_file(tmp_path / "out.safetensors")
    with safe_open(tmp_path / "out.safetensors", "numpy") as file:
        metadata = file.metadata()
    ours = parts((tmp_path / "out.safetensors").read_bytes())
    assert ours == parts(save(tensors, metadata))
    assert metadata["model_name"] == "mock:8"
    assert len(tensors) == {"none": 2, "mean,cls": 2}.get(options.get("pool", ""), 1)


def test_two_outputs_of_one_stem_have_ids_of_their_own(tmp_path: Path) -> None:
    """out.ids.txt is that of out.npy."""
    made = embedded(tmp_path / "out.npy", [write_numbered(tmp_path / "a.fasta", range(3))])
    made.export(tmp_path / "out.safetensors")
    made.export(tmp_path / "out.npz")
    assert (tmp_path / "out.ids.txt").read_text() == "r0\nr1\nr2\n"
    assert (tmp_path / "out.safetensors.ids.txt").read_text() == "r0\nr1\nr2\n"
    np.testing.assert_array_equal(
        load_file(tmp_path / "out.safetensors")["embeddings"], np.load(tmp_path / "out.npy")
    )


def test_the_ids_of_an_output_are_no_input(tmp_path: Path) -> None:
    """Also where the directory itself is the input, and the command is given again."""
    write_numbered(tmp_path / "a.fasta", range(3))
    embedded(tmp_path / "out.safetensors", [tmp_path])
    embedded(tmp_path / "out.safetensors", [tmp_path])
