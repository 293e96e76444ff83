"""docs/own_model.md, line by line: the families, the pools, and every refusal in its very words."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import h5py
import pytest
import torch
from safetensors.torch import load_file
from transformers import BartConfig, BartModel, BertTokenizer

from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.model_directory.encoder import NATIVE
from gpu_tasks.model_directory.reader import read_model
from gpu_tasks.model_directory.token_rules import TABLE, TEXT
from queue_app.model.spec import Pool
from tests.support import ROOT
from tests.support.inline_job import embedded
from tests.support.model_directories import change_config, change_weights
from tests.support.small_models import TYPES, save_adapter, save_sentences, save_small_bert, write_json

PAGE = (ROOT / "docs" / "own_model.md").read_text()
EXAMPLES = {"protein": "MKU", "dna": "ATGGCA", "rna": "AUGGCA"}


def rows(head: str) -> list[list[str]]:
    """The cells of the table that begins with this line."""
    table = PAGE.partition(head + "\n")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[1:]]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# ---- what is there


def test_the_table_of_families_is_that_of_the_code() -> None:
    told: dict[str, tuple[list[str], list[str]]] = {}
    for names, _, alphabets, written in rows("| `--rules` | such as | alphabet | the tokenizer is given |"):
        first, last = quoted(names)[0], quoted(names)[-1]
        every = [first] if first == last else [f"kmers{k}" for k in range(2, 9)]
        told |= {name: (alphabets.split(", "), quoted(written)) for name in every}
    found: dict[str, list[str]] = {}
    for row in (*TABLE, TEXT):
        found.setdefault(row.rules.name, []).append(row.alphabet)
    assert {name: alphabets for name, (alphabets, _) in told.items()} == found
    for row in TABLE:
        if not row.rules.name.startswith("kmers") or row.rules.kmer == 3:
            assert row.rules.written(EXAMPLES[row.alphabet]) in told[row.rules.name][1]


def test_what_is_run_natively_is_named() -> None:
    native = [name for types, how in rows("| `model_type` | how it is run |")[:2] for name in quoted(types)]
    assert sorted(native) == sorted(NATIVE)


def test_every_pool_is_named() -> None:
    pools = PAGE.partition("another, out of ")[2].partition(".")[0]
    assert sorted(quoted(pools)) == sorted(get_args(Pool))


def test_one_file_of_weights_counts_before_its_parts(tmp_path: Path) -> None:
    path = save_small_bert(tmp_path / "m")
    write_json(path / "model.safetensors.index.json", {"weight_map": {"a": "gone.safetensors"}})
    assert read_model(path).spec.encoder.weights == ("model.safetensors",)


def test_what_is_written_in_the_familys_words_stays_so() -> None:
    rules = {row.rules.name: row.rules for row in TABLE}
    assert rules["kmers3"].written("ATG TGG") == "ATG TGG"
    assert rules["saprot"].written("MdKp") == "MdKp"


@pytest.mark.parametrize(("pool", "width"), [(None, 5), ("cls", 5), ("none", 8)])
def test_a_dense_module_is_applied_to_pooled_vectors_and_to_no_tokens(
    tmp_path: Path, pool: str | None, width: int
) -> None:
    model = save_sentences(tmp_path / "m", "Dense")
    (tmp_path / "in.txt").write_text("the protein kinase\na kinase\n")
    embedded(tmp_path / "out.h5", [tmp_path / "in.txt"], model=str(model), pool=pool)
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["embeddings"].shape[1] == width


# ---- what is refused


def bart(directory: Path) -> None:
    save_sentences(directory)
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    BartModel(BartConfig(vocab_size=16, d_model=8, **layers, **heads)).save_pretrained(directory)


def with_module(kind: str) -> Callable[[Path], object]:
    def make(directory: Path) -> None:
        modules = [
            {"name": "0", "path": "", "type": TYPES + "Transformer"},
            {"name": "1", "path": "1_Pooling", "type": kind},
        ]
        write_json(save_sentences(directory) / "modules.json", modules)

    return make


def in_int8(directory: Path) -> None:
    name = "encoder.layer.0.output.dense.weight"
    save_small_bert(directory)
    change_weights(directory, lambda all_: all_.update({name: all_[name].to(torch.int8)}))


def pickled(directory: Path) -> None:
    path = save_small_bert(directory) / "model.safetensors"
    torch.save(load_file(path), directory / "pytorch_model.bin")
    path.unlink()


def cut_off(directory: Path) -> None:
    path = save_small_bert(directory) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def with_wrong_index(directory: Path) -> None:
    path = save_small_bert(directory) / "model.safetensors"
    path.rename(directory / "part.safetensors")
    write_json(directory / "model.safetensors.index.json", {"weight_map": {"a": "part.safetensors"}})


def without_tokenizer(directory: Path) -> None:
    save_small_bert(directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).unlink()


def hollow_tokenizer(path: Path) -> None:
    save_small_bert(path)
    BertTokenizer().save_pretrained(path)


REFUSED: dict[str, Callable[[Path], object]] = {
    "code of its own": lambda path: change_config(save_small_bert(path), auto_map={"AutoModel": "m.M"}),
    "a module of its own": with_module("mine.Pooling"),
    "quantized weights by its config": lambda path: change_config(
        save_small_bert(path), quantization_config={"quant_method": "gptq"}
    ),
    "weights that need a scale": in_int8,
    "pickles alone": pickled,
    "no weights": lambda path: (save_small_bert(path) / "model.safetensors").unlink(),
    "damaged weights": cut_off,
    "an index of other weights": with_wrong_index,
    "an adapter that is no plain LoRA": lambda path: save_adapter(save_small_bert(path), use_dora=True),
    "an adapter without its model": lambda path: (
        save_adapter(save_small_bert(path)) / "config.json"
    ).unlink(),
    "a module that is not implemented": with_module(TYPES + "WordWeights"),
    "a key that is not known": lambda path: save_sentences(path, settings={"of_tomorrow": 1}),
    "a pooling that is not known": lambda path: save_sentences(path, pooling={"pooling_mode": "median"}),
    "a default prompt without a text": lambda path: save_sentences(
        path, settings={"default_prompt_name": "query"}
    ),
    "a CrossEncoder": lambda path: save_sentences(path, settings={"model_type": "CrossEncoder"}),
    "no tokenizer": without_tokenizer,
    "a tokenizer.json without a vocabulary": hollow_tokenizer,
    "a tokenizer for another model": lambda path: save_small_bert(path, vocab_size=15),
    "relative positions of a BERT": lambda path: change_config(
        save_small_bert(path), position_embedding_type="relative_key"
    ),
    "a decoder whose states would be pooled": bart,
    "the root of a hub cache": lambda path: save_small_bert(path / "snapshots" / "0a1b"),
    "no model": lambda path: path.mkdir(),
}


def test_every_refusal_of_the_page_is_made_here() -> None:
    assert [row[0] for row in rows("| in the directory | the refusal says |")] == list(REFUSED)


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_in_the_words_of_the_page(tmp_path: Path, what: str) -> None:
    (said,) = [words for name, words in rows("| in the directory | the refusal says |") if name == what]
    REFUSED[what](tmp_path / "m")
    with pytest.raises((ModelLoadError, UnsupportedModel)) as caught:
        read_model(tmp_path / "m")
    assert quoted(said)[0] in str(caught.value)
