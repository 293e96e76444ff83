"""The words of the trade: what other programs call our options, and what is said of what we do otherwise.

One table for the command line and for Python. A word that means exactly the same is taken; one that means
something near it is answered by a line, and never taken for it. Whatever this imports, `holdfast --help`
waits for.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from queue_app.errors import WrongType

_SAME = {
    "pool": "pooling pooling_mode pooling_strategy pool_type",
    "output": "out outfile out_file output_file output_path output_dir outdir out_dir",
    "layers": "layer repr_layer repr_layers",
    "model": "model_name model_id model_path model_name_or_path",
    "num_shards": "shards",
    "broker_url": "broker",
    "toks_per_batch": "tokens_per_batch max_batch_tokens max_num_batched_tokens token_budget",
    "normalize": "normalise normalize_embeddings l2_normalize",
    "no_normalize": "no_normalise",
    "truncate_dim": "dimensions",
    "dtype": "torch_dtype",
    "store_dtype": "output_dtype",
    "delimiter": "sep",
    "id_column": "id_col id_field",
    "sequence_column": "sequence_col seq_column seq_col text_column text_col text_field",
    "quiet": "no_progress no_progress_bar silent",
}
SAME: Mapping[str, str] = {word: name for name, words in _SAME.items() for word in words.split()}
"""A word -> our option of the same meaning, by its name in Python."""

_VALUES = {"float32": "fp32 f32 float single", "float16": "fp16 f16 half", "bfloat16": "bf16"}
VALUES: Mapping[str, str] = {word: ours for ours, words in _VALUES.items() for word in words.split()}
"""A value of an option that is one of a few words -> the word that we use."""

_NEAR = {
    "batch_size batchsize b": "batches are filled to a number of tokens and not of sequences, so that "
    "long and short ones fit into memory alike: use [toks_per_batch N], or leave it to the device",
    "max_seqs_per_batch": "use [toks_per_batch N]: a batch is filled to a number of tokens, not of sequences",
    "include": "use [pool mean] for mean, [pool none] for per_tok, [pool cls] for bos, [pool mean,cls] "
    "for two",
    "per_tok per_token per_residue per_protein": "use [pool none] for the vector of every token, [pool "
    "mean] for one vector a sequence",
    "truncation_seq_length max_seq_length max_seq_len max_len": "use [max_length N] and [long truncate] "
    "to cut what is longer; N counts tokens without the special ones. By itself a long sequence is "
    "embedded whole, in windows that overlap",
    "truncation truncate": "use [long truncate] to cut what is longer than [max_length N]",
    "nogpu no_gpu no_cuda cpu use_cpu": "use [device cpu]",
    "gpu gpus gpu_id gpu_ids devices num_gpus cuda use_gpu use_cuda": "use [device 0,1] to take GPUs by "
    "their numbers; by itself every GPU is used",
    "fp16 half float16": "use [dtype float16]",
    "bf16 bfloat16 amp": "use [dtype bfloat16]",
    "fp32 float32": "use [dtype float32]",
    "int8 quantize quantized load_in_8bit": "use [dtype int8]",
    "num_workers num_processes n_jobs nproc j": "use [workers N] for the number of workers on the CPU; a "
    "GPU has one, and reading needs none",
    "num_threads": "use [workers N]: each worker on the CPU has its share of the cores",
    "input inputs input_file input_path fasta fasta_file i": "the inputs are named without an option, "
    "before all else",
    "force force_restart f": "use [overwrite], which forgets earlier work and replaces what lies there",
    "resume continue": "nothing to say: the same command on the same output goes on where it was; without "
    "the inputs: holdfast resume OUTPUT",
    "checkpoint_every checkpoint_interval save_every save_steps": "use [commit_seconds S] or "
    "[commit_sequences N]: so often is committed what is done",
    "checkpoint_dir": "use [job_dir DIR], where a job keeps what is done",
    "no_dedup": "use [dedup False]",
    "progress progress_bar show_progress show_progress_bar quiet": "a shell shows progress unless --quiet is "
    "given, and Python where progress=True is",
    "verbose log_level": "what the workers log lies in <output>.holdfast/logs",
    "seed random_seed": "nothing is random: the same job has the same vectors",
    "config c": "there is no configuration file: what a job needs stands in its command",
    "format output_format": "the ending of [output NAME] says it: .h5, .npy, .parquet, .arrow, or none "
    "for a directory",
    "instruction query_instruction": "use [prompt TEXT], which stands before every sequence",
    "cache_dir": "models of the hub lie where HF_HOME says; [model DIR] takes a directory of your own",
    "trust_remote_code": "code that a model directory brings is never run",
    "dry_run": "holdfast plan takes the same options, and shows what would be done",
}
NEAR: Mapping[str, str] = {word: sentence for words, sentence in _NEAR.items() for word in words.split()}
"""A word -> what to use instead: `[pool none]` is `--pool none` in a shell, and `pool='none'` in Python."""

_NAMED = re.compile(r"\[(\w+)(?: ([^\]]+))?\]")


def key_of(word: str) -> str:
    """`--Batch-Size` and `batch_size` are one word."""
    return word.lstrip("-").replace("-", "_").lower()


def flag_of(name: str) -> str:
    """`--store-dtype` of `store_dtype`."""
    return f"--{name.replace('_', '-')}"


def understood(given: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """What a call was given, under our names and in our words; what is no word of ours or theirs stays.

    Raises:
        WrongType: an option is given under two names, or a word is only near to one of ours.
    """
    found: dict[str, Any] = {}
    for word, value in given.items():
        name = word if word in known else SAME.get(key_of(word), word)
        if name not in known:
            _refuse(word, name)
        if name in found:
            raise WrongType(f"{word}={value!r}: {name} is given already")
        found[name] = _dtype(value) if name in ("dtype", "store_dtype") else value
    return found


def _refuse(word: str, name: str) -> None:
    if near := NEAR.get(key_of(word)) or NEAR.get(name):
        raise WrongType(f"{word}: {in_python(near)}")
    if name != word:
        raise WrongType(f"{word}: use {name}")


def _dtype(value: Any) -> str:
    """Also of torch's own."""
    word = str(value).removeprefix("torch.").lower()
    return VALUES.get(word, word)


def options_in(sentence: str) -> set[str]:
    """The options that a sentence names."""
    return {found[1] for found in _NAMED.finditer(sentence)}


def in_shell(sentence: str) -> str:
    """The sentence with its options as a shell has them."""
    return _NAMED.sub(lambda found: " ".join([flag_of(found[1]), *(found[2] or "").split()]), sentence)


def in_python(sentence: str) -> str:
    """The sentence with its options as arguments of a call."""
    return _NAMED.sub(lambda found: f"{found[1]}={_literal(found[2] or 'True')}", sentence)


def _literal(value: str) -> str:
    """Values are strings; N, TEXT and the like stand for one, True and False for themselves."""
    return value if value.isupper() or value in ("True", "False") else repr(value)
