"""What is settled of a request before a job is made: what cannot be is refused."""

from collections.abc import Callable

from queue_app.errors import UsageError
from queue_app.host.devices import choose_queues, cpu_workers_of, default_cpu_workers, is_emulated
from queue_app.host.queues import device_class
from queue_app.ingest.model_options import start_finding_requested
from queue_app.ingest.request import EmbedRequest
from queue_app.ingest.unknown_tokens import refuse_alphabet
from queue_app.job.directory import refuse_control_characters
from queue_app.job.output_names import refuse_unheeded
from queue_app.job.output_place import check_output, refuse_foreign
from queue_app.job.readouts import resolve_layers
from queue_app.model.spec import FoundModel, ModelSpec
from queue_app.settings import RuntimeConfig


def settle(request: EmbedRequest) -> FoundModel:
    """The model that was asked for, as it was asked for. Raises as `start_settling` and what it returns."""
    return start_settling(request)()


def start_settling(request: EmbedRequest, *, to_write: bool = True) -> Callable[[], FoundModel]:
    """Refuse, before an input is read or anything started, what could not be done in the end.

    The model is read meanwhile: what is returned waits for it, and raises ModelError, or UsageError for what
    the model cannot give. Without `to_write` the output may be in a place where something else lies.

    Raises:
        UsageError: a name has control characters in it; the output could not be written, cannot hold what is
            asked for, or would replace what is not the job's.
        ModelError: there is no such model.
    """
    for named in (request.output, request.directory.path, request.model, *request.inputs):
        refuse_control_characters(str(named))
    check_output(request.output)
    refuse_unheeded(request.output, request.pool, request.h5_layout, request.precision)
    if to_write and not request.overwrite:
        job_dir = request.directory
        job_id = job_dir.load().job_id if job_dir.job_json.exists() else None
        refuse_foreign(request.output, job_dir, job_id)
    find_model = start_finding_requested(request)

    def settled() -> FoundModel:
        model = find_model()
        refuse_impossible(request, model.spec)
        refuse_alphabet(request.alphabet, model)
        return model

    return settled


def refuse_impossible(request: EmbedRequest, spec: ModelSpec) -> None:
    """Raises UsageError for what the model cannot give, whatever the inputs are."""
    resolve_layers(request.layers, spec)
    _refuse_int8(request, spec)
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


def _refuse_int8(request: EmbedRequest, spec: ModelSpec) -> None:
    bound = request.least_cosine
    if bound is not None and request.dtype != "int8":
        raise UsageError("--least-cosine: is for --dtype int8 alone, which is held against float32")
    if bound is not None and bound > 1:
        raise UsageError(f"--least-cosine {bound:g}: no cosine is more than 1")
    if request.dtype == "int8" and spec.family == "auto":
        raise UsageError(
            f"--dtype int8: {spec.name} is computed by transformers, and int8 is for the families that are "
            "computed natively (docs/right_vectors.md); --dtype float32 computes it"
        )


def choose_workers(
    request: EmbedRequest, model: FoundModel, device: str, num_workers: int | None, config: RuntimeConfig
) -> list[str]:
    """The queues of this machine's workers. Raises UsageError as `choose_queues`.

    A job that is there has as many CPU workers as its number of threads gives room for.
    """
    job = None if request.overwrite else request.directory.load_or_none()
    cpu_workers = cpu_workers_of(job.threads) if job else default_cpu_workers(model.spec.num_parameters)
    queues = choose_queues(device, num_workers, config, cpu_workers=cpu_workers)
    if request.dtype == "int8" and device_class(queues) == "cpu" and is_emulated("int8"):
        raise UsageError(
            "--dtype int8: this processor does not multiply int8 exactly (it has neither VNNI nor AMX); use "
            "--dtype float32"
        )
    return queues
