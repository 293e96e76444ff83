"""Residues to ids by a table, for protein language models."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpu_tasks.errors import ModelLoadError

# https://huggingface.co/facebook/esm2_t6_8M_UR50D/blob/main/vocab.txt
ESM2_VOCABULARY = (
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *"LAGVSERTIDPKQNFYMHWCXBUZO.-",
    *("<null_1>", "<mask>"),
)


@dataclass(frozen=True, slots=True, eq=False)
class ResidueTokenizer:
    """One id per letter. Lower case counts as upper case; J and other letters without an id are <unk>."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    table: npt.NDArray[np.int32]

    def tokenize(self, sequences: Sequence[str]) -> list[npt.NDArray[np.int32]]:
        letters = (sequence.encode("ascii", "replace") for sequence in sequences)
        return [self.table[np.frombuffer(row, np.uint8)] for row in letters]


def load_residues(directory: Path) -> ResidueTokenizer:
    """The vocabulary in vocab.txt, or the published one.

    Raises:
        ModelLoadError: vocab.txt lacks <cls>, <eos> or <unk>.
    """
    path = directory / "vocab.txt"
    vocabulary = path.read_text().split() if path.exists() else ESM2_VOCABULARY
    ids = {token: index for index, token in enumerate(vocabulary)}
    missing = [token for token in ("<cls>", "<eos>", "<unk>") if token not in ids]
    if missing:
        raise ModelLoadError(f"{path}: no {', '.join(missing)} in it")
    table = np.full(256, ids["<unk>"], dtype=np.int32)
    for token, index in ids.items():
        if len(token) == 1 and token.isascii():
            table[[ord(token), ord(token.lower())]] = index
    return ResidueTokenizer((ids["<cls>"],), (ids["<eos>"],), table)
