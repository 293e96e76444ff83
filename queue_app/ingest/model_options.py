"""What a user may ask of a model that its directory does not say: prompt, dimensions, unit length."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from queue_app.errors import UsageError
from queue_app.ingest.request import EmbedRequest
from queue_app.job.model_place import at_its_place, require_directory
from queue_app.job.readouts import EVERY_TOKEN, resolve_layers
from queue_app.model.contact_head import refuse_contacts
from queue_app.model.reader import start_finding
from queue_app.model.spec import CONTACTS, FoundModel, ModelSpec, NormalizeSpec, PromptSpec, TruncateSpec


def start_finding_requested(request: EmbedRequest) -> Callable[[], FoundModel]:
    """Begin to find the model that was asked for; what is returned waits for it. Both raise ModelError."""
    refuse_missing(request)
    wait = start_finding(request.model, rules=request.token_rules, revision=request.revision)

    def result() -> FoundModel:
        found = wait()
        return replace(found, spec=configured(found.spec, request))

    return result


def configured(spec: ModelSpec, request: EmbedRequest) -> ModelSpec:
    """The model as it was asked for.

    Raises:
        UsageError: there is no such prompt, the vector has fewer numbers than are to be kept, or an option
            would change nothing.
    """
    _refuse_without_effect(spec, request)
    prompted = _prompted(spec, request)
    refuse_foreign_prompt(prompted)
    if request.pool == CONTACTS:
        _refuse_other_layers(prompted, request)
        refuse_contacts(prompted)
    return _normalized(_truncated(prompted, request), request)


def refuse_foreign_prompt(spec: ModelSpec) -> None:
    """A tokenizer makes words, blanks and tokens such as <mask> of a prompt, where a table sees letters.

    Raises:
        UsageError: the prompt is not made of the model's letters alone.
    """
    if spec.prompt and spec.foreign_prompt:
        where = f"prompt {spec.prompt.name!r} of its directory" if spec.prompt.name else "--prompt"
        raise UsageError(
            f"{where}: {spec.prompt.text!r}: {spec.name} reads sequences letter by letter, and no prompt but "
            "letters of residues or bases that it takes as they stand; --prompt= leaves it away, and "
            "--rules plain gives prompt and sequences to the tokenizer as they stand"
        )


def _refuse_without_effect(spec: ModelSpec, request: EmbedRequest) -> None:
    if spec.family == "mock":
        for name in ("prompt", "prompt_name", "truncate_dim", "normalize", "revision"):
            if getattr(request, name) is not None:
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"{option}: {spec.name} is a stand-in, which has nothing of the kind")
        if request.rules != "auto":
            raise UsageError(f"--rules: {spec.name} is a stand-in, which reads sequences as they stand")
    if request.pool in (EVERY_TOKEN, CONTACTS):
        kept = "keeps those of its tokens" if request.pool == EVERY_TOKEN else "has none"
        for option, asked in (("--truncate-dim", request.truncate_dim), ("--normalize", request.normalize)):
            if asked:
                raise UsageError(f"{option}: changes the vector of a sequence; --pool {request.pool} {kept}")


def _refuse_other_layers(spec: ModelSpec, request: EmbedRequest) -> None:
    if resolve_layers(request.layers, spec) != (spec.num_layers,):
        raise UsageError("--layer: --pool contacts takes the attention of all layers; leave --layer away")


def _prompted(spec: ModelSpec, request: EmbedRequest) -> ModelSpec:
    if request.prompt is not None and request.prompt_name is not None:
        raise UsageError("--prompt and --prompt-name: give one of them")
    pooled = spec.prompt_pooled
    if request.prompt is not None:
        return replace(spec, prompt=PromptSpec(request.prompt, "", pooled) if request.prompt else None)
    if request.prompt_name is None:
        return spec
    texts = dict(spec.prompts)
    if request.prompt_name not in texts:
        named = f"names {', '.join(map(repr, texts))}" if texts else "names no prompts"
        raise UsageError(f"--prompt-name {request.prompt_name}: {spec.name} {named}; --prompt takes any text")
    text = texts[request.prompt_name]
    return replace(spec, prompt=PromptSpec(text, request.prompt_name, pooled) if text else None)


def _truncated(spec: ModelSpec, request: EmbedRequest) -> ModelSpec:
    """A cut of the directory's own gives way; behind the cut of a unit vector it is one again."""
    dim = request.truncate_dim
    if dim is None:
        return spec
    kept = next((n for n, each in enumerate(spec.head) if isinstance(each, TruncateSpec)), len(spec.head))
    whole = replace(spec, head=spec.head[:kept])
    if dim > whole.vector_dim((request.pool or spec.pool).split(",")[0]):
        raise UsageError(f"--truncate-dim {dim}: {spec.name} has vectors of {whole.dim} numbers")
    again = (NormalizeSpec("normalize"),) if whole.normalize else ()
    return replace(spec, head=(*whole.head, TruncateSpec("truncate", dim), *again))


def _normalized(spec: ModelSpec, request: EmbedRequest) -> ModelSpec:
    if request.normalize is None:
        return spec
    if request.normalize:
        ends = bool(spec.head) and isinstance(spec.head[-1], NormalizeSpec)
        return spec if ends else replace(spec, head=(*spec.head, NormalizeSpec("normalize")))
    kept = tuple(each for each in spec.head if not isinstance(each, NormalizeSpec))
    return replace(spec, head=kept)


def refuse_missing(request: EmbedRequest) -> None:
    """Raises ModelError where a job is there, and its model is not where the request says that it is."""
    job = None if request.overwrite else request.directory.load_or_none()
    if job is None or job.model.family == "mock":
        return
    path = Path(request.model).expanduser().absolute()
    if str(path) in (job.model.path, at_its_place(job, request.directory).model.path):
        require_directory(path, request.directory)
