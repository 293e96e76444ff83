"""Every other encoder, through transformers: padded, where the families of this package are packed.

Packed tokens are never given to transformers, as it would take the whole batch for one text. Where padding
changes what a model makes of a text, only rows of equal length are computed together; where the rows beside
it do, each is computed alone.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from typing import Any, Literal

import torch
from torch import Tensor

from gpu_tasks.errors import ModelLoadError, UnsupportedModel, first_line
from gpu_tasks.inference.device_errors import fault_of
from gpu_tasks.models.files import ModelFiles
from gpu_tasks.models.from_transformers import LOCAL, import_transformers, open_config
from gpu_tasks.models.layers import Packed
from gpu_tasks.models.weights import Tensors
from queue_app.model.spec import ModelSpec

Batching = Literal["padded", "equal", "alone"]
"""With whom a text is computed: with others that are padded, with others of its length, or with none."""

SEES_THE_BATCH = ("funnel", "mra", "nllb-moe", "nystromformer", "switch_transformers")
"""Model types that cut, hash or route by the length or the content of the whole batch: each text alone."""
UNSTEADY = ("big_bird", "bigbird_pegasus", "reformer", "yoso")
"""Model types that hash by chance, or change for good with a short text: nothing to compare a vector with."""
# What the rows beside it may change of a token's hidden state, of its length: rounding, and no more.
_CHANGES_MOST = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.2}
_CHECKED_LENGTHS = (29, 17)
_RUN_ERRORS = (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError)
MADE_UP_TIMES_MOST, MADE_UP_PARAMETERS_MOST = 2, 64_000_000
"""Some parts may lack weights, as a decoder or a pooler that is never run."""
RUN_PARAMETERS_MOST = 200_000_000
"""A larger model is not run where it is only read."""


@dataclass(frozen=True, slots=True, eq=False)
class HuggingFaceEncoder:
    """A transformers model. `padding` is the id in the places that the attention mask takes out.

    `token_type` is passed on as that of all tokens, where it is not None.
    """

    model: Any
    padding: int
    dim: int
    num_layers: int
    batching: Batching
    token_type: int | None = None
    takes_mask: bool = True

    def __call__(self, packed: Packed, layers: tuple[int, ...]) -> list[Tensor]:
        """See Encoder; all layers run, and their hidden states are packed again."""
        parts = groups(packed.runs, self.batching)
        found = [self._hidden(packed, first, lengths, layers) for first, lengths in parts]
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
        arguments = {"attention_mask": mask.long()} if self.takes_mask else {}
        if self.token_type is not None:
            arguments["token_type_ids"] = torch.full_like(input_ids, self.token_type)
        output = self.model(input_ids=input_ids, output_hidden_states=inner, **arguments)
        states = {self.num_layers: output.last_hidden_state}
        if inner:
            if len(output.hidden_states) != self.num_layers + 1:
                raise UnsupportedModel(
                    f"{type(self.model).__name__} tells {len(output.hidden_states)} hidden states of "
                    f"{self.num_layers} layers; only its last layer, --layers -1, is known"
                )
            states = dict(enumerate(output.hidden_states)) | states
        for hidden in (states[layer] for layer in layers):
            if hidden.shape != (*input_ids.shape, self.dim):
                raise UnsupportedModel(
                    f"{type(self.model).__name__} makes {[*hidden.shape]} of {[*input_ids.shape]} tokens, "
                    f"not {self.dim} numbers of each"
                )
        return [states[layer] for layer in layers]


def groups(runs: Sequence[tuple[int, int]], batching: Batching = "padded") -> Iterator[tuple[int, list[int]]]:
    """Neighbouring rows to compute together: (first row, lengths).

    Padded, no row becomes more than twice as long; else they are of equal length, or alone.
    """
    if batching == "alone":
        runs = [(1, length) for count, length in runs for _ in range(count)]
    if batching != "padded":
        firsts = accumulate((count for count, _ in runs), initial=0)
        yield from ((first, [length] * count) for first, (count, length) in zip(firsts, runs, strict=False))
        return
    first, lengths = 0, list[int]()
    for count, length in runs:
        if lengths and 2 * min(*lengths, length) < max(*lengths, length):
            yield first, lengths
            first, lengths = first + len(lengths), []
        lengths = lengths + [length] * count
    yield first, lengths


def load_auto(
    spec: ModelSpec, files: ModelFiles, tensors: Tensors, device: torch.device, dtype: torch.dtype
) -> HuggingFaceEncoder:
    """Raises ModelLoadError when transformers cannot load it, UnsupportedModel for what it would compute
    wrongly."""
    model = _load(spec, files, tensors, dtype).to(device).eval()
    encoder = _encoder(spec, model)
    return replace(encoder, batching=_choose_batching(spec, encoder))


def require_loadable(spec: ModelSpec, files: ModelFiles, stored: Mapping[str, tuple[int, ...]]) -> None:
    """Load a model without its weights: of zeros, by their names and shapes.

    Raises:
        ModelLoadError: transformers does not load it, or weights are missing.
        UnsupportedModel: it makes no hidden states, or takes what cannot be given.
    """
    if spec.encoder.model_type in UNSTEADY:
        raise UnsupportedModel(
            f"{spec.path}: what a {spec.encoder.model_type!r} makes of a text depends on chance, or on the "
            "texts before it"
        )
    is_run = spec.num_parameters <= RUN_PARAMETERS_MOST
    # Expanded ones take no memory, and some models write into theirs.
    zeros = torch.zeros if is_run else torch.zeros(1).expand
    tensors = {name: zeros(shape) for name, shape in stored.items()}
    encoder = _encoder(spec, _load(spec, files, tensors, torch.float32).eval())
    if not is_run:
        return
    length = min(_CHECKED_LENGTHS[0], spec.max_positions or _CHECKED_LENGTHS[0])
    ids = torch.arange(1, length + 1).unsqueeze(0) % spec.encoder.vocab_size
    try:
        with torch.inference_mode():
            encoder.run(ids, torch.ones_like(ids, dtype=torch.bool), (spec.num_layers,))
    except _RUN_ERRORS as error:
        raise UnsupportedModel(
            f"{spec.path}: {type(encoder.model).__name__} does not run on text: {first_line(error)}"
        ) from None


def _encoder(spec: ModelSpec, model: Any) -> HuggingFaceEncoder:
    """The model as it computes each row alone."""
    parameters = inspect.signature(model.forward).parameters
    if spec.encoder.token_type and "token_type_ids" not in parameters:
        raise UnsupportedModel(f"{spec.path}: {type(model).__name__} takes no token types")
    _refuse_short_positions(spec, model)
    padding = model.config.pad_token_id
    return HuggingFaceEncoder(
        model,
        padding if padding in range(spec.encoder.vocab_size) else 0,
        spec.encoder.hidden_size,
        spec.num_layers,
        batching="alone",
        token_type=spec.encoder.token_type or None,
        takes_mask="attention_mask" in parameters,
    )


def _load(spec: ModelSpec, files: ModelFiles, tensors: Tensors, dtype: torch.dtype) -> Any:
    transformers, config = import_transformers(), open_config(spec, files)
    # T5 and its like have a class for the encoder alone; of others the decoder is left away.
    alone = type(config) in transformers.MODEL_FOR_TEXT_ENCODING_MAPPING
    kind = transformers.AutoModelForTextEncoding if alone else transformers.AutoModel
    try:
        # A model without memory, to learn its class: an Auto class reads no weights but from a path.
        with torch.device("meta"):
            shell = kind.from_config(config, trust_remote_code=False)
        _refuse_larger(spec, shell, tensors)
        own = config if isinstance(shell.config, type(config)) else shell.config
        model, loading = type(shell).from_pretrained(
            None, config=own, state_dict=tensors, dtype=dtype, output_loading_info=True, **LOCAL
        )
    except ModelLoadError:
        raise
    except Exception as error:  # of any class
        raise ModelLoadError(
            f"{spec.path}: transformers does not load {spec.encoder.model_type!r}: {first_line(error)}"
        ) from None
    encoder = model.get_encoder() if config.is_encoder_decoder else model
    _refuse_missing(spec, loading["missing_keys"], but="decoder" if encoder is not model else "")
    encoder.config.use_cache, encoder.config.return_dict = False, True
    return encoder


def _refuse_larger(spec: ModelSpec, shell: Any, tensors: Tensors) -> None:
    """transformers makes memory for all that config.json says, and compares it with the weights then."""
    said = sum(parameter.numel() for parameter in shell.parameters())
    stored = sum(tensor.numel() for tensor in tensors.values())
    if said > MADE_UP_TIMES_MOST * stored + MADE_UP_PARAMETERS_MOST:
        raise ModelLoadError(
            f"{spec.path}: by its config.json it has {said:,} parameters, and its weights are {stored:,}"
        )


def _refuse_missing(spec: ModelSpec, names: Iterable[str], *, but: str) -> None:
    """transformers makes up what is missing, with a warning."""
    missing = sorted(name for name in names if but not in name.split(".") and "pooler" not in name.split("."))
    if missing:
        raise ModelLoadError(f"{spec.path}: its weights lack {missing[0]}")


def _refuse_short_positions(spec: ModelSpec, model: Any) -> None:
    """A position table whose begin is kept for the padding is shorter than its config says."""
    positions = spec.max_positions
    for name, table in model.named_modules():
        if positions and name.endswith("position_embeddings") and isinstance(table, torch.nn.Embedding):
            usable = table.num_embeddings - (-1 if table.padding_idx is None else table.padding_idx) - 1
            if usable < positions:
                raise UnsupportedModel(f"{spec.path}: its {name} have {usable} positions, not {positions}")


# ---- with whom a row may be computed


def _choose_batching(spec: ModelSpec, encoder: HuggingFaceEncoder) -> Batching:
    """Not every model hides its padding from every layer: convolutions see it, for one."""
    try:
        alone, again = (_last_row(encoder, "alone", _CHECKED_LENGTHS[-1:]) for _ in range(2))
        allowed = _CHANGES_MOST[encoder.model.dtype]
        if _change(alone, again) > allowed:
            raise UnsupportedModel(
                f"{spec.path}: {type(encoder.model).__name__} draws random numbers for a text"
            )
        if spec.encoder.model_type in SEES_THE_BATCH:
            return "alone"
        padded = _CHECKED_LENGTHS
        if encoder.takes_mask and _change(_last_row(encoder, "padded", padded), alone) <= allowed:
            return "padded"
        equal = _CHECKED_LENGTHS[-1:] * 2
        return "equal" if _change(_last_row(encoder, "equal", equal), alone) <= allowed else "alone"
    except _RUN_ERRORS as error:
        if fault_of(error) is not None:
            raise
        raise UnsupportedModel(
            f"{spec.path}: {type(encoder.model).__name__} does not run: {first_line(error)}"
        ) from None


def _last_row(encoder: HuggingFaceEncoder, batching: Batching, lengths: tuple[int, ...]) -> Tensor:
    """Hidden states of the last of rows of these lengths, which is the same in each batching."""
    device, vocabulary, total = encoder.model.device, encoder.model.config.vocab_size, sum(lengths)
    some = (torch.arange(total, 0, -1, device=device) * 7919 + 11) % vocabulary
    input_ids = torch.where(some == encoder.padding, (encoder.padding + 1) % vocabulary, some)
    bounds = torch.tensor([*accumulate(lengths, initial=0)], device=device, dtype=torch.int32)
    runs = tuple((len([*rows]), length) for length, rows in groupby(lengths))
    packed = Packed(input_ids, some, bounds, bounds, bounds, runs, max(lengths))
    with torch.inference_mode():
        (hidden,) = replace(encoder, batching=batching)(packed, (encoder.num_layers,))
    return hidden[-lengths[-1] :].double()


def _change(found: Tensor, expected: Tensor) -> float:
    """By how much of its length a token's hidden state changes, at most."""
    if not bool(expected.isfinite().all()):
        return 0.0  # float16 is too narrow for it, which is found record by record
    change = float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max())
    return change if change == change else float("inf")
