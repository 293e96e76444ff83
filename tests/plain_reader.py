"""Specifications of the tests' model directories, as far as these go. It refuses next to nothing."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
from transformers import AutoConfig, AutoTokenizer

from queue_app.model_spec import (
    DenseSpec,
    EncoderSpec,
    Family,
    HeadModule,
    LayerNormSpec,
    ModelFile,
    ModelSpec,
    NormalizeSpec,
    TokensSpec,
    TruncateSpec,
)

POOLS = {"lasttoken": "last", "mean_sqrt_len_tokens": "mean_sqrt_len", "weightedmean": "weighted_mean"}
ROBERTA = ("roberta", "xlm-roberta", "camembert")
BEHIND_PADDING = (*ROBERTA, "longformer", "data2vec-text", "ibert", "xmod")
ESM2 = ("<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>")


@dataclass(frozen=True, slots=True)
class ModelReading:
    spec: ModelSpec
    tokenizer: str | None


def read_model(path: Path, *, rules: str = "auto") -> ModelReading:
    modules = _json(path / "modules.json", [])
    folders = {module["type"].rpartition(".")[2]: module["path"] for module in modules}
    folder = folders.get("Transformer", "")
    inner = path / folder
    config = _json(inner / "config.json")
    family = _family(config)
    tokens, text = _tokens(
        inner, family, bool(_json(inner / "sentence_bert_config.json").get("do_lower_case"))
    )
    encoder = _encoder(inner, folder, config, family)
    special = len(tokens.prefix) + len(tokens.suffix)
    spec = ModelSpec(
        name=path.name,
        path=str(path),
        family=family,
        digest="",
        num_parameters=0,
        alphabet="protein" if family == "esm2" else "text",
        max_length=_limit(inner, config, family, encoder, bool(modules)) - special,
        pool=_pool(path / folders["Pooling"]) if modules else "mean",
        encoder=encoder,
        tokens=tokens,
        pool_special=bool(modules) or family == "mosaic",
        head=tuple(_head(path, modules)),
        files=tuple(_files(path)),
    )
    return ModelReading(spec, text)


def _json(path: Path, default: Any = None) -> Any:
    return json.loads(path.read_bytes()) if path.exists() else ({} if default is None else default)


def _family(config: dict[str, Any]) -> Family:
    kind = config.get("model_type")
    if kind == "bert" and "alibi_starting_size" in config:
        return "mosaic"
    if kind in ("bert", *ROBERTA):
        return "bert"
    return {"esm": "esm2", "mpnet": "mpnet"}.get(kind, "auto")  # type: ignore[return-value,arg-type]


def _weights(inner: Path) -> list[Path]:
    whole = inner / "model.safetensors"
    if whole.exists():
        return [whole]
    index = _json(inner / "model.safetensors.index.json").get("weight_map", {})
    return [inner / name for name in sorted(set(index.values()))] or sorted(inner.glob("*.safetensors"))


def _encoder(inner: Path, folder: str, config: dict[str, Any], family: Family) -> EncoderSpec:
    weights = tuple(str(Path(folder, path.name)) for path in _weights(inner))
    if family == "auto":
        known = AutoConfig.from_pretrained(inner)
        encoder = known.get_text_config(encoder=True) if known.is_encoder_decoder else known
        positions = next(
            (config[key] for key in ("max_position_embeddings", "n_positions") if config.get(key)), None
        )
        if config["model_type"] in ("t5", "mt5"):
            positions = None
        if positions and config["model_type"] in BEHIND_PADDING:
            positions -= config["pad_token_id"] + 1
        return EncoderSpec(
            folder, config["model_type"], weights, encoder.hidden_size,
            encoder.num_hidden_layers, encoder.vocab_size, positions,
        )  # fmt: skip
    learned = family != "mosaic" and config.get("position_embedding_type", "absolute") == "absolute"
    first = (
        config["pad_token_id"] + 1 if config["model_type"] in (*ROBERTA, "mpnet", "esm") and learned else 0
    )
    num_positions = config["max_position_embeddings"]
    return EncoderSpec(
        folder=folder,
        model_type=config["model_type"],
        weights=weights,
        hidden_size=config["hidden_size"],
        num_layers=config["num_hidden_layers"],
        vocab_size=config["vocab_size"],
        max_positions=num_positions - first if learned else None,
        num_heads=config["num_attention_heads"],
        intermediate_size=config["intermediate_size"],
        layer_norm_eps=config.get("layer_norm_eps", 1e-12),
        num_positions=num_positions,
        first_position=first,
        num_token_types=config.get("type_vocab_size", 2),
        token_dropout=family == "esm2" and config.get("token_dropout", True),
        learned_positions=family == "esm2" and learned,
        norm_before=bool(config.get("emb_layer_norm_before")),
    )


def _tokens(inner: Path, family: Family, lower_case: bool) -> tuple[TokensSpec, str | None]:
    if family == "esm2":
        path = inner / "vocab.txt"
        ids = {
            token: index for index, token in enumerate(path.read_text().split() if path.exists() else ESM2)
        }
        letters = {
            letter: index
            for token, index in ids.items()
            if len(token) == 1
            for letter in (token, token.lower())
        }
        return TokensSpec(
            "letters", (ids["<cls>"],), (ids["<eos>"],), ids["<unk>"],
            letters="".join(letters), ids=tuple(letters.values()),
        ), None  # fmt: skip
    if (inner / "tokenizer_config.json").exists():
        known = AutoTokenizer.from_pretrained(inner)
        whole, payload = known("A")["input_ids"], known("A", add_special_tokens=False)["input_ids"]
        unknown = known.unk_token_id
        text = known.backend_tokenizer.to_str() if known.is_fast else None
    else:
        import tokenizers

        plain = tokenizers.Tokenizer.from_file(str(inner / "tokenizer.json"))
        text, unknown = plain.to_str(), plain.token_to_id("[UNK]")
        whole, payload = plain.encode("A").ids, plain.encode("A", add_special_tokens=False).ids
    start = next(place for place in range(len(whole)) if whole[place : place + len(payload)] == payload)
    return TokensSpec(
        "fast" if text else "slow", tuple(whole[:start]), tuple(whole[start + len(payload) :]), unknown,
        lower_case=lower_case, digest=xxhash.xxh3_128_hexdigest(text.encode()) if text else "",
    ), text  # fmt: skip


def _limit(inner: Path, config: dict[str, Any], family: Family, encoder: EncoderSpec, sentence: bool) -> int:
    if family == "esm2":
        return int(config["max_position_embeddings"]) - 2
    if family == "mosaic":
        return int(config.get("alibi_starting_size", 512))
    stated = []
    if sentence or family == "auto":
        stated = [
            _json(inner / "sentence_bert_config.json").get("max_seq_length"),
            _json(inner / "tokenizer_config.json").get("model_max_length"),
        ]
    limit = next((length for length in stated if length and length < 1_000_000), None)
    return min((most for most in (encoder.max_positions, limit) if most), default=512)


def _pool(folder: Path) -> str:
    config = _json(folder / "config.json")
    modes = (
        config.get("pooling_mode")
        or [
            flag.removeprefix("pooling_mode_").removesuffix("_token").removesuffix("_tokens")
            for flag, chosen in config.items()
            if flag.startswith("pooling_mode_") and chosen
        ]
        or ["mean"]
    )
    modes = [modes] if isinstance(modes, str) else modes
    return "+".join(POOLS.get(mode, mode) for mode in modes)


def _head(path: Path, modules: list[dict[str, Any]]) -> list[HeadModule]:
    head: list[HeadModule] = []
    for module in modules:
        kind, folder = module["type"].rpartition(".")[2], module["path"]
        config, file = _json(path / folder / "config.json"), f"{folder}/model.safetensors"
        if kind == "Dense":
            activation = config["activation_function"].rpartition(".")[2]
            head.append(DenseSpec(
                "dense", config["in_features"], config["out_features"], config["bias"], activation,
                config.get("use_residual", False), file,
            ))  # fmt: skip
        elif kind == "LayerNorm":
            head.append(LayerNormSpec("layer_norm", config["dimension"], file))
        elif kind == "Normalize":
            head.append(NormalizeSpec("normalize"))
    cut = _json(path / "config_sentence_transformers.json").get("truncate_dim")
    return [*head, TruncateSpec("truncate", cut)] if cut else head


def _files(path: Path) -> list[ModelFile]:
    return [
        ModelFile(
            str(file.relative_to(path)), file.stat().st_size, xxhash.xxh3_128_hexdigest(file.read_bytes())
        )
        for file in sorted(path.rglob("*"))
        if file.is_file()
    ]
