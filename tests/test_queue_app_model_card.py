"""What is known of a model without loading it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from queue_app.model_card import describe_model
from safetensors.numpy import save_file

from queue_app.errors import ModelError, UsageError
from queue_app.model_files import bases_of
from queue_app.request import EmbedRequest, resolve_options

ESM2 = {"model_type": "esm", "hidden_size": 320, "max_position_embeddings": 1026}
BERT = {"model_type": "bert", "hidden_size": 384, "max_position_embeddings": 512}


def model(path: Path, config: object, **files: object) -> Path:
    """A model directory; `files` by name, with __ for a dot."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config))
    save_file({"a": np.zeros((3, 5), np.float32), "b": np.zeros(7, np.float32)}, path / "model.safetensors")
    for name, content in files.items():
        file = path / name.replace("__", ".").replace("0", "/")
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))
    return path


def test_an_esm2_directory_says_what_the_queue_must_know(tmp_path: Path) -> None:
    card = describe_model(str(model(tmp_path / "esm2", ESM2)))
    assert (card.name, card.family, card.dim, card.max_length) == ("esm2", "esm2", 320, 1022)
    assert (card.alphabet, card.pool, card.num_parameters) == ("protein", "mean", 22)


@pytest.mark.parametrize(
    ("tokens", "alphabet"), [(("A", "TTA", "GC"), "dna"), (("A", "UUA", "GC"), "rna"), (("A", "E"), None)]
)
def test_a_tokenizer_of_bases_says_whose_they_are(tokens: tuple[str, ...], alphabet: str | None) -> None:
    vocabulary = {"[UNK]": 0, **{token: number for number, token in enumerate(tokens, start=1)}}
    special = [{"content": "[UNK]", "special": True}]
    assert bases_of({"model": {"vocab": vocabulary}, "added_tokens": special}) == alphabet


def test_a_sentence_transformer_keeps_its_own_limit_and_pooling(tmp_path: Path) -> None:
    path = model(tmp_path / "minilm", BERT, sentence_bert_config__json={"max_seq_length": 256})
    (path / "modules.json").write_text("[]")
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    card = describe_model(str(path))
    assert (card.family, card.max_length, card.alphabet, card.pool) == ("bert", 254, "text", "cls")


def test_a_pooling_that_is_unknown_is_refused_and_not_guessed(tmp_path: Path) -> None:
    path = model(tmp_path / "minilm", BERT)
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text('{"pooling_mode_weightedmean_tokens": true}')
    with pytest.raises(ModelError, match="choose one with --pool"):
        describe_model(str(path))


@pytest.mark.parametrize(
    ("config", "dim", "longest"),
    [
        ({"model_type": "electra", "hidden_size": 32, "max_position_embeddings": 512}, 32, 510),
        ({"model_type": "distilbert", "dim": 48, "max_position_embeddings": 256}, 48, 254),
        ({"model_type": "gpt2", "n_embd": 64, "n_positions": 1024}, 64, 1022),
        ({"model_type": "t5", "d_model": 80}, 80, 510),
        ({"model_type": "longformer", "hidden_size": 8, "max_position_embeddings": 4098}, 8, 4094),
    ],
    ids=str,
)
def test_a_model_for_transformers_is_described_by_its_config(
    tmp_path: Path, config: dict[str, object], dim: int, longest: int
) -> None:
    card = describe_model(str(model(tmp_path / "m", {"vocab_size": 9, "pad_token_id": 1, **config})))
    assert (card.family, card.dim, card.max_length, card.alphabet) == ("auto", dim, longest, "text")


