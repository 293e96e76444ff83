"""The words that a user may choose among. Imports nothing: `holdfast --help` names them."""

from typing import Literal

Alphabet = Literal["protein", "dna", "rna", "text"]
Dtype = Literal["float32", "bfloat16", "float16", "int8"]
StoreDtype = Literal["float32", "float16"]
KernelChoice = Literal["fused", "plain"]
LongRule = Literal["window", "truncate", "error"]
InputFormat = Literal["fasta", "fastq", "csv", "tsv", "jsonl", "json", "lines", "parquet", "arrow"]
Precision = Literal["float32", "int8", "uint8", "binary", "ubinary"]
Metric = Literal["cosine", "inner-product", "l2"]
H5Layout = Literal["flat", "per-sequence", "per-id", "per-hash"]
RuleName = Literal[
    "auto", "saprot", "prostt5", "prott5", "ankh", "protbert", "antiberta2", "letters", "codons", "kmers2",
    "kmers3", "kmers4", "kmers5", "kmers6", "kmers7", "kmers8", "bases", "plain",
]  # fmt: skip
"""How sequences are written for a model: the names of the table in gpu_tasks.model_directory.token_rules."""
DeviceClass = Literal["cpu", "cuda"]
ALLOW_QUARANTINE = "--allow-quarantine"
ANY = "any"
"""What the option without a value says."""
OptionGroup = Literal[
    "Input", "Model", "Vectors", "Output", "Devices and speed", "Crash safety", "Fleet", "Server and metrics",
    "What is shown",
]  # fmt: skip
"""The headings under which help shows options, in their order."""
