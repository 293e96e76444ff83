"""Every other encoder, through transformers: padded, where the families of this package are packed.

Packed tokens are never given to transformers, as it would take the whole batch for one text. A model that
makes something else of a padded text than of the text alone is refused.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.models.auto_texts import LOCAL, first_line, import_transformers, refuse_code
from gpu_tasks.models.packed import Packed

BEHIND_PADDING = (
    "data2vec-text", "ibert", "lilt", "longformer", "luke", "markuplm", "mluke", "roberta-prelayernorm",
    "xlm-roberta-xl", "xmod",
)  # fmt: skip
"""Model types whose positions begin behind the padding token's id, as RoBERTa's do."""
SEES_THE_BATCH = (
    "big_bird", "bigbird_pegasus", "funnel", "mra", "nllb-moe", "nystromformer", "reformer",
    "switch_transformers", "yoso",
)  # fmt: skip
"""Model types that cut, hash or route by the length or the content of the whole batch."""
RELATIVE = ("longt5", "mt5", "t5", "umt5")
"""Model types whose tokens know their distances alone, which have no end, whatever `n_positions` says."""
_POSITIONS = ("max_position_embeddings", "n_positions")
# What padding may change of a token's hidden state, of its length: rounding, and no more.
_PADDING_CHANGES_MOST = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.2}
_CHECKED_LENGTHS = (29, 17)


@dataclass(frozen=True, slots=True, eq=False)
class PaddedEncoder:
    """A transformers model. `padding` is the id in the places that the attention mask takes out."""

    model: Any
    padding: int
    dim: int
    num_layers: int

    def __call__(self, packed: Packed, layers: tuple[int, ...]) -> list[Tensor]:
        """See Encoder; all layers run, and their hidden states are packed again."""
        found = [self._hidden(packed, first, lengths, layers) for first, lengths in groups(packed.runs)]
        return [torch.cat(hidden) for hidden in zip(*found, strict=True)]

    def _hidden(
        self, packed: Packed, first: int, lengths: Sequence[int], layers: tuple[int, ...]
    ) -> list[Tensor]:
        """Of the rows from `first` on, [sum(lengths), dim]. Only gathers: nothing waits for the device."""
        count, longest = len(lengths), max(lengths)
        bounds = packed.cu_seqlens[first : first + count + 1].long()
        places = torch.arange(longest, device=bounds.device)
        mask = places < (bounds[1:] - bounds[:-1])[:, None]
        sources = (bounds[:-1, None] + places).clamp(max=len(packed.input_ids) - 1)
        input_ids = torch.where(mask, packed.input_ids[sources], self.padding)
        hidden = self.run(input_ids, mask, layers)
        rows = torch.repeat_interleave(bounds[1:] - bounds[:-1], output_size=sum(lengths))
        tokens = torch.arange(sum(lengths), device=bounds.device) + bounds[0]
        places = rows * longest + tokens - bounds[rows]
        return [each.flatten(0, 1).index_select(0, places) for each in hidden]

    def run(self, input_ids: Tensor, mask: Tensor, layers: tuple[int, ...]) -> list[Tensor]:
        """Hidden states [rows, longest, dim] of padded rows."""
        inner = layers != (self.num_layers,)
        output = self.model(input_ids=input_ids, attention_mask=mask.long(), output_hidden_states=inner)
        states = {self.num_layers: output.last_hidden_state}
        if inner:
            if len(output.hidden_states) != self.num_layers + 1:
                raise UnsupportedModel(
                    f"{type(self.model).__name__} tells {len(output.hidden_states)} hidden states of "
                    f"{self.num_layers} layers; only its last layer, --layer -1, is known"
                )
            states = dict(enumerate(output.hidden_states)) | states
        for hidden in (states[layer] for layer in layers):
            if hidden.shape != (*input_ids.shape, self.dim):
                raise UnsupportedModel(
                    f"{type(self.model).__name__} makes {[*hidden.shape]} of {[*input_ids.shape]} tokens, "
                    f"not {self.dim} numbers of each"
                )
        return [states[layer] for layer in layers]


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
    if config["model_type"] in RELATIVE:
        return None
    found = next((int(config[key]) for key in _POSITIONS if config.get(key)), None)
    if found is None or config["model_type"] not in BEHIND_PADDING:
        return found
    return found - int(config["pad_token_id"]) - 1


def load_auto(
    directory: Path, config: Mapping[str, Any], device: torch.device, dtype: torch.dtype
) -> PaddedEncoder:
    """Raises ModelLoadError when transformers is missing or cannot load it, UnsupportedModel for what it
    would compute wrongly from padded rows."""
    refuse_code(directory / "config.json", config)
    if config["model_type"] in SEES_THE_BATCH:
        raise UnsupportedModel(
            f"{directory}: what a {config['model_type']!r} makes of a text depends on the texts beside it"
        )
    model = _load(directory, config["model_type"], dtype).to(device).eval()
    if "attention_mask" not in inspect.signature(model.forward).parameters:
        raise UnsupportedModel(
            f"{directory}: {type(model).__name__} takes no attention mask, and sees padding"
        )
    _refuse_short_positions(directory, model, num_positions(config))
    padding = model.config.pad_token_id
    known = padding in range(model.config.vocab_size)
    num_layers = model.config.num_hidden_layers
    encoder = PaddedEncoder(model, padding if known else 0, model.config.hidden_size, num_layers)
    _check_padding(encoder, directory)
    return encoder


def _load(directory: Path, family: str, dtype: torch.dtype) -> Any:
    transformers = import_transformers(directory)
    try:
        config = transformers.AutoConfig.from_pretrained(directory, **LOCAL)
        # T5 and its like have a class for the encoder alone; of others the decoder is left away.
        alone = type(config) in transformers.MODEL_FOR_TEXT_ENCODING_MAPPING
        kind = transformers.AutoModelForTextEncoding if alone else transformers.AutoModel
        model, loading = kind.from_pretrained(
            directory, use_safetensors=True, dtype=dtype, output_loading_info=True, **LOCAL
        )
    except Exception as error:  # of any class
        raise ModelLoadError(
            f"{directory}: transformers does not load {family!r}: {first_line(error)}"
        ) from None
    encoder = model.get_encoder() if config.is_encoder_decoder else model
    _refuse_missing(directory, loading["missing_keys"], but="decoder" if encoder is not model else "")
    encoder.config.use_cache, encoder.config.return_dict = False, True
    return encoder


def _refuse_missing(directory: Path, names: Iterable[str], *, but: str) -> None:
    """transformers makes up what is missing, with a warning."""
    missing = sorted(name for name in names if but not in name.split(".") and "pooler" not in name.split("."))
    if missing:
        raise ModelLoadError(f"{directory}: its weights lack {missing[0]}")


def _refuse_short_positions(directory: Path, model: Any, positions: int | None) -> None:
    """A position table whose begin is kept for the padding is shorter than its config says."""
    for name, table in model.named_modules():
        if positions and name.endswith("position_embeddings") and isinstance(table, torch.nn.Embedding):
            usable = table.num_embeddings - (-1 if table.padding_idx is None else table.padding_idx) - 1
            if usable < positions:
                raise UnsupportedModel(f"{directory}: its {name} have {usable} positions, not {positions}")


def _check_padding(encoder: PaddedEncoder, directory: Path) -> None:
    """Not every model hides its padding from every layer: convolutions see it, for one."""
    try:
        change = _padding_changes(encoder)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise UnsupportedModel(
            f"{directory}: {type(encoder.model).__name__} does not run: {first_line(error)}"
        ) from None
    if not change <= _PADDING_CHANGES_MOST[encoder.model.dtype]:
        raise UnsupportedModel(
            f"{directory}: padding changes what {type(encoder.model).__name__} makes of a text "
            f"(by {change:.2g} of it)"
        )


def _padding_changes(encoder: PaddedEncoder) -> float:
    """By how much of its length a token's hidden state changes when its text is padded, at most."""
    device, vocabulary = encoder.model.device, encoder.model.config.vocab_size
    some = (torch.arange(sum(_CHECKED_LENGTHS), device=device) * 7919 + 11) % vocabulary
    input_ids = torch.where(some == encoder.padding, (encoder.padding + 1) % vocabulary, some)
    bounds = torch.tensor((0, _CHECKED_LENGTHS[0], sum(_CHECKED_LENGTHS)), device=device, dtype=torch.int32)
    both = tuple((1, length) for length in _CHECKED_LENGTHS)
    last = (encoder.num_layers,)
    with torch.inference_mode():
        (together,) = encoder(Packed(input_ids, some, bounds, bounds, both, max(_CHECKED_LENGTHS)), last)
        padded, short = together[_CHECKED_LENGTHS[0] :].double(), input_ids[None, _CHECKED_LENGTHS[0] :]
        alone = encoder.run(short, torch.ones_like(short, dtype=torch.bool), last)[0][0].double()
    if not bool(alone.isfinite().all()):
        return 0.0  # float16 is too narrow for it, which is found record by record
    return float(((padded - alone).norm(dim=1) / alone.norm(dim=1)).max())
