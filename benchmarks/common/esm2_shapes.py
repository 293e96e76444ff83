"""ESM-2 in its published shapes with random weights, and how much arithmetic a model does.

The arithmetic does not depend on the weights; a shape is made on the fly where nothing can be downloaded.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.zoo.vocabularies import ESM2_VOCABULARY


@dataclass(frozen=True, slots=True)
class Shape:
    """`num_tokens` is how many tokens a CUDA device gets through in a few seconds."""

    num_layers: int
    dim: int
    num_heads: int
    inner: int
    num_tokens: int = 0


# https://huggingface.co/facebook/esm2_t33_650M_UR50D/blob/main/config.json and its siblings
SHAPES = {
    "tiny": Shape(2, 64, 4, 256, num_tokens=4_000),
    "8M": Shape(6, 320, 20, 1280, num_tokens=20_000_000),
    "35M": Shape(12, 480, 20, 1920, num_tokens=8_000_000),
    "150M": Shape(30, 640, 20, 2560, num_tokens=4_000_000),
    "650M": Shape(33, 1280, 20, 5120, num_tokens=1_600_000),
    "3B": Shape(36, 2560, 40, 10240, num_tokens=400_000),
    "15B": Shape(48, 5120, 40, 20480, num_tokens=80_000),
}


def esm2(home: Path, shape: str = "8M", *, dtype: str = "float32", device: str = "cpu") -> Path:
    """Made on the device itself: three billion random numbers take minutes on a processor."""
    from transformers import EsmConfig, EsmModel

    of = SHAPES[shape]
    config = EsmConfig(
        vocab_size=33, pad_token_id=1, mask_token_id=32, hidden_size=of.dim, num_hidden_layers=of.num_layers,
        num_attention_heads=of.num_heads, intermediate_size=of.inner, max_position_embeddings=1026,
        position_embedding_type="rotary", emb_layer_norm_before=False, token_dropout=True,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        model = EsmModel(config, add_pooling_layer=False).to(getattr(torch, dtype))
    directory = home / ("esm2" if shape == "8M" else f"esm2_{shape}")
    model.save_pretrained(directory)
    (directory / "vocab.txt").write_text("\n".join(ESM2_VOCABULARY))
    return directory


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What one token costs, by the shape of the model's layers.

    Matrix products only, a multiplication and an addition being two: 2 x the weights of the linear layers
    for each token, and for attention 4 x L x dim in each layer, L being the tokens of its sequence. That is
    a third of what https://arxiv.org/abs/2204.02311, appendix B, counts for a training step: 6N + 12LHQT.
    """

    num_layers: int
    dim: int
    inner: int

    @classmethod
    def of(cls, directory: Path) -> "Arithmetic":
        config = json.loads((directory / "config.json").read_bytes())
        return cls(config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"])

    def flops(self, lengths: Iterable[int]) -> float:
        """Of sequences of so many tokens, special tokens included, padding left out."""
        weights = 4 * self.dim**2 + 2 * self.dim * self.inner
        return float(sum(self.num_layers * (2 * weights * n + 4 * n * n * self.dim) for n in lengths))

    def products(self, num_tokens: int) -> list[tuple[int, int, int]]:
        """[rows, inner, columns] of the matrix products of one layer, for a batch of so many tokens."""
        shapes = (
            (self.dim, 3 * self.dim),
            (self.dim, self.dim),
            (self.dim, self.inner),
            (self.inner, self.dim),
        )
        return [(num_tokens, *shape) for shape in shapes]
