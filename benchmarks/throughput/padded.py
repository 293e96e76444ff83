"""The systems beside ours: batches of padded sequences, as scripts and libraries make them."""

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.utils import logging

from benchmarks.throughput.rounds import Absent, System, Vectors
from gpu_tasks.model_directory.reader import read_model
from gpu_tasks.models.files import model_files
from gpu_tasks.models.tokens import load_tokens

logging.disable_progress_bar()

Batches = Callable[[Sequence[str]], Iterator[list[int]]]
"""Which sequences are padded together, by their place."""
Rows = list[np.ndarray[Any, Any]]


def in_batches_of(num_rows: int, *, by_length: bool) -> Batches:
    def batches(sequences: Sequence[str]) -> Iterator[list[int]]:
        order = list(range(len(sequences)))
        if by_length:
            order.sort(key=lambda place: len(sequences[place]), reverse=True)
        for first in range(0, len(order), num_rows):
            yield order[first : first + num_rows]

    return batches


def by_padded_tokens(toks_per_batch: int) -> Batches:
    """As extract.py of fair-esm, shortest first, one special token counted with each sequence:
    https://github.com/facebookresearch/esm/blob/main/esm/data.py"""

    def batches(sequences: Sequence[str]) -> Iterator[list[int]]:
        batch: list[int] = []
        for place in sorted(range(len(sequences)), key=lambda place: len(sequences[place])):
            # In this order the newcomer is the longest.
            if batch and (len(sequences[place]) + 1) * (len(batch) + 1) > toks_per_batch:
                yield batch
                batch = []
            batch.append(place)
        if batch:
            yield batch

    return batches


def neighbours(toks_per_batch: int) -> Batches:
    """As many as fit, of sequences that are all equally long."""

    def batches(sequences: Sequence[str]) -> Iterator[list[int]]:
        num_rows = max(toks_per_batch // (len(sequences[0]) + 2), 1)
        yield from in_batches_of(num_rows, by_length=False)(sequences)

    return batches


# ---- texts


def sentence_transformers(path: Path, dtype: str) -> System:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(path), device="cpu", model_kwargs={"dtype": getattr(torch, dtype)})

    def embed(texts: Sequence[str]) -> Vectors:
        vectors: Tensor = model.encode(
            list(texts),
            batch_size=32,
            show_progress_bar=False,
            convert_to_numpy=False,
            convert_to_tensor=True,
        )
        return vectors.float().numpy()

    return System("sentence-transformers, encode(batch_size=32)", dtype, embed)


def automodel(path: Path, dtype: str, name: str, batches: Batches, *, max_length: int = 256) -> System:
    """AutoTokenizer and AutoModel, the mean over the mask, the norm taken: as the model's card shows it."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(path))
    model = AutoModel.from_pretrained(str(path), dtype=getattr(torch, dtype)).eval()

    @torch.inference_mode()
    def embed(texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), model.config.hidden_size), np.float32)
        for rows in batches(texts):
            chosen = [texts[row] for row in rows]
            inputs = tokenizer(
                chosen, padding=True, truncation=True, max_length=max_length, return_tensors="pt"
            )
            hidden = model(**inputs).last_hidden_state.float()
            mask = inputs["attention_mask"][:, :, None]
            pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
            vectors[rows] = torch.nn.functional.normalize(pooled, dim=1).numpy()
        return vectors

    return System(name, dtype, embed)


# ---- proteins


@dataclass(frozen=True, slots=True, eq=False)
class PaddedEsm:
    """ESM-2 on padded batches; the mean is over the residues. `forward` answers hidden states."""

    forward: Callable[[Tensor, Tensor], Tensor]
    directory: Path
    dim: int
    batches: Batches
    device: str = "cpu"

    @torch.inference_mode()
    def __call__(self, sequences: Sequence[str]) -> Vectors:
        reading = read_model(self.directory)
        residues = load_tokens(reading.spec, None, model_files(reading.spec)).tokenize(sequences)
        inputs = [(rows, self._inputs([residues[row] for row in rows])) for rows in self.batches(sequences)]
        found = [(rows, self._pooled(*batch)) for rows, batch in inputs]
        vectors = np.empty((len(sequences), self.dim), np.float32)
        for rows, pooled in found:
            vectors[rows] = pooled.cpu().numpy()
        return vectors

    def _inputs(self, residues: Rows) -> tuple[Tensor, Tensor]:
        # All of them before the first is computed: a copy of ordinary memory waits for the device.
        ids, mask = pad(residues)
        return ids.to(self.device), mask.to(self.device)

    def _pooled(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden = self.forward(ids, mask).float()
        lengths = mask.sum(dim=1, keepdim=True)
        places = torch.arange(ids.shape[1], device=self.device)
        inside = ((places > 0) & (places < lengths - 1))[:, :, None]
        return (hidden * inside).sum(dim=1) / (lengths - 2)


def pad(residues: Rows) -> tuple[Tensor, Tensor]:
    """int64[n, longest + 2] with <cls>, <eos> and <pad>, and its mask."""
    longest = max(map(len, residues)) + 2
    ids = np.full((len(residues), longest), 1, np.int64)
    for row, letters in enumerate(residues):
        ids[row, 0], ids[row, len(letters) + 1] = 0, 2
        ids[row, 1 : len(letters) + 1] = letters
    tensor = torch.from_numpy(ids)
    return tensor, (tensor != 1).long()


def transformers_esm(
    path: Path, dtype: str, name: str, batches: Batches, *, device: str = "cpu", padded: bool = True
) -> System:
    """transformers' EsmModel with sdpa; without padding it gets no mask, with which it is faster."""
    from transformers import EsmModel

    model = EsmModel.from_pretrained(
        str(path), dtype=getattr(torch, dtype), attn_implementation="sdpa", add_pooling_layer=False
    )
    model = model.to(device).eval()

    def forward(ids: Tensor, mask: Tensor) -> Tensor:
        hidden: Tensor = model(input_ids=ids, attention_mask=mask if padded else None).last_hidden_state
        return hidden

    return System(name, dtype, PaddedEsm(forward, path, model.config.hidden_size, batches, device))


def faesm(path: Path, dtype: str, batches: Batches, *, device: str = "cpu") -> System | Absent:
    """https://github.com/pengzhangzhi/faesm: FlashAttention where it is installed, else sdpa."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            system = _faesm(path, dtype, batches, device)
            system.embed(["MKV", "MKV"])
    except ModuleNotFoundError as error:
        return Absent("FAESM", f"not installed ({error.name})")
    except Exception as error:  # written for other versions of transformers
        return Absent("FAESM", f"fails: {type(error).__name__}: {error}".splitlines()[0])
    return system


def _faesm(path: Path, dtype: str, batches: Batches, device: str) -> System:
    from faesm import esm  # type: ignore[import-not-found]

    flash = esm.flash_attn_installed and device != "cpu"
    model = esm.FAEsmForMaskedLM.from_pretrained(str(path), use_fa=flash)
    model = model.to(device, getattr(torch, dtype)).eval()

    def forward(ids: Tensor, mask: Tensor) -> Tensor:
        hidden: Tensor = model.esm(ids, attention_mask=mask.bool())[0]
        return hidden

    title = f"FAESM, {'FlashAttention' if flash else 'sdpa'}"
    return System(title, dtype, PaddedEsm(forward, path, model.config.hidden_size, batches, device))
