"""The check of a model: what the model is to Holdfast, read as `embed` reads it."""

from collections.abc import Iterator

from queue_app.errors import UsageError
from queue_app.ingest.model_options import refuse_foreign_prompt
from queue_app.model.contact_head import refuse_contacts
from queue_app.model.reader import find_model
from queue_app.model.spec import ModelSpec
from queue_app.model.wording import described_head, model_line, run_by, written
from queue_app.preflight.findings import Finding


def examine_model(ref: str, revision: str | None = None) -> Iterator[Finding]:
    """Raises ModelError or UsageError for a model that `embed` would refuse, in the same words."""
    spec = find_model(ref, revision=revision).spec
    refuse_foreign_prompt(spec)
    yield Finding(
        "model", "ok", f"{model_line(spec)}: computed by {run_by(spec)}; weights in {spec.stored_dtype}"
    )
    yield Finding("sequences", "ok", f"{spec.alphabet}, {written(spec)}; {_length(spec)}")
    yield Finding(
        "vectors", "ok", f"{spec.pool} pooling, behind it {described_head(spec)}: {spec.dim:,} numbers"
    )
    if spec.alphabet == "protein" and spec.family == "esm2":
        yield _contacts(spec)


def _contacts(spec: ModelSpec) -> Finding:
    try:
        refuse_contacts(spec)
    except UsageError as error:
        return Finding("contacts", "ok", f"none: {error}")
    return Finding("contacts", "ok", "--pool contacts predicts them, by the model's own head")


def _length(spec: ModelSpec) -> str:
    most = (
        "without an end of positions" if spec.max_positions is None else f"{spec.max_positions:,} positions"
    )
    return f"pieces of {spec.max_length:,} tokens by default, {most}"
