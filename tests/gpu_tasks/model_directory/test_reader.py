"""The reader of model directories: what it finds, and every refusal with its file and key."""

import json
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertTokenizer, ElectraConfig, ElectraModel

from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.model_directory.reader import read_model
from queue_app.errors import ModelError, UsageError
from queue_app.ingest.open_dataset import resolve_options
from queue_app.ingest.request import EmbedRequest
from queue_app.ingest.settle import refuse_impossible
from queue_app.model.reader import find_model
from queue_app.model.spec import ModelSpec, parse_spec
from tests.support.model_directories import change_config, change_json, change_weights, save_esm2
from tests.support.small_models import DIM, save_adapter, save_small_bert, write_json

INDEX = "model.safetensors.index.json"
PARTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return save_small_bert(tmp_path / "bert")


@pytest.fixture
def esm2(tmp_path: Path) -> Path:
    return save_esm2(tmp_path / "esm2")


def read(directory: Path, **asked: str) -> ModelSpec:
    return read_model(directory, **asked).spec


def refused(directory: Path, *said: str) -> None:
    """The directory is refused, naming each of these."""
    with pytest.raises((ModelLoadError, UnsupportedModel)) as caught:
        read(directory)
    for each in (str(directory), *said):
        assert each in str(caught.value)


# ---- what is found


def test_an_esm2_is_proteins_letter_by_letter(esm2: Path) -> None:
    spec = read(esm2)
    assert (spec.name, spec.family, spec.dim, spec.max_length) == ("esm2", "esm2", 80, 1022)
    assert (spec.alphabet, spec.pool, spec.tokens.kind) == ("protein", "mean", "letters")
    assert spec.max_positions is None
    assert spec.num_parameters == sum(each.numel() for each in load_file(esm2 / "model.safetensors").values())


def test_a_bert_is_text_by_its_tokenizer(bert: Path) -> None:
    reading = read_model(bert)
    spec = reading.spec
    assert (spec.family, spec.dim, spec.max_length, spec.alphabet) == ("bert", DIM, 38, "text")
    assert (spec.tokens.kind, spec.max_positions, spec.num_special) == ("fast", 40, 2)
    assert json.loads(reading.tokenizer or "")["model"]["vocab"]["protein"] == 6


