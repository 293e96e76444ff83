"""The inputs of a request as a dataset, and its options without an `auto`."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from queue_app.choices import Alphabet, DeviceClass, Dtype
from queue_app.errors import UsageError
from queue_app.ingest.first_look import FirstLook
from queue_app.ingest.gather import gather, refuse_replacing
from queue_app.ingest.readers.bounds.limits import Limits, limits_of
from queue_app.ingest.readers.sources import Input
from queue_app.ingest.records import Dataset, looks_like_fasta
from queue_app.ingest.request import EmbedRequest
from queue_app.job.output_names import check_format
from queue_app.job.readouts import resolve_layers
from queue_app.job.spec import EmbedOptions
from queue_app.model.spec import CONTACTS, FoundModel, ModelSpec

# By benchmarks/token_budgets.py; those of CUDA by estimate, until it has run there.
CPU_TOKENS: Mapping[Dtype, int] = {"float32": 1024, "bfloat16": 4096, "float16": 4096, "int8": 1024}
CUDA_TOKENS = ((50_000_000, 65_536), (1_000_000_000, 32_768), (5_000_000_000, 16_384))
"""Token budget by number of parameters, up to; larger models take the smallest budget."""
CUDA_TOKENS_LARGEST = 8_192
CONTACTS_TOKENS = 8_192
"""Eight maps of proteins of 1,022 residues, 32 MB in float32; those of shorter ones are less."""
WINDOW_OVERLAP_SHARE = 8
"""Neighbouring windows of a long sequence share at least 1/8 of their length."""


@contextlib.contextmanager
def opened_dataset(
    request: EmbedRequest, model: FoundModel, device_class: DeviceClass, piped: Path
) -> Iterator[tuple[Dataset, EmbedOptions]]:
    """The records that were asked for, and the options without an `auto`; `piped` takes what pipes give.

    What the inputs tell before their records are read is refused here.
    """
    limits = limits_of(request.limit, is_tokenized=model.spec.tokens.kind != "letters")
    with gather(request.inputs, piped, limits) as files:
        refuse_replacing(files, request.output)
        alphabet = _alphabet(request, model.spec, files, limits)
        dataset = Dataset(
            files,
            alphabet=alphabet,
            rules=model.spec.tokens.rules,
            look=FirstLook(model, alphabet),
            input_format=request.input_format,
            id_column=request.id_column,
            sequence_column=request.sequence_column,
            delimiter=request.delimiter,
            keep=request.keep,
            id=request.id,
            limits=limits,
        )
        dataset.check()
        options = resolve_options(request, model.spec, device_class, alphabet)
        check_format(request.output, options, request.h5_layout, request.precision)
        yield dataset, options


def _alphabet(request: EmbedRequest, spec: ModelSpec, files: Sequence[Input], limits: Limits) -> Alphabet:
    if request.alphabet != "auto":
        return request.alphabet
    if spec.family == "mock" and looks_like_fasta(files, request.input_format, limits):
        return "protein"
    return spec.alphabet


def resolve_options(
    request: EmbedRequest, spec: ModelSpec, device_class: DeviceClass, alphabet: Alphabet
) -> EmbedOptions:
    """Choose for every `auto` of a settled request, so that the job says exactly what will be computed."""
    auto: Dtype = "bfloat16" if device_class == "cuda" else "float32"
    dtype = request.dtype if request.dtype != "auto" else auto
    if dtype == "int8" and device_class == "cuda":
        raise UsageError("--dtype int8: is for the CPU: --device cpu computes there; a GPU has bfloat16")
    max_length = request.max_length or spec.max_length
    resolved = {
        "pool": request.pool or spec.pool,
        "layers": resolve_layers(request.layers, spec),
        "dtype": dtype,
        "alphabet": alphabet,
        "max_length": max_length,
        "window_overlap": max_length // WINDOW_OVERLAP_SHARE,
        "toks_per_batch": request.toks_per_batch or token_budget(device_class, dtype, spec.num_parameters),
        "device_class": device_class,
        "exact": is_exact(request, spec),
    }
    if request.pool == CONTACTS:
        resolved |= _of_contacts(request, resolved)
    return EmbedOptions(**{**request.asked_of(EmbedOptions), **resolved})


def is_exact(request: EmbedRequest, spec: ModelSpec) -> bool:
    """Asked for, or where it costs next to nothing: packed batches are full, only the last ones are filled.
    What transformers computes padded would have to be computed alone."""
    if request.exact is not None:
        return request.exact
    return spec.family not in ("auto", "mock")


def _of_contacts(request: EmbedRequest, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """No map can be put together from windows: what would be cut into them is quarantined. And a batch leaves
    the square of its tokens, so that it has fewer of them."""
    return {
        "long": "error" if request.long == "window" else request.long,
        "toks_per_batch": request.toks_per_batch or min(CONTACTS_TOKENS, resolved["toks_per_batch"]),
    }


def token_budget(device_class: DeviceClass, dtype: Dtype, num_parameters: int) -> int:
    """Tokens of one batch, fixed in the job: the memory of the day must not change a byte."""
    if device_class == "cpu":
        return CPU_TOKENS[dtype]
    return next((tokens for limit, tokens in CUDA_TOKENS if num_parameters < limit), CUDA_TOKENS_LARGEST)
