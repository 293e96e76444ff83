"""Every other encoder, through transformers: padded, where the families of this package are packed.

transformers, of the extra `hf`, is imported when such a model is loaded, never before. Packed tokens
are never given to it, as it would take the whole batch for one text. Code that a directory brings is not run.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.models.packed import Packed, Tokenizer
from gpu_tasks.models.texts import special_tokens, text_tokenizer
from gpu_tasks.models.weights import read_json

BEHIND_PADDING = (
    "data2vec-text", "ibert", "lilt", "longformer", "luke", "markuplm", "mluke", "roberta-prelayernorm",
    "xlm-roberta-xl", "xmod",
)  # fmt: skip
"""Model types whose positions begin behind the padding token's id, as RoBERTa's do."""
_POSITIONS = ("max_position_embeddings", "n_positions")
_LOCAL = {"local_files_only": True, "trust_remote_code": False}
# What padding may change of a token's hidden state, of its length: rounding, and no more.
_PADDING_CHANGES_MOST = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.2}
_CHECKED_LENGTHS = (29, 17)


@dataclass(frozen=True, slots=True, eq=False)
class PaddedEncoder:
    """A transformers model. `padding` is the id in the places that the attention mask takes out."""

    model: Any
    padding: int
    dim: int

    def __call__(self, packed: Packed) -> Tensor:
        """Hidden states [T, dim] of the last layer, packed again."""
        hidden = [self._hidden(packed, first, lengths) for first, lengths in groups(packed.runs)]
        return torch.cat(hidden)

    def _hidden(self, packed: Packed, first: int, lengths: Sequence[int]) -> Tensor:
        """Of the rows from `first` on, [sum(lengths), dim]. Only gathers: nothing waits for the device."""
        count, longest = len(lengths), max(lengths)
        bounds = packed.cu_seqlens[first : first + count + 1].long()
        places = torch.arange(longest, device=bounds.device)
        mask = places < (bounds[1:] - bounds[:-1])[:, None]
        sources = (bounds[:-1, None] + places).clamp(max=len(packed.input_ids) - 1)
        input_ids = torch.where(mask, packed.input_ids[sources], self.padding)
        hidden = self._run(input_ids, mask)
        rows = torch.repeat_interleave(bounds[1:] - bounds[:-1], output_size=sum(lengths))
        tokens = torch.arange(sum(lengths), device=bounds.device) + bounds[0]
        return hidden.flatten(0, 1).index_select(0, rows * longest + tokens - bounds[rows])

    def _run(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        hidden: Tensor = self.model(input_ids=input_ids, attention_mask=mask.long()).last_hidden_state
        if hidden.shape != (*input_ids.shape, self.dim):
            raise UnsupportedModel(
                f"{type(self.model).__name__} makes {[*hidden.shape]} of {[*input_ids.shape]} tokens, "
                f"not {self.dim} numbers of each"
            )
        return hidden


@dataclass(frozen=True, slots=True, eq=False)
class SlowTokenizer:
    """A tokenizer of transformers that has no fast one."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    tokenizer: Any
    lower_case: bool

    def tokenize(self, sequences: Sequence[str]) -> list[npt.NDArray[np.int32]]:
        texts = [text.lower() for text in sequences] if self.lower_case else list(sequences)
        encoded = self.tokenizer(texts, add_special_tokens=False, truncation=False, verbose=False)
        return [np.array(ids, dtype=np.int32) for ids in encoded["input_ids"]]


def groups(runs: Sequence[tuple[int, int]]) -> Iterator[tuple[int, list[int]]]:
    """Neighbouring rows to pad together: (first row, lengths). No row becomes more than twice as long."""
    first, lengths = 0, list[int]()
    for count, length in runs:
        if lengths and 2 * min(*lengths, length) < max(*lengths, length):
            yield first, lengths
            first, lengths = first + len(lengths), []
        lengths = lengths + [length] * count
    yield first, lengths


def num_positions(config: Mapping[str, Any]) -> int | None:
    """The longest segment that the model has positions for; None when its config names no such number."""
    found = next((int(config[key]) for key in _POSITIONS if config.get(key)), None)
    if found is None or config["model_type"] not in BEHIND_PADDING:
        return found
    return found - int(config["pad_token_id"]) - 1


def load_auto(
    directory: Path, config: Mapping[str, Any], device: torch.device, dtype: torch.dtype
) -> PaddedEncoder:
    """Raises ModelLoadError when transformers is missing or cannot load it, UnsupportedModel for what it
    would compute wrongly from padded rows."""
    _refuse_code(directory / "config.json", config)
    model = _load(directory, config["model_type"], dtype).to(device).eval()
    if "attention_mask" not in inspect.signature(model.forward).parameters:
        raise UnsupportedModel(
            f"{directory}: {type(model).__name__} takes no attention mask, and sees padding"
        )
    padding = model.config.pad_token_id
    encoder = PaddedEncoder(model, padding if isinstance(padding, int) else 0, model.config.hidden_size)
    _check_padding(encoder, directory, device, dtype)
    return encoder