@pytest.mark.parametrize("changed", [{"hidden_act": "relu"}, {"is_decoder": True}, {"pad_token_id": None}])
def test_what_a_native_family_does_not_compute_is_left_to_transformers(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    assert read(save_small_bert(tmp_path / "m", **changed)).family == "auto"


def test_another_model_type_is_left_to_transformers(bert: Path) -> None:
    shape = {"hidden_size": DIM, "embedding_size": DIM, "num_hidden_layers": 1, "num_attention_heads": 2}
    ElectraModel(ElectraConfig(vocab_size=16, intermediate_size=16, **shape)).save_pretrained(bert)
    spec = read(bert)
    assert (spec.family, spec.encoder.model_type, spec.max_positions) == ("auto", "electra", 512)


def test_what_config_json_leaves_out_is_as_transformers_has_it(tmp_path: Path) -> None:
    before = read(save_small_bert(tmp_path / "m", type_vocab_size=2)).encoder
    assert read(change_config(tmp_path / "m", type_vocab_size=None, layer_norm_eps=None)).encoder == before


@pytest.mark.parametrize(("stated", "longest"), [(20, 18), (10**30, 510), (None, 510), (2000, 510)])
def test_a_tokenizer_limits_a_model_for_transformers_when_it_is_sane(
    tmp_path: Path, stated: int | None, longest: int
) -> None:
    path = save_small_bert(tmp_path / "m", hidden_act="relu", max_position_embeddings=512)
    change_json(path / "tokenizer_config.json", model_max_length=stated)
    assert read(path).max_length == longest


def test_a_model_whose_special_tokens_leave_no_room_is_refused(tmp_path: Path) -> None:
    refusal = "room for 2 tokens, all of them special"
    with pytest.raises(ModelLoadError, match=refusal):
        read(save_small_bert(tmp_path / "m", max_position_embeddings=2))


@pytest.mark.parametrize(("asked", "length"), [(None, 38), (10, 10), (38, 38), (39, None)])
def test_max_length_may_not_exceed_the_positions(bert: Path, asked: int | None, length: int | None) -> None:
    request = EmbedRequest(inputs=[], model=str(bert), output=Path("a.npy"), max_length=asked)
    if length is None:
        with pytest.raises(UsageError, match=r"--max-length 39: bert has 40 positions.* ask for 38"):
            refuse_impossible(request, read(bert))
    else:
        assert resolve_options(request, read(bert), "cpu", "text").max_length == length


def test_a_tokenizer_that_cuts_the_begin_is_not_asked_to_keep_it(bert: Path) -> None:
    change_json(bert / "tokenizer_config.json", truncation_side="left")
    spec = read_model(bert).spec
    refuse_impossible(EmbedRequest(inputs=[], model=str(bert), output=Path("out.npy")), spec)
    cut = EmbedRequest(inputs=[], model=str(bert), output=Path("out.npy"), long="truncate")
    with pytest.raises(UsageError, match=r"--long truncate keeps the begin.*truncation_side"):
        refuse_impossible(cut, spec)


def test_positions_without_an_end_take_any_max_length(esm2: Path) -> None:
    request = EmbedRequest(inputs=[], model=str(esm2), output=Path("a.npy"), max_length=4000)
    assert resolve_options(request, read(esm2), "cpu", "protein").max_length == 4000


def test_contacts_have_small_batches_and_no_windows(esm2: Path) -> None:
    asked: Any = {"inputs": [], "model": "m", "output": Path("out.h5"), "pool": "contacts"}
    options = resolve_options(EmbedRequest(**asked), read(esm2), "cuda", "protein")
    assert (options.toks_per_batch, options.long) == (8192, "error")
    told = EmbedRequest(**asked, toks_per_batch=999, long="truncate")
    options = resolve_options(told, read(esm2), "cuda", "protein")
    assert (options.toks_per_batch, options.long) == (999, "truncate")
    assert resolve_options(EmbedRequest(**asked), read(esm2), "cpu", "protein").toks_per_batch == 1024


def test_weights_that_are_stored_in_half_precision_are_known_as_such(bert: Path) -> None:
    change_weights(bert, lambda all_: all_.update({name: each.half() for name, each in all_.items()}))
    assert read(bert).stored_dtype == "float16"


# ---- what makes a model the same


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "vocab.txt"])
def test_the_fingerprint_changes_with_every_file_that_counts(bert: Path, name: str) -> None:
    before = read(bert).digest
    if name == "model.safetensors":
        change_weights(bert, lambda tensors: next(iter(tensors.values())).add_(1))
    else:
        (bert / name).write_bytes(((bert / name).read_bytes() if (bert / name).exists() else b"") + b"\n")
    assert read(bert).digest != before


def test_the_fingerprint_is_that_of_the_content_not_of_the_place(bert: Path, tmp_path: Path) -> None:
    before = read(bert)
    (bert / "README.md").write_text("counts for nothing")
    moved = read(bert.rename(tmp_path / "elsewhere"))
    assert (moved.digest, moved.identity()) == (before.digest, before.identity())
    assert moved.name == "elsewhere"


def test_mock_options_that_change_no_vector_change_no_fingerprint() -> None:
    assert find_model("mock:16,delay_ms=5").spec.digest == find_model("mock:16").spec.digest
    assert find_model("mock:16").spec.digest != find_model("mock:17").spec.digest


# ---- the weights


def in_parts(directory: Path) -> dict[str, str]:
    """Two files of weights and their index, which is answered."""
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    names = sorted(tensors)
    index = {name: PARTS[place % 2] for place, name in enumerate(names)}
    for part in PARTS:
        save_file({name: tensors[name] for name in names if index[name] == part}, directory / part)
    write_json(directory / INDEX, {"weight_map": index})
    return index


def test_weights_in_parts_are_those_of_the_index(bert: Path) -> None:
    whole = read(bert)
    in_parts(bert)
    spec = read(bert)
    assert spec.encoder.weights == PARTS
    assert spec.num_parameters == whole.num_parameters
    assert {INDEX, *PARTS} < {file.name for file in spec.files}