@pytest.mark.parametrize(("stated", "longest"), [(384, 382), (10**30, 510), (None, 510), (2000, 1998)])
def test_a_tokenizer_limits_a_model_for_transformers_when_it_is_sane(
    tmp_path: Path, stated: int | None, longest: int
) -> None:
    config = {"model_type": "t5", "vocab_size": 9, "d_model": 32}
    path = model(tmp_path / "m", config, tokenizer_config__json={"model_max_length": stated})
    assert describe_model(str(path)).max_length == longest


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({**ESM2, "position_embedding_type": "rotary"}, None),
        ({**ESM2, "position_embedding_type": "absolute"}, 1024),
        (ESM2, 1024),  # transformers takes a missing key for absolute
        (BERT, 512),
        ({**BERT, "model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({**BERT, "model_type": "mpnet", "max_position_embeddings": 514}, 512),
        ({**BERT, "alibi_starting_size": 512}, None),
        ({"model_type": "t5", "vocab_size": 9, "d_model": 80, "n_positions": 512}, None),
        ({"model_type": "gpt2", "vocab_size": 9, "n_embd": 64, "n_positions": 1024}, 1024),
        ({"model_type": "xlnet", "vocab_size": 9, "d_model": 80}, None),
    ],
    ids=str,
)
def test_positions_end_where_the_models_kind_says(
    tmp_path: Path, config: dict[str, object], positions: int | None
) -> None:
    card = describe_model(str(model(tmp_path / "m", config)))
    assert (card.max_positions, card.num_special) == (positions, 2)


@pytest.mark.parametrize(("asked", "length"), [(None, 254), (100, 100), (300, 300), (510, 510), (511, None)])
def test_max_length_may_exceed_what_the_directory_says_but_not_the_positions(
    tmp_path: Path, asked: int | None, length: int | None
) -> None:
    path = model(tmp_path / "minilm", BERT, sentence_bert_config__json={"max_seq_length": 256})
    (path / "modules.json").write_text("[]")
    request = EmbedRequest(inputs=[], model=str(path), output=tmp_path / "a.npy", max_length=asked)
    card = describe_model(str(path))
    if length is None:
        with pytest.raises(UsageError, match=r"--max-length 511: minilm has 512 positions.* ask for 510"):
            resolve_options(request, card, "cpu", "text")
    else:
        assert resolve_options(request, card, "cpu", "text").max_length == length


def test_positions_without_an_end_take_any_max_length(tmp_path: Path) -> None:
    path = model(tmp_path / "esm2", {**ESM2, "position_embedding_type": "rotary", "num_hidden_layers": 6})
    request = EmbedRequest(inputs=[], model=str(path), output=tmp_path / "a.npy", max_length=4000)
    assert resolve_options(request, describe_model(str(path)), "cpu", "protein").max_length == 4000


CLS, SEP = ({"SpecialToken": {"id": token}} for token in ("[CLS]", "[SEP]"))
TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [CLS, {"Sequence": {"id": "A"}}, SEP],
    "special_tokens": {"[CLS]": {"ids": [1]}, "[SEP]": {"ids": [2]}},
}


@pytest.mark.parametrize(
    ("processor", "count"),
    [
        (None, 0),
        ({"type": "ByteLevel"}, 0),
        ({"type": "RobertaProcessing"}, 2),
        ({"type": "BertProcessing"}, 2),
        (TEMPLATE, 2),
        ({**TEMPLATE, "single": [{"Sequence": {"id": "A"}}, SEP]}, 1),
        ({"type": "Sequence", "processors": [{"type": "ByteLevel"}, TEMPLATE]}, 2),
    ],
    ids=str,
)
def test_a_text_leaves_room_for_the_special_tokens_of_its_tokenizer(
    tmp_path: Path, processor: object, count: int
) -> None:
    path = model(tmp_path / "m", BERT, tokenizer__json={"post_processor": processor})
    assert describe_model(str(path)).max_length == 512 - count


def test_modules_outside_of_the_model_directory_are_refused(tmp_path: Path) -> None:
    path = model(tmp_path / "m", BERT)
    for folder in ("../elsewhere", "/etc"):
        (path / "modules.json").write_text(json.dumps([{"type": "models.Transformer", "path": folder}]))
        with pytest.raises(ModelError, match="outside of the model directory"):
            describe_model(str(path))


def test_an_adapter_is_refused_as_its_base_model_is_elsewhere(tmp_path: Path) -> None:
    path = model(tmp_path / "m", {"model_type": "electra", "vocab_size": 9}, adapter_config__json={})
    with pytest.raises(ModelError, match="an adapter"):
        describe_model(str(path))


