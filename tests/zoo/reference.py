"""What a directory means: transformers or sentence-transformers, one sequence at a time, in float32.

Nothing of Holdfast is imported here. What a protein, DNA or RNA model wants done to a sequence first is
written down by hand from the source that each function names.
"""

import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoConfig, AutoModel, AutoTokenizer, EsmForMaskedLM, T5EncoderModel
from transformers import logging as transformers_logging

from tests.zoo.mosaic import mosaic_states

Vectors = npt.NDArray[np.float32]
Text = str | list[str]

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()
logging.getLogger("sentence_transformers").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a sequence becomes what the tokenizer takes, and how many tokens stand before the residues."""

    prepare: Callable[[str], Text]
    num_before: int = 0


# ---- what the models want


def _blanks(letters: str) -> str:
    return " ".join(letters)


def _blanks_without_rare(sequence: str) -> str:
    return _blanks(re.sub("[UZOB]", "X", sequence))


def _words(length: int, stride: int) -> Callable[[str], str]:
    def words(sequence: str) -> str:
        return " ".join(sequence[at : at + length] for at in range(0, len(sequence) - length + 1, stride))

    return words


PLAIN = Reading(str)
"""Ids of the text as it stands; ESM-2, ESM-1b, ESM-1v, ESM-C and the Nucleotide Transformer too.

https://huggingface.co/facebook/esm2_t6_8M_UR50D, https://huggingface.co/facebook/esm1b_t33_650M_UR50S,
https://huggingface.co/docs/transformers/model_doc/esmc,
https://huggingface.co/InstaDeepAI/nucleotide-transformer-500m-human-ref
"""
PROTBERT = Reading(_blanks_without_rare)
"""https://huggingface.co/Rostlab/prot_bert: blanks between residues, and re.sub(r"[UZOB]", "X", sequence)."""
PROTT5 = PROTBERT
"""The same: https://huggingface.co/Rostlab/prot_t5_xl_uniref50; the last token is not pooled."""
PROSTT5 = Reading(lambda sequence: f"<AA2fold> {_blanks_without_rare(sequence)}", num_before=1)
"""https://huggingface.co/Rostlab/ProstT5: <AA2fold> before residues, and embedding_repr[0, 1:L+1]."""
ANKH = Reading(list)
"""A list of residues, is_split_into_words=True: https://github.com/agemagician/Ankh#usage"""
ANTIBODY = Reading(_blanks)
"""Blanks alone: https://huggingface.co/Exscientia/IgBert, https://huggingface.co/alchemab/antiberta2, and
https://github.com/jeffreyruffolo/AntiBERTy/blob/main/antiberty/AntiBERTyRunner.py
"""
SAPROT_RESIDUES = Reading(lambda sequence: "".join(residue + "#" for residue in sequence))
"""Without a structure, # in its place: https://github.com/westlake-repl/SaProt#load-saprot"""
CODONBERT = Reading(_words(3, 3))
"""https://github.com/Sanofi-Public/CodonBERT/blob/master/benchmarks/CodonBERT/finetune.py"""


def dnabert(length: int) -> Reading:
    """Every k-mer, one base apart: https://github.com/jerryji1993/DNABERT#33-fine-tune-with-pre-trained-model"""
    return Reading(_words(length, 1))


# ---- transformers


def transformers_vectors(
    directory: Path,
    sequences: Sequence[str],
    reading: Reading = PLAIN,
    *,
    pool: str = "mean",
    truncation: bool = False,
) -> Vectors:
    """Pooled over a sequence's own tokens, special ones left out; `cls` is the first of all."""
    model, tokenizer = _open(directory), AutoTokenizer.from_pretrained(directory, local_files_only=True)
    return np.stack(
        [_vector(model, tokenizer, reading, sequence, pool, truncation) for sequence in sequences]
    )


def _open(directory: Path) -> Any:
    """An encoder-decoder's encoder: its decoder would need an input of its own."""
    config = AutoConfig.from_pretrained(directory, local_files_only=True)
    kind: Any = T5EncoderModel if config.model_type == "t5" else AutoModel
    model = kind.from_pretrained(directory, dtype=torch.float32, local_files_only=True).eval()
    return model.get_encoder() if config.is_encoder_decoder and hasattr(model, "decoder") else model


