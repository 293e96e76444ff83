"""The inputs of a request as a dataset: what they tell before their records are read is refused here."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from queue_app.choices import Alphabet, DeviceClass
from queue_app.ingest.first_look import FirstLook
from queue_app.ingest.gather import gather, refuse_replacing
from queue_app.ingest.readers.sources import Input
from queue_app.ingest.records import Dataset, looks_like_fasta
from queue_app.ingest.request import EmbedRequest
from queue_app.ingest.settle import resolve_options
from queue_app.job.output_names import check_format
from queue_app.job.spec import EmbedOptions
from queue_app.model.spec import FoundModel, ModelSpec


@contextlib.contextmanager
def opened_dataset(
    request: EmbedRequest, model: FoundModel, device_class: DeviceClass, piped: Path
) -> Iterator[tuple[Dataset, EmbedOptions]]:
    """The records that were asked for, and the options without an `auto`; `piped` takes what pipes give.

    What the inputs tell before their records are read is refused here.
    """
    with gather(request.inputs, piped) as files:
        refuse_replacing(files, request.output)
        alphabet = _alphabet(request, model.spec, files)
        dataset = Dataset(
            files,
            alphabet=alphabet,
            rules=model.spec.tokens.rules,
            look=FirstLook(model, alphabet),
            input_format=request.input_format,
            id_column=request.id_column,
            sequence_column=request.sequence_column,
            delimiter=request.delimiter,
        )
        dataset.check()
        options = resolve_options(request, model.spec, device_class, alphabet)
        check_format(request.output, options, request.h5_layout)
        yield dataset, options


def _alphabet(request: EmbedRequest, spec: ModelSpec, files: Sequence[Input]) -> Alphabet:
    if request.alphabet != "auto":
        return request.alphabet
    if spec.family == "mock" and looks_like_fasta(files, request.input_format):
        return "protein"
    return spec.alphabet
