"""Export: a finished job's content becomes one output, with what is told of it beside it."""

import contextlib
import json
import platform
import shlex
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from checkpoint.records import DoneRecord, QuarantineEntry
from queue_app.choices import H5Layout, Precision
from queue_app.errors import UsageError
from queue_app.host.durable_files import AS_UMASK_SAYS, has_digest, room_for, write_durably
from queue_app.job.directory import JobDir, make_directories
from queue_app.job.done_records import all_done, results_digest
from queue_app.job.output_names import (
    card_paths,
    check_format,
    needs_sequences,
    output_format,
    quarantine_path,
    target_of,
)
from queue_app.job.output_place import (
    beside,
    check_output,
    claim,
    exported,
    exported_card,
    give_up_claim,
    noted_output,
    output_of,
    refuse_foreign,
    remove_former_meta,
    written_before,
)
from queue_app.job.quarantine import tsv_line
from queue_app.job.spec import Job
from queue_app.outputs.content import Content, content_lock, require_sequences
from queue_app.outputs.formats.writers import OUTPUTS
from queue_app.outputs.leftovers import remove_leftovers
from queue_app.outputs.run_card.card import RunCard, Written, make_card
from queue_app.outputs.run_card.card_json import card_json
from queue_app.outputs.run_card.markdown import card_markdown

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
    h5_layout: H5Layout