@pytest.mark.parametrize("name", ["spiece.model", "merges.txt", "vocab.json", "vocab.txt"])
def test_the_fingerprint_changes_with_the_files_of_older_tokenizers(tmp_path: Path, name: str) -> None:
    path = model(tmp_path / "m", BERT)
    before = describe_model(str(path)).digest
    (path / name).write_text("{}")
    assert describe_model(str(path)).digest != before


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_the_fingerprint_changes_with_every_file_that_counts(tmp_path: Path, name: str) -> None:
    path = model(tmp_path / "m", ESM2, tokenizer__json={"a": 1})
    before = describe_model(str(path)).digest
    content = bytearray((path / name).read_bytes())
    content[-1:] = b" " if name.endswith(".json") else b"\x01"
    (path / name).write_bytes(bytes(content) + (b"}" if name.endswith(".json") else b""))
    assert describe_model(str(path)).digest != before


def test_the_fingerprint_is_that_of_the_content_not_of_the_place(tmp_path: Path) -> None:
    here, there = model(tmp_path / "a" / "m", ESM2), model(tmp_path / "b" / "n", ESM2)
    (there / "README.md").write_text("counts for nothing")
    assert describe_model(str(here)).digest == describe_model(str(there)).digest


def test_mock_options_that_change_no_vector_change_no_fingerprint() -> None:
    assert describe_model("mock:16,delay_ms=5").digest == describe_model("mock:16").digest
    assert describe_model("mock:16").digest != describe_model("mock:17").digest


def test_pickled_weights_alone_are_refused_with_the_way_out(tmp_path: Path) -> None:
    path = model(tmp_path / "m", ESM2)
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only pickled weights \(pytorch_model.bin\).*safetensors"):
        describe_model(str(path))


def test_pickled_weights_beside_safetensors_do_not_matter(tmp_path: Path) -> None:
    path = model(tmp_path / "m", ESM2)
    (path / "pytorch_model.bin").touch()
    assert describe_model(str(path)).dim == 320


@pytest.mark.parametrize("keep_bytes", [0, 4, 60, -10])
def test_weights_that_are_cut_off_are_refused(tmp_path: Path, keep_bytes: int) -> None:
    path = model(tmp_path / "m", ESM2)
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep_bytes])
    with pytest.raises(ModelError, match=r"model\.safetensors: damaged"):
        describe_model(str(path))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "names no model_type"),
        ({"model_type": "vit", "hidden_size": 32}, "'vit' is no text model"),
        ({"model_type": "electra", "vocab_size": 9}, "lacks 'hidden_size'"),
        ({"model_type": "electra", "quantization_config": {}}, "quantized"),
        ({"model_type": "esm"}, "lacks 'hidden_size'"),
        ([], "not a JSON object"),
    ],
)
def test_a_config_that_does_not_do_is_refused(tmp_path: Path, config: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        describe_model(str(model(tmp_path / "m", config)))


def test_a_model_for_transformers_is_refused_before_any_work_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model(tmp_path / "m", {"model_type": "electra", "vocab_size": 9, "hidden_size": 8})
    assert describe_model(str(path)).family == "auto"
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match=r"'electra' is run by transformers: pip install 'holdfast\[hf\]'"):
        describe_model(str(path))


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("mock:", "write mock:DIM"),
        ("mock:0", "write mock:DIM"),
        ("mock:8,delay=3", "write mock:DIM"),
        ("no_such_model", "no such model"),
        ("./no/such/directory", "no such model"),
    ],
)
def test_a_name_that_is_no_model_is_refused(ref: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        describe_model(ref)


def test_a_directory_without_a_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        describe_model(str(tmp_path))


def test_a_model_is_named_by_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model(tmp_path / "esm2", ESM2))
    for ref in (".", "../esm2/", str(tmp_path / "esm2")):
        assert describe_model(ref).name == "esm2"


def test_a_module_that_is_not_implemented_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    path = model(tmp_path / "labse", BERT)
    kinds = ["Transformer", "Pooling", "Dense", "Normalize"]
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": ""} for kind in kinds]
    (path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="not implemented of its modules: Dense"):
        describe_model(str(path))