@torch.inference_mode()
def _vector(
    model: Any, tokenizer: Any, reading: Reading, sequence: str, pool: str, truncation: bool
) -> npt.NDArray[np.float32]:
    text = reading.prepare(sequence)
    split = isinstance(text, list)
    whole = tokenizer(text, is_split_into_words=split)["input_ids"]
    own = tokenizer(text, is_split_into_words=split, add_special_tokens=False)["input_ids"]
    start = _place(whole, own)
    encoded = tokenizer(text, is_split_into_words=split, truncation=truncation, return_tensors="pt")
    states = model(**encoded).last_hidden_state[0]
    stop = len(states) - (len(whole) - len(own) - start)
    own_states = states[start + reading.num_before : stop]
    pooled = {
        "mean": own_states.mean(dim=0), "max": own_states.amax(dim=0), "last": own_states[-1],
        "cls": states[0],
    }[pool]  # fmt: skip
    vector: npt.NDArray[np.float32] = pooled.numpy()
    return vector


def _place(whole: list[int], own: list[int]) -> int:
    """Where a sequence's own tokens begin among all."""
    (start, *_) = (at for at in range(len(whole)) if whole[at : at + len(own)] == own)
    return start


def mosaic_vectors(directory: Path, sequences: Sequence[str]) -> Vectors:
    """The mean over all tokens: https://huggingface.co/zhihan1996/DNABERT-2-117M."""
    return np.stack([mosaic_states(directory, sequence).mean(dim=0).numpy() for sequence in sequences])


def adapted_vectors(directory: Path, sequences: Sequence[str]) -> Vectors:
    """With its LoRA adapter merged into the weights: W + alpha / r * B A, https://arxiv.org/abs/2106.09685.

    A rank-stabilised one has the root of r in its place: https://arxiv.org/abs/2312.03732.
    """
    settings = json.loads((directory / "adapter_config.json").read_bytes())
    scale = settings["lora_alpha"] / settings["r"] ** (0.5 if settings.get("use_rslora") else 1)
    weights = load_file(directory / "model.safetensors")
    adapter = load_file(directory / "adapter_model.safetensors")
    for name, down in adapter.items():
        if ".lora_A." in name:
            up = adapter[name.replace(".lora_A.", ".lora_B.")]
            target = name.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
            weights[target] += scale * up @ down
    with TemporaryDirectory() as folder:
        merged = Path(folder)
        for file in directory.iterdir():
            if not file.name.startswith("adapter"):
                (merged / file.name).write_bytes(file.read_bytes())
        save_file(weights, merged / "model.safetensors", metadata={"format": "pt"})
        return transformers_vectors(merged, sequences)


# ---- sentence-transformers


def sentence_vectors(directory: Path, sequences: Sequence[str], **options: Any) -> Vectors:
    """What encode gives for each text alone; options as prompt_name, truncate_dim, normalize_embeddings."""
    model = SentenceTransformer(
        str(directory), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
    )
    rows = [model.encode([text], show_progress_bar=False, **options)[0] for text in sequences]
    return np.stack(rows).astype(np.float32)


def read_as(reading: Reading, pool: str = "mean") -> Callable[[Path, Sequence[str]], Vectors]:
    """The reference of a model that wants its sequences so."""
    return partial(transformers_vectors, reading=reading, pool=pool)


def contact_maps(directory: Path, sequences: Sequence[str]) -> Vectors:
    """Of each sequence the numbers of its [L, L], as `predict_contacts` has it, and zeros behind them."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = EsmForMaskedLM.from_pretrained(directory, attn_implementation="eager").eval()
    maps = []
    for sequence in sequences:
        encoded = tokenizer(sequence, return_tensors="pt")
        with torch.inference_mode():
            maps.append(model.predict_contacts(encoded["input_ids"], encoded["attention_mask"])[0].numpy())
    return in_one_table(maps)


def in_one_table(maps: Sequence[npt.NDArray[Any]]) -> Vectors:
    """[N, most numbers]: each map's numbers, and zeros behind them."""
    table = np.zeros((len(maps), max(each.size for each in maps)), np.float32)
    for row, each in zip(table, maps, strict=True):
        row[: each.size] = each.ravel()
    return table


def differences(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> float:
    """The largest of norm(ours - theirs) / norm(theirs) of any row; infinite where the shapes differ."""
    if ours.shape != theirs.shape:
        return float("inf")
    left, right = ours.astype(np.float64), theirs.astype(np.float64)
    norms = np.linalg.norm(right, axis=1)
    return float(np.max(np.linalg.norm(left - right, axis=1) / norms))
