"""The models of the campaign: widths as published, two layers, random weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import DistilBertConfig, DistilBertModel

from tests.support.model_directories import (
    MINILM,
    randomize,
    save_bert,
    save_esm2,
    save_mosaic,
    save_mpnet,
)

WORDS = ("a", "the", "of", "in", "on", "we", "is", "not", "cat", "red", "seven")
MINILM_SHAPE = {"hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
BASE_SHAPE = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}


@dataclass(frozen=True, slots=True)
class Kind:
    """How a model of a family is made, and of what its sequences are."""

    save: Callable[[Path], Path]
    letters: Sequence[str]
    between: str


def save_distilbert(directory: Path) -> Path:
    """One that transformers computes."""
    config = DistilBertConfig(dim=384, n_heads=12, hidden_dim=1536, n_layers=2)
    randomize(model := DistilBertModel(config))
    model.save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).write_bytes((MINILM / name).read_bytes())
    return directory


FAMILIES = {
    "esm2": Kind(lambda path: save_esm2(path, hidden_size=320), "ACDEFGHIKLMNPQRSTVWY", ""),
    "bert": Kind(lambda path: save_bert(path, **MINILM_SHAPE), WORDS, " "),
    "mpnet": Kind(lambda path: save_mpnet(path, **BASE_SHAPE), WORDS, " "),
    "mosaic": Kind(lambda path: save_mosaic(path, **BASE_SHAPE), "ACGT", " "),
    "auto": Kind(save_distilbert, WORDS, " "),
}