def export(
    job: Job,
    job_dir: JobDir,
    output: Path,
    *,
    h5_layout: H5Layout | None = None,
    precision: Precision | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write a finished job's output, its run card and, where there is any, its quarantine.tsv.

    Without `h5_layout` and `precision` they are those that the job was submitted with. Exporting twice gives
    the same bytes; two exports at once wait for each other. What lies there and is not the job's is replaced
    only with `overwrite`.

    Raises:
        UsageError: the output's format cannot hold what the job computed, or wants what was cleaned away; or
            something else lies there.
        HoldfastError: shards are not done yet.
        Damage: a result is not the one that was published, or records are missing.
        DiskFull: no room; the output that was there before stays.
    """
    layout, precision = h5_layout or job.run.h5_layout, precision or job.run.precision
    _check(job, job_dir, output, layout, precision)
    with content_lock(job_dir):
        if not overwrite:
            refuse_foreign(output, job_dir, job.job_id)
        return _write(job, job_dir, output, layout, precision)


def export_once(job: Job, job_dir: JobDir) -> ExportReport | None:
    """Write the output where it was to go, for whoever was asked by a message; None where it was written
    before from these very results: what the user has made of it since is his.

    Raises as `export`, and:
        UsageError: this directory is not the one that the job was to run in, or the output was written from
            other results and changed since.
    """
    output = noted_output(job, job_dir)
    with content_lock(job_dir):
        if _was_written(job, job_dir, output):
            return None
        _check(job, job_dir, output, job.run.h5_layout, job.run.precision)
        refuse_foreign(output, job_dir, job.job_id)
        return _write(job, job_dir, output, job.run.h5_layout, job.run.precision)


def _was_written(job: Job, job_dir: JobDir, output: Path) -> bool:
    card = exported(job, job_dir)
    if card is None:
        return False
    done = all_done(job, job_dir, how_to_go_on=f"holdfast resume {job_dir.path} goes on")
    if card["output"].get("results_digest") == results_digest(done) and output.exists():
        return True
    written = {output.parent / name: digest for name, digest in card["output"].get("files", {}).items()}
    for path, digest in written.items():
        if path.exists() and not has_digest(path, digest):
            raise UsageError(f"{path}: was changed since it was written, and would be replaced; move it away")
    return False


def _check(job: Job, job_dir: JobDir, output: Path, layout: H5Layout, precision: Precision) -> None:
    check_output(output)
    check_format(output, job.options, layout, precision)
    if needs_sequences(output, layout):
        require_sequences(job, job_dir)


def _write(job: Job, job_dir: JobDir, output: Path, layout: H5Layout, precision: Precision) -> ExportReport:
    """The caller holds `content_lock`."""
    started = time.monotonic()
    content = Content(job, job_dir, layout, precision)
    make_directories(output.absolute().parent)
    claim(job_dir, output)
    remove_leftovers([output, *beside(output)], "tmp")
    with room_for(output):
        before = written_before(output, job.job_id)
        digests = OUTPUTS[output_format(output)](output, content)
        for path in before:
            if path not in digests:  # ranges of another precision
                path.unlink(missing_ok=True)
        files = {str(path.relative_to(output.parent)): digest for path, digest in digests.items()}
        card = make_card(job, job_dir, output, content, _written(job, files))
        _write_companions(card, output, content.quarantine)
    remove_former_meta(output, job.job_id)
    remove_leftovers([output], "old")
    give_up_claim(job_dir, output)
    quarantined = job.counts.num_records - content.num_rows
    seconds = time.monotonic() - started
    return ExportReport(
        output, job.counts.num_records, content.num_rows, quarantined, content.digest, seconds, card, layout
    )


def _write_companions(card: RunCard, output: Path, quarantine: Sequence[QuarantineEntry]) -> None:
    """quarantine.tsv, then the card for people, then card.json: its being there says that all else is."""
    listed = quarantine_path(output)
    if quarantine:
        write_durably(target_of(listed), "".join(_tsv_lines(quarantine)).encode(), mode=AS_UMASK_SAYS)
    else:
        listed.unlink(missing_ok=True)
    for_people, for_programs = card_paths(output)
    write_durably(target_of(for_people), card_markdown(card).encode(), mode=AS_UMASK_SAYS)
    write_durably(target_of(for_programs), json.dumps(card_json(card), indent=1).encode(), mode=AS_UMASK_SAYS)


def _written(job: Job, files: Mapping[str, str]) -> Written:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Written(host=socket.gethostname(), at=now, versions=_versions(job), files=files)


def _versions(job: Job) -> dict[str, str]:
    """What is installed here; transformers only where it ran the model. Torch is where the workers are."""
    found = {"python": platform.python_version(), **{name: version(name) for name in VERSIONS_OF}}
    for name in ("torch", "transformers") if job.model.family == "auto" else ("torch",):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _tsv_lines(entries: Sequence[QuarantineEntry]) -> Iterator[str]:
    yield "ordinal\tid\tlength\treason\n"
    yield from (f"{tsv_line(entry)}\n" for entry in entries)


def output_damage(job: Job, job_dir: JobDir) -> list[str]:
    """What is wrong with the job's output, if it was written; one that was moved away is not damage."""
    card = exported_card(job, job_dir)
    output = output_of(job, job_dir) if card else Path(job.output)
    if card is None or not output.exists():
        return []
    written = {output.parent / name: digest for name, digest in card["output"]["files"].items()}
    damaged = [path for path, digest in written.items() if not has_digest(path, digest)]
    return [f"output {path} is not what was written; run the same embed command again" for path in damaged]


def outdated_output(job: Job, job_dir: JobDir, done: Sequence[DoneRecord]) -> list[str]:
    """Whether the output was written from other results than those that count.

    `done` are the records that count; as long as shards are missing among them, the output is yet to come.
    """
    card = exported_card(job, job_dir)
    if card is None or len(done) < len(job.shards) or not output_of(job, job_dir).exists():
        return []
    if card["output"]["results_digest"] == results_digest(done):
        return []
    output = output_of(job, job_dir)
    again = shlex.join(
        ["holdfast", "export", str(job_dir.path), "-o", str(output), *_asked_for(card["output"])]
    )
    return [
        f"output {output} was written from other results than those that count now; {again} writes it anew"
    ]


def _asked_for(written: Mapping[str, str]) -> Iterator[str]:
    """The options that `export` needs to write an output of this card again."""
    for key, option, usual in (("precision", "--precision", "float32"), ("h5_layout", "--h5-layout", "flat")):
        if written.get(key, usual) != usual:
            yield from (option, written[key])
