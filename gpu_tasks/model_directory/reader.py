"""Read a model directory: all of it that can change a vector becomes one specification, or it is refused."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpu_tasks.errors import ModelLoadError, UnsupportedModel, first_line
from gpu_tasks.model_directory import adapter, tokens
from gpu_tasks.model_directory.encoder import CONFIG, default_length, read_encoder, refuse_unreadable
from gpu_tasks.model_directory.files import (
    INDEX,
    WHOLE,
    count_parameters,
    read_heads,
    require_plain,
    stored_dtype,
    weight_files,
)
from gpu_tasks.model_directory.sentence_modules import SentenceModules, read_modules
from gpu_tasks.model_directory.tokens import read_tokens
from gpu_tasks.models.from_transformers import LOCAL
from queue_app.model.files import digest_files, directory_digest
from queue_app.model.spec import EncoderSpec, FoundModel, ModelFile, ModelSpec, TokensSpec

ENDLESS_LENGTH = 4096
"""Tokens of a segment of a model whose positions have no end and that names no limit: memory has one."""
ENCODERS_ALONE = ("t5", "mt5", "umt5", "longt5", "switch_transformers")
"""Encoder-decoders whose encoder sentence-transformers takes; of all others it pools the decoder's states."""


def read_model(directory: Path, *, name: str = "", rules: str = "auto", revision: str = "") -> FoundModel:
    """Read a directory as transformers or sentence-transformers would.

    Args:
        directory: with config.json or modules.json.
        name: how the model is called; by default as its directory.
        rules: how sequences are written for it: a name of the table in token_rules, or auto.
        revision: the commit of a hub model.

    Raises:
        ModelLoadError: a file is missing or damaged; names it.
        UnsupportedModel: a value or a key is not understood; names file and key.
        ValueError: there are no such rules.
    """
    directory = directory.absolute()
    modules, listed = _modules(directory)
    folder = modules.transformer
    fields = refuse_unreadable(folder)
    weights = weight_files(folder)
    tensors = read_heads(weights)
    lora = adapter.read_adapter(directory, folder, tensors)
    config = _transformers_config(folder, fields["model_type"])
    inner, names = _relative(folder, directory), tuple(_relative(file, directory) for file in weights)
    family, encoder = read_encoder(folder, inner, fields, config, tensors, names)
    if listed:
        _refuse_decoder(folder, config)
    found = read_tokens(
        folder, config.model_type, encoder.vocab_size, rules=rules, lower_case=modules.lower_case
    )
    takes_tokenizers = (listed or family == "auto") and bool(encoder.max_positions)
    stated = found.limit if modules.max_seq_length is None and takes_tokenizers else modules.max_seq_length
    length = default_length(family, encoder, config, stated)
    if encoder.token_dropout and family == "esm2" and _may_be_masked(config, found.spec):
        family = "auto"  # a <mask> in a sequence changes what all its tokens are scaled by
    files = _digests(directory, _files(folder, weights) | {*modules.files})
    spec = ModelSpec(
        name=name or directory.name,
        path=str(directory),
        family=family,
        digest=directory_digest(files),
        num_parameters=count_parameters(tensors),
        alphabet=found.row.alphabet,
        max_length=_room(encoder, found.spec, length or ENDLESS_LENGTH),
        pool=modules.pool,
        encoder=_typed(folder, encoder, found.token_type),
        tokens=found.spec,
        # The published way of DNABERT-2 pools the special tokens with the rest:
        # https://github.com/MAGICS-LAB/DNABERT_S/blob/main/evaluate/utils.py
        pool_special=listed or family == "mosaic",
        head=modules.head,
        prompt=modules.prompt,
        prompt_pooled=modules.include_prompt,
        prompts=modules.prompts,
        adapter=lora,
        files=files,
        stored_dtype=stored_dtype(tensors),
        revision=revision,
        packs=family == "auto",
    )
    return FoundModel(spec, found.tokenizer)


def _modules(directory: Path) -> tuple[SentenceModules, bool]:
    """The modules, and whether the directory lists any."""
    require_plain(directory, directory)
    listed = read_modules(directory)
    modules = listed or SentenceModules(directory)
    require_plain(modules.transformer, directory)
    adapter.require_base(modules.transformer)
    return modules, listed is not None


def _relative(path: Path, directory: Path) -> str:
    """Empty for the directory itself."""
    return "" if path == directory else path.relative_to(directory).as_posix()


def _refuse_decoder(folder: Path, config: Any) -> None:
    """Raises UnsupportedModel for a model with modules.json whose decoder would be run."""
    if config.is_encoder_decoder and config.model_type not in ENCODERS_ALONE:
        raise UnsupportedModel(
            f"{folder / CONFIG}: model_type {config.model_type!r} has a decoder, whose states "
            "sentence-transformers would pool; without modules.json its encoder is run"
        )


def _may_be_masked(config: Any, tokens: TokensSpec) -> bool:
    """Whether a sequence can hold the token that config.json calls the mask."""
    ids = {*tokens.ids, *tokens.prefix, *tokens.suffix, tokens.unknown}
    return tokens.kind != "letters" or config.mask_token_id in ids


def _transformers_config(folder: Path, model_type: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(str(folder), **LOCAL)
    except Exception as error:  # of any class
        raise UnsupportedModel(
            f"{folder / CONFIG}: model_type {model_type!r} as transformers reads it: {first_line(error)}"
        ) from None


def _digests(directory: Path, files: Iterable[Path]) -> tuple[ModelFile, ...]:
    try:
        return digest_files(directory, [file.relative_to(directory).as_posix() for file in files])
    except OSError as error:
        raise ModelLoadError(f"{error.filename}: {error.strerror}") from None


def _files(folder: Path, weights: tuple[Path, ...]) -> set[Path]:
    """All that was read of the transformer, and all that transformers may read of it."""
    named = {folder / CONFIG, folder / adapter.CONFIG, folder / adapter.WEIGHTS, *weights}
    if weights[0].name != WHOLE:
        named.add(folder / INDEX)
    named.update(file for pattern in tokens.FILES for file in folder.glob(pattern))
    return {file for file in named if file.is_file()}


def _typed(folder: Path, spec: EncoderSpec, token_type: int) -> EncoderSpec:
    if token_type and token_type >= spec.num_token_types:
        raise UnsupportedModel(
            f"{folder}: its tokenizer gives tokens the type {token_type}, and config.json says "
            f"type_vocab_size={spec.num_token_types}"
        )
    return replace(spec, token_type=token_type)


def _room(encoder: EncoderSpec, tokens: TokensSpec, longest: int) -> int:
    """Tokens of a segment beside the special ones, where nobody asks for another number."""
    length = longest - len(tokens.prefix) - len(tokens.suffix)
    if length < 1:
        raise ModelLoadError(f"{encoder.folder or CONFIG}: room for {longest} tokens, all of them special")
    return length