def test_one_file_of_weights_goes_before_an_index(bert: Path) -> None:
    """As in transformers: what an older save left beside it does not count."""
    whole = (bert / "model.safetensors").read_bytes()
    in_parts(bert)
    (bert / "model.safetensors").write_bytes(whole)
    spec = read(bert)
    assert spec.encoder.weights == ("model.safetensors",)
    assert INDEX not in {file.name for file in spec.files}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda index: {}, "weight_map does not say where the weights lie"),
        (lambda index: dict.fromkeys(index, 7), "weight_map does not say where the weights lie"),
        (lambda index: dict.fromkeys(index, "../m.safetensors"), "'../m.safetensors' is no file beside it"),
        (lambda index: dict.fromkeys(index, "gone.safetensors"), "'gone.safetensors' is no file beside it"),
        (lambda index: {name: PARTS[part == PARTS[0]] for name, part in index.items()}, "does not lie where"),
        (lambda index: dict(list(index.items())[1:]), "does not lie where it says"),
    ],
)
def test_an_index_that_is_not_that_of_the_weights_is_refused(
    bert: Path, change: Callable[[dict[str, str]], object], said: str
) -> None:
    write_json(bert / INDEX, {"weight_map": change(in_parts(bert))})
    refused(bert, INDEX, said)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.ckpt"])
def test_pickled_weights_alone_are_refused_with_the_way_out(bert: Path, name: str) -> None:
    (bert / "model.safetensors").rename(bert / name)
    refused(bert, f"only pickled weights ({name})", f"holdfast convert {bert}")


def test_pickled_weights_beside_safetensors_do_not_matter(bert: Path) -> None:
    before = read(bert).digest
    (bert / "pytorch_model.bin").touch()
    assert read(bert).digest == before


def test_weights_of_another_name_are_not_guessed_to_be_the_models(bert: Path) -> None:
    (bert / "model.safetensors").rename(bert / "other.safetensors")
    refused(bert, "no model.safetensors", "other.safetensors belongs to the model")
    (bert / "other.safetensors").unlink()
    refused(bert, "no model.safetensors in it")


@pytest.mark.parametrize("keep_bytes", [0, 4, 60, -10])
def test_weights_that_are_cut_off_are_refused(bert: Path, keep_bytes: int) -> None:
    weights = bert / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep_bytes])
    refused(bert, "model.safetensors: damaged")


@pytest.mark.parametrize("more", [struct.pack("<Q", 2**62), b"\xff" * 100])
def test_weights_that_are_no_safetensors_are_refused(bert: Path, more: bytes) -> None:
    (bert / "model.safetensors").write_bytes(more)
    refused(bert, "model.safetensors: damaged")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_weights_that_need_a_scale_are_refused(bert: Path, dtype: torch.dtype) -> None:
    name = "encoder.layer.0.output.dense.weight"
    change_weights(bert, lambda all_: all_.update({name: all_[name].to(dtype)}))
    refused(bert, f"model.safetensors: {name} is stored as")


def test_a_weight_that_is_missing_or_of_another_shape_is_refused(bert: Path) -> None:
    name = "encoder.layer.0.attention.self.query.weight"
    change_weights(bert, lambda tensors: tensors.update({name: torch.zeros(DIM, DIM + 1)}))
    refused(bert, f"{name} has the shape [8, 9]; by config.json it is [8, 8]")
    change_weights(bert, lambda tensors: tensors.pop(name))
    refused(bert, f"its weights lack {name}")


# ---- config.json


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model_type": None}, "names no model_type"),
        ({"model_type": "hyena"}, "model_type 'hyena' as transformers reads it"),
        ({"model_type": "vit", "vocab_size": None}, "'vit' is no text model"),
        ({"quantization_config": {}}, "quantization_config: quantized weights"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config: quantized weights"),
        ({"auto_map": {"AutoModel": "modeling_my.MyBert"}}, "auto_map names code of its own"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
        ({"hidden_size": "wide"}, "hidden_size='wide': not a whole number"),
    ],
    ids=str,
)
def test_a_config_that_does_not_do_is_refused(bert: Path, fields: Mapping[str, object], said: str) -> None:
    change_config(bert, **fields)
    refused(bert, "config.json", said)


