"""What a user asks for, and how every `auto` in it is settled before a job is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from queue_app.errors import UsageError
from queue_app.job.directory import JobDir, default_directory
from queue_app.job.output_names import refuse_unheeded
from queue_app.job.output_place import check_output, refuse_foreign
from queue_app.job.readouts import resolve_layers
from queue_app.job.spec import DeviceClass, Dtype, EmbedOptions, InputFormat, LongRule, RunOptions, StoreDtype
from queue_app.model.spec import Alphabet, ModelSpec
from queue_app.model.token_rules import RuleName

# By benchmarks/token_budgets.py; those of CUDA by estimate, until it has run there.
CPU_TOKENS: Mapping[Dtype, int] = {"float32": 1024, "bfloat16": 4096, "float16": 4096}
CUDA_TOKENS = ((50_000_000, 65_536), (1_000_000_000, 32_768), (5_000_000_000, 16_384))
"""Token budget by number of parameters, up to; larger models take the smallest budget."""
CUDA_TOKENS_LARGEST = 8_192
WINDOW_OVERLAP_SHARE = 8
"""Neighbouring windows of a long sequence share at least 1/8 of their length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest:
    """What the user asked for; None and `auto` leave the choice to Holdfast."""

    inputs: Sequence[Path]
    model: str
    output: Path
    job_dir: Path | None = None
    pool: str | None = None
    layers: tuple[int, ...] = (-1,)
    dtype: Dtype | Literal["auto"] = "auto"
    store_dtype: StoreDtype = "float32"
    alphabet: Alphabet | Literal["auto"] = "auto"
    long: LongRule = "window"
    max_length: int | None = None
    toks_per_batch: int | None = None
    num_shards: int | None = None
    dedup: bool = True
    reuse: Path | None = None
    input_format: InputFormat | None = None
    id_column: str | None = None
    sequence_column: str | None = None
    delimiter: str | None = None
    prompt: str | None = None
    prompt_name: str | None = None
    truncate_dim: int | None = None
    normalize: bool | None = None
    rules: RuleName = "auto"
    revision: str | None = None
    run: RunOptions = field(default_factory=RunOptions)
    overwrite: bool = False

    @property
    def token_rules(self) -> RuleName:
        """How sequences are written for the model. What is said to be text is given as it stands."""
        return "plain" if self.rules == "auto" and self.alphabet == "text" else self.rules

    @property
    def directory(self) -> JobDir:
        """The job directory: asked for, or `<output>.holdfast`.

        Raises UsageError for an output without a name.
        """
        if not self.output.name:
            raise UsageError(f"{self.output}: name an output in it, as in {self.output / 'out.h5'}")
        chosen = self.job_dir or default_directory(self.output)
        return JobDir(chosen.absolute())


def device_class(queues: Sequence[str]) -> DeviceClass:
    """Queues named cpuN run on the processor, all others on CUDA devices.

    Raises UsageError where both are named: a job is planned for one kind, whose workers alone can compute it.
    """
    kinds = {queue.startswith("cpu") for queue in queues}
    if len(kinds) > 1:
        raise UsageError(f"queues {', '.join(queues)}: a job runs on GPUs or on CPUs; name one kind")
    return "cpu" if kinds <= {True} else "cuda"


def resolve_options(
    request: EmbedRequest, spec: ModelSpec, device_class: DeviceClass, alphabet: Alphabet
) -> EmbedOptions:
    """Settle every `auto`, so that the job says exactly what will be computed.

    Raises:
        UsageError: the model lacks a layer that was asked for, or positions for the length.
    """
    refuse_impossible(request, spec)
    by_default: Dtype = "bfloat16" if device_class == "cuda" else "float32"
    dtype: Dtype = by_default if request.dtype == "auto" else request.dtype
    max_length = request.max_length or spec.max_length
    return EmbedOptions(
        pool=request.pool or spec.pool,
        layers=resolve_layers(request.layers, spec),
        dtype=dtype,
        store_dtype=request.store_dtype,
        alphabet=alphabet,
        long=request.long,
        max_length=max_length,
        window_overlap=max_length // WINDOW_OVERLAP_SHARE,
        toks_per_batch=request.toks_per_batch or token_budget(device_class, dtype, spec.num_parameters),
        device_class=device_class,
        id_column=request.id_column,
        sequence_column=request.sequence_column,
        delimiter=request.delimiter,
        dedup=request.dedup,
        input_format=request.input_format,
    )


def refuse_impossible(request: EmbedRequest, spec: ModelSpec) -> None:
    """Raises UsageError for what the model cannot give, whatever the inputs are."""
    resolve_layers(request.layers, spec)
    if request.long == "truncate" and spec.tokens.cuts_the_begin:
        raise UsageError(
            f"--long truncate keeps the begin of a sequence, and the tokenizer of {spec.name} cuts it off "
            "(truncation_side in tokenizer_config.json); --long window takes all of it"
        )
    if request.max_length is None or spec.max_positions is None:
        return
    if request.max_length > (most := spec.max_positions - spec.num_special):
        raise UsageError(
            f"--max-length {request.max_length}: {spec.name} has {spec.max_positions} positions, "
            f"{spec.num_special} of them for special tokens; ask for {most} at most"
        )


def token_budget(device_class: DeviceClass, dtype: Dtype, num_parameters: int) -> int:
    """Tokens of one batch, fixed in the job: the memory of the day must not change a byte."""
    if device_class == "cpu":
        return CPU_TOKENS[dtype]
    return next((tokens for limit, tokens in CUDA_TOKENS if num_parameters < limit), CUDA_TOKENS_LARGEST)


def check_request(request: EmbedRequest) -> None:
    """Refuse, before anything is read or started, what could not be written in the end.

    Raises:
        UsageError: as `check_output`, `refuse_unheeded` and, unless it may be overwritten, `refuse_foreign`.
    """
    check_output(request.output)
    refuse_unheeded(request.output, request.pool, request.run.h5_layout)
    if not request.overwrite:
        job_dir = request.directory
        job_id = job_dir.load().job_id if job_dir.job_json.exists() else None
        refuse_foreign(request.output, job_dir, job_id)