def load_auto_texts(directory: Path, *, lower_case: bool) -> Tokenizer:
    """The tokenizer with all that tokenizer_config.json changes in it.

    Raises:
        ModelLoadError: transformers is missing, or cannot load it.
        UnsupportedModel: it is code of the directory's own, or makes token types, which are not passed on.
    """
    transformers, settings = _transformers(directory), directory / "tokenizer_config.json"
    _refuse_code(settings, read_json(settings) if settings.exists() else {})
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory, **_LOCAL)
    except Exception as error:  # of any class
        raise ModelLoadError(f"{directory}: transformers has no tokenizer for it: {_line(error)}") from None
    whole = tokenizer("A")
    if any(whole.get("token_type_ids", ())):
        raise UnsupportedModel(f"{directory}: its tokenizer makes token types, which are not implemented")
    if tokenizer.is_fast:
        return text_tokenizer(tokenizer.backend_tokenizer, lower_case=lower_case)
    payload = tokenizer("A", add_special_tokens=False)["input_ids"]
    return SlowTokenizer(*special_tokens(whole["input_ids"], payload), tokenizer, lower_case)


def _refuse_code(path: Path, fields: Mapping[str, Any]) -> None:
    """Without that code transformers takes the nearest class that it has, and says nothing."""
    if "auto_map" in fields:
        raise UnsupportedModel(
            f"{path}: names code of its own (auto_map), and Holdfast runs no code from a model directory"
        )


def _load(directory: Path, family: str, dtype: torch.dtype) -> Any:
    transformers = _transformers(directory)
    try:
        config = transformers.AutoConfig.from_pretrained(directory, **_LOCAL)
        # T5 and its like have a class for the encoder alone; of others the decoder is left away.
        alone = type(config) in transformers.MODEL_FOR_TEXT_ENCODING_MAPPING
        kind = transformers.AutoModelForTextEncoding if alone else transformers.AutoModel
        model, loading = kind.from_pretrained(
            directory, use_safetensors=True, dtype=dtype, output_loading_info=True, **_LOCAL
        )
    except Exception as error:  # of any class
        raise ModelLoadError(f"{directory}: transformers does not load {family!r}: {_line(error)}") from None
    encoder = model.get_encoder() if config.is_encoder_decoder else model
    _refuse_missing(directory, loading["missing_keys"])
    encoder.config.use_cache, encoder.config.return_dict = False, True
    return encoder


def _refuse_missing(directory: Path, names: Sequence[str]) -> None:
    """transformers makes up what is missing, with a warning."""
    unused = ("pooler.", "decoder.")
    missing = sorted(name for name in names if not name.startswith(unused) and ".pooler." not in name)
    if missing:
        raise ModelLoadError(f"{directory}: its weights lack {missing[0]}")


def _check_padding(encoder: PaddedEncoder, directory: Path, device: torch.device, dtype: torch.dtype) -> None:
    """Not every model hides its padding from every layer: convolutions see it, for one."""
    vocabulary = encoder.model.config.vocab_size
    input_ids = (torch.arange(sum(_CHECKED_LENGTHS), device=device) * 7919 + 11) % vocabulary
    bounds = torch.tensor((0, _CHECKED_LENGTHS[0], sum(_CHECKED_LENGTHS)), device=device, dtype=torch.int32)
    padding = encoder.padding
    input_ids = torch.where(input_ids == padding, (padding + 1) % vocabulary, input_ids)
    runs = tuple((1, length) for length in _CHECKED_LENGTHS)
    both = Packed(input_ids, input_ids, bounds, bounds, runs, max(_CHECKED_LENGTHS))
    with torch.inference_mode():
        together = encoder(both)[bounds[1] :].double()
        short = input_ids[None, bounds[1] :]
        alone = encoder._run(short, torch.ones_like(short, dtype=torch.bool))[0].double()
    change = float(((together - alone).norm(dim=1) / alone.norm(dim=1)).max())
    if not change <= _PADDING_CHANGES_MOST[dtype]:
        raise UnsupportedModel(
            f"{directory}: padding changes what {type(encoder.model).__name__} makes of a text "
            f"(by {change:.2g} of it)"
        )


def _transformers(directory: Path) -> Any:
    try:
        transformers = import_module("transformers")
    except ImportError:
        raise ModelLoadError(
            f"{directory}: a model that is run by transformers: pip install 'holdfast[hf]'"
        ) from None
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