@pytest.mark.parametrize(
    ("content", "said"), [("[]", "not a JSON object"), ("{", "not readable as JSON"), ("[" * 10**5, "JSON")]
)
def test_a_config_that_is_no_json_object_is_refused(bert: Path, content: str, said: str) -> None:
    (bert / "config.json").write_text(content)
    refused(bert, "config.json", said)


def test_a_directory_without_a_config_is_no_model(tmp_path: Path) -> None:
    refused(tmp_path, "no config.json: not a model directory")


def test_of_a_hub_caches_root_the_snapshot_is_named(tmp_path: Path) -> None:
    snapshot = save_small_bert(tmp_path / "models--org--m" / "snapshots" / "0a1b")
    refused(tmp_path / "models--org--m", "the root of a hub cache", str(snapshot))
    assert read(snapshot).family == "bert"


# ---- the tokenizer


def test_a_tokenizer_with_code_of_its_own_is_refused(bert: Path) -> None:
    change_json(bert / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_my.My", None]})
    refused(bert, "tokenizer_config.json", "auto_map names code of its own")


def test_a_model_without_a_tokenizer_is_refused(bert: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bert / name).unlink()
    refused(bert, "no tokenizer in it")


def test_a_tokenizer_of_special_tokens_alone_is_named_by_its_file(bert: Path) -> None:
    """BertTokenizerFast(vocab_file=...) of transformers 5 reads no file, and saves this."""
    BertTokenizer().save_pretrained(bert)
    refused(bert, "tokenizer.json: has special tokens alone")


def test_a_tokenizer_that_transformers_does_not_make_is_refused(bert: Path) -> None:
    (bert / "tokenizer.json").write_text("{}")
    refused(bert, "transformers makes no tokenizer of it")


def test_a_tokenizer_with_more_tokens_than_the_model_has_embeddings_is_refused(tmp_path: Path) -> None:
    path = save_small_bert(tmp_path / "m", vocab_size=15)
    refused(path, "gives '##t' the id 15, and config.json says vocab_size=15")


def test_what_the_tokenizers_own_settings_change_counts(bert: Path) -> None:
    """tokenizer.json alone says less than transformers reads."""
    before = read(bert)
    change_json(bert / "tokenizer_config.json", do_lower_case=False)
    after = read_model(bert)
    assert after.spec.tokens.digest != before.tokens.digest
    assert json.loads(after.tokenizer or "")["normalizer"]["lowercase"] is False


def test_vocab_txt_alone_makes_the_same_tokenizer(bert: Path) -> None:
    before = read(bert).tokens
    vocabulary = json.loads((bert / "tokenizer.json").read_bytes())["model"]["vocab"]
    (bert / "tokenizer.json").unlink()
    (bert / "vocab.txt").write_text("\n".join(vocabulary))
    assert read(bert).tokens == before


@pytest.mark.parametrize("name", ["plain", "prott5"])
def test_rules_may_be_overruled(esm2: Path, name: str) -> None:
    assert read(esm2).tokens.rules.name == "letters"
    assert read(esm2, rules=name).tokens.rules.name == name


def test_rules_that_there_are_not_are_refused(esm2: Path) -> None:
    with pytest.raises(ValueError, match=r"rules 'esm': none of auto, .*saprot.*letters"):
        read_model(esm2, rules="esm")


# ---- adapters


def test_a_plain_lora_is_to_be_merged_and_its_files_count(bert: Path) -> None:
    before = read(bert)
    spec = read(save_adapter(bert))
    assert spec.adapter is not None
    assert spec.adapter.scales == (("encoder.layer.0.attention.self.query.weight", 2.0),)
    assert spec.digest != before.digest
    assert {"adapter_config.json", "adapter_model.safetensors"} < {file.name for file in spec.files}


def test_an_adapter_scaled_by_the_root_of_its_rank_is_known_as_such(bert: Path) -> None:
    spec = read(save_adapter(bert, rank=4, use_rslora=True))
    assert spec.adapter is not None
    assert spec.adapter.scales[0][1] == 2.0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"peft_type": "IA3"}, "peft_type='IA3'"),
        ({"peft_type": None}, "peft_type"),
        ({"use_dora": True}, "use_dora=True"),
        ({"bias": "lora_only"}, "bias='lora_only'"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out=True"),
        ({"modules_to_save": ["pooler"]}, "modules_to_save=['pooler']"),
        ({"rank_pattern": {"query": 4}}, "rank_pattern={'query': 4}"),
        ({"alpha_pattern": {"query": 4}}, "alpha_pattern={'query': 4}"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
        ({"of_a_later_peft": 1}, "of_a_later_peft=1"),
        ({"r": 0}, "peft_type and r"),
        ({"lora_alpha": "big"}, "lora_alpha='big'"),
    ],
    ids=str,
)
def test_an_adapter_that_is_no_plain_lora_is_refused(bert: Path, fields: dict[str, Any], said: str) -> None:
    refused(save_adapter(bert, **fields), "adapter_config.json", said)


