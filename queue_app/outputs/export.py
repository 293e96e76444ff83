"""Export: a finished job's content becomes one output, with what is told of it beside it."""

import contextlib
import json
import platform
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from checkpoint.records import DoneRecord, QuarantineEntry
from queue_app.choices import H5Layout
from queue_app.host.durable_files import has_digest, room_for, write_durably
from queue_app.job.directory import JobDir
from queue_app.job.done_records import results_digest
from queue_app.job.output_names import (
    card_paths,
    check_format,
    meta_path,
    needs_sequences,
    one_line,
    output_format,
    quarantine_path,
    target_of,
)
from queue_app.job.output_place import check_output, claim, exported, give_up_claim, output_of, refuse_foreign
from queue_app.job.spec import Job
from queue_app.outputs.content import Content, content_lock, require_sequences
from queue_app.outputs.run_card.card import RunCard, make_card
from queue_app.outputs.run_card.markdown import card_markdown
from queue_app.outputs.writers import OUTPUTS, Digests

VERSIONS_OF = ("holdfast", "tokenizers", "numpy", "pyarrow", "h5py", "celery", "redis", "lmdb")


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written. `output_digest` (xxh3-128, hex) covers ids and vectors, and no format's wrapping."""

    output: Path
    num_records: int
    num_embedded: int
    num_quarantined: int
    output_digest: str
    seconds: float
    card: RunCard


def export(
    job: Job, job_dir: JobDir, output: Path, *, h5_layout: H5Layout | None = None, overwrite: bool = False
) -> ExportReport:
    """Write a finished job's output, its meta.json and, where there is any, its quarantine.tsv.

    Without `h5_layout` an HDF5 file has the one that the job was submitted with. Exporting twice gives the
    same bytes; two exports at once wait for each other. What lies there and is not the job's is replaced
    only with `overwrite`.

    Raises:
        UsageError: the output's format cannot hold what the job computed, or wants what was cleaned away; or
            something else lies there.
        HoldfastError: shards are not done yet.
        Damage: a result is not the one that was published, or records are missing.
        DiskFull: no room; the output that was there before stays.
    """
    check_output(output)
    layout = h5_layout or job.run.h5_layout
    check_format(output, job.options, layout)
    if needs_sequences(output, layout):
        require_sequences(job, job_dir)
    started = time.monotonic()
    with content_lock(job_dir):
        if not overwrite:
            refuse_foreign(output, job_dir, job.job_id)
        content = Content(job, job_dir, layout)
        claim(job_dir, output)
        with room_for(output):
            files = OUTPUTS[output_format(output)](output, content)
            card = _write_companions(job, job_dir, output, content, files)
        give_up_claim(job_dir, output)
    quarantined = job.counts.num_records - content.num_rows
    seconds = time.monotonic() - started
    return ExportReport(
        output, job.counts.num_records, content.num_rows, quarantined, content.digest, seconds, card
    )


def _write_companions(job: Job, job_dir: JobDir, output: Path, content: Content, files: Digests) -> RunCard:
    """quarantine.tsv and the run card, then meta.json: its being there says that everything else is."""
    listed = quarantine_path(output)
    if content.quarantine:
        write_durably(target_of(listed), "".join(_tsv_lines(content.quarantine)).encode())
    else:
        listed.unlink(missing_ok=True)
    card = make_card(job, job_dir, output, content, _versions(job))
    meta = _meta(card, content, {str(path.relative_to(output.parent)): files[path] for path in files})
    markdown, data = card_paths(output)
    write_durably(target_of(markdown), card_markdown(card).encode())
    write_durably(target_of(data), json.dumps(card.as_json(), indent=1).encode())
    write_durably(target_of(meta_path(output)), json.dumps(meta, indent=1).encode())
    return card


def _versions(job: Job) -> dict[str, str]:
    """What is installed here; transformers only where it ran the model. Torch is where the workers are."""
    found = {"python": platform.python_version(), **{name: version(name) for name in VERSIONS_OF}}
    for name in ("torch", "transformers") if job.model.family == "auto" else ("torch",):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _tsv_lines(entries: list[QuarantineEntry]) -> Iterator[str]:
    yield "ordinal\tid\tlength\treason\n"
    for entry in entries:
        fields = (str(entry.ordinal), entry.id, str(entry.length), entry.reason)
        yield "\t".join(one_line(field).replace("\t", " ") for field in fields) + "\n"


def output_damage(job: Job, job_dir: JobDir) -> list[str]:
    """What is wrong with the job's output, if it was written; one that was moved away is not damage."""
    meta = exported(job, job_dir)
    output = output_of(job, job_dir) if meta else Path(job.output)
    if meta is None or not output.exists():
        return []
    written = {output.parent / name: digest for name, digest in meta["files"].items()}
    damaged = [path for path, digest in written.items() if not has_digest(path, digest)]
    return [f"output {path} is not what was written; run the same embed command again" for path in damaged]


def outdated_output(job: Job, job_dir: JobDir, done: Sequence[DoneRecord]) -> list[str]:
    """Whether the output was written from other results than those that count.

    `done` are the records that count; as long as shards are missing among them, the output is yet to come.
    """
    meta = exported(job, job_dir)
    if meta is None or len(done) < len(job.shards) or not output_of(job, job_dir).exists():
        return []
    if meta.get("results_digest") == results_digest(done):
        return []
    output = output_of(job, job_dir)
    what = f"output {output} was written from other results than those that count now"
    return [f"{what}; holdfast export {job_dir.path} -o {output} writes it anew"]


def _meta(card: RunCard, content: Content, files: Mapping[str, str]) -> dict[str, Any]:
    job, counts = card.job, card.job.counts
    return {
        "job": job.job_id,
        "content_digest": content.digest,
        "results_digest": content.results_digest,
        "files": files,
        "sequences": {
            "total": counts.num_records,
            "done": content.num_rows,
            "quarantined": counts.num_records - content.num_rows,
            "duplicate_ids": counts.num_duplicate_ids,
            "duplicate_sequences": counts.num_duplicate_sequences,
            "twins": card.num_duplicates,
            "reused": card.num_reused,
        },
        "reuse": asdict(job.reuse) if job.reuse else None,
        "kinds": [asdict(share) for share in card.kinds],
        "mixed_kinds": card.mixed_kinds or None,
        "dim": content.dim,
        "columns": list(content.columns),
        "model": asdict(job.model),
        "options": asdict(job.options),
        "inputs": [asdict(file) for file in job.inputs],
        "versions": _versions(job),
        "host": socket.gethostname(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
