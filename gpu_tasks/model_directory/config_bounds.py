"""The numbers of a config.json that decide how much is allocated: whole, and as large as a model may be.

transformers takes them as they stand, and makes what they say before it looks at a weight.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gpu_tasks.errors import ModelLoadError

_BOUNDS: tuple[tuple[int, int, tuple[str, ...]], ...] = (
    (1, 1 << 20, ("hidden_size", "d_model", "dim", "n_embd", "emb_dim", "embedding_size", "d_kv")),
    (0, 1 << 22, ("intermediate_size", "d_ff", "ffn_dim", "encoder_ffn_dim", "n_inner")),
    (1, 10_000, ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers")),
    (0, 10_000, ("decoder_layers", "num_decoder_layers", "num_experts", "num_local_experts")),
    (1, 1 << 16, ("num_attention_heads", "num_heads", "n_head", "n_heads", "num_key_value_heads")),
    (1, 1 << 27, ("vocab_size", "vocabulary_size")),
    (0, 1 << 20, ("type_vocab_size", "num_labels")),
    (-1, 1 << 27, ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")),
    (-1, 1 << 27, ("pad_token_id",)),
)
BOUNDS: Mapping[str, tuple[int, int]] = {key: (least, most) for least, most, keys in _BOUNDS for key in keys}
"""By key, wherever it stands: the least and the most. The largest models have a hundredth of it."""
DROPOUTS = ("dropout", "dropout_prob", "dropout_rate")
"""They change no vector, but with one that is none nobody else makes the model."""
DEPTH_MOST = 50
SHOWN_CHARACTERS = 60


def require_bounded(path: Any, fields: Mapping[str, Any]) -> None:
    """Raises ModelLoadError for a value of these keys that is no whole number, or outside of its bounds."""
    for key, value, depth in _values(fields):
        if depth > DEPTH_MOST:
            raise ModelLoadError(f"{path}: nested too deeply")
        least, most = BOUNDS.get(key, (0, 0))
        if key in BOUNDS and not (value is None or (type(value) is int and least <= value <= most)):
            shown = repr(value)[:SHOWN_CHARACTERS]
            raise ModelLoadError(f"{path}: {key}={shown}: not a whole number from {least} to {most:,}")
        if key.endswith(DROPOUTS) and type(value) in (int, float) and not 0 <= value <= 1:
            raise ModelLoadError(f"{path}: {key}={str(value)[:SHOWN_CHARACTERS]}: not a probability")


def _values(fields: Any) -> Iterator[tuple[str, Any, int]]:
    """Every value with its key, of a list each by itself, and how deep it stands."""
    left: list[tuple[str, Any, int]] = [("", fields, 0)]
    while left:
        key, value, depth = left.pop()
        if isinstance(value, dict):
            left += [(inner, each, depth + 1) for inner, each in value.items()]
        elif isinstance(value, list):
            left += [(key, each, depth + 1) for each in value]
        if not isinstance(value, dict | list) or depth > DEPTH_MOST:
            yield key, value, depth