def test_an_adapter_without_its_model_is_refused_and_the_model_named(bert: Path) -> None:
    (save_adapter(bert) / "config.json").unlink()
    refused(bert, "adapter_config.json: an adapter alone", "(org/base)")


def test_an_adapter_without_weights_is_refused(bert: Path) -> None:
    (save_adapter(bert) / "adapter_model.safetensors").unlink()
    refused(bert, "adapter_config.json: no adapter_model.safetensors beside it")


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("encoder.layer.0.attention.self.key.lora_A.weight", (2, DIM), "self.key has one half only"),
        ("embeddings.word_embeddings.lora_embedding_A", (2, DIM), "no half of a plain LoRA"),
        ("encoder.layer.0.attention.self.query.lora_A.weight", (2, 9), "makes [8, 9] of it"),
        ("encoder.layer.0.attention.self.query.lora_A.weight", (3, DIM), "self.query makes [8, 8] of it"),
    ],
)
def test_adapter_weights_that_do_not_fit_are_refused(
    bert: Path, name: str, shape: tuple[int, ...], said: str
) -> None:
    path = save_adapter(bert) / "adapter_model.safetensors"
    save_file({**load_file(path), f"base_model.model.{name}": torch.ones(shape)}, path)
    refused(bert, "adapter_model.safetensors", said)


def test_an_adapter_of_another_model_is_refused(bert: Path) -> None:
    path = save_adapter(bert) / "adapter_model.safetensors"
    save_file({name.replace("layer.0", "layer.7"): each for name, each in load_file(path).items()}, path)
    refused(bert, "the model's weights have no encoder.layer.7.attention.self.query.weight")


# ---- through the child process


@pytest.mark.parametrize("family", ["bert", "auto"])
def test_the_child_process_reads_what_is_read_in_this_one(tmp_path: Path, family: str) -> None:
    """transformers is imported without torch there, where a native family allows it."""
    path = save_small_bert(tmp_path / "m", hidden_act="gelu" if family == "bert" else "relu")
    here, found = read_model(path), find_model(str(path))
    assert here.spec.family == family
    assert (found.spec, found.tokenizer) == (here.spec, here.tokenizer)


def test_a_refusal_comes_through_the_child_process_as_it_is(bert: Path) -> None:
    change_config(bert, quantization_config={})
    with pytest.raises(ModelError, match=rf"^{re.escape(str(bert))}/config\.json: quantization_config"):
        find_model(str(bert))


def test_a_specification_survives_json(bert: Path) -> None:
    from dataclasses import asdict

    spec = read(save_adapter(bert))
    assert parse_spec(json.loads(json.dumps(asdict(spec)))) == spec


# ---- names


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
        find_model(ref)


def test_a_file_is_no_model(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.zeros(1))
    with pytest.raises(ModelError, match="a file; -m takes the directory"):
        find_model(str(tmp_path / "m.npy"))


def test_a_directory_has_no_revisions(bert: Path) -> None:
    with pytest.raises(ModelError, match=r"--revision main: .* is a directory, which has no revisions"):
        find_model(str(bert), revision="main")


def test_a_model_is_named_by_its_directory(esm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(esm2)
    for ref in (".", "../esm2/", str(esm2)):
        assert find_model(ref).spec.name == "esm2"
