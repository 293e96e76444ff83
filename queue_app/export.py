"""Export: the published shard results become one output, in input order.

Only the files that done records name are read, each against its digest; and before anything is renamed
into place, records read = records embedded + records quarantined must hold.
"""

import contextlib
import json
import os
import platform
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa

from checkpoint.records import DoneRecord, QuarantineEntry
from queue_app.card import RunCard, make_card
from queue_app.card_text import card_markdown
from queue_app.content import ContentDigest
from queue_app.done import read_done
from queue_app.durable import file_digest, room_for, write_durably
from queue_app.errors import Damage, HoldfastError, UsageError
from queue_app.job import H5Layout, Job, JobDir, Shard
from queue_app.lock import FileLock
from queue_app.merge import in_input_order
from queue_app.outputs import (
    OUTPUTS,
    Results,
    card_paths,
    check_format,
    exported,
    files_of,
    holds_other_than_output,
    meta_path,
    one_line,
    output_format,
)
from queue_app.readouts import column_names, is_ragged

VERSIONS_OF = ("holdfast", "torch", "tokenizers", "numpy", "pyarrow", "h5py", "celery", "redis", "lmdb")


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


def check_output(output: Path) -> None:
    """Refuse what could not be written at the end, before anything is begun.

    Raises:
        UsageError: no name, an unknown format, a directory that is not there or not writable, a file where a
            directory is meant, or the other way round, or a directory with other things in it.
    """
    if not output.name:
        raise UsageError(f"{output}: name an output in it, as in {output / 'out.h5'}")
    kind = output_format(output)
    parent = output.absolute().parent
    if not parent.is_dir():
        raise UsageError(f"{output}: {parent} is no directory; make it first")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(f"{output}: {parent} is not writable")
    if output.exists() and output.is_dir() != (kind == "directory"):
        what = "a directory" if output.is_dir() else "a file"
        raise UsageError(f"{output}: {what} is there already; choose another output")
    if output.is_dir() and (other := holds_other_than_output(output)):
        raise UsageError(f"{output}: {other} lies in it, which would be removed; choose another output")
    if output.exists() and not os.access(output, os.W_OK):
        raise UsageError(f"{output}: is not writable")


def export(job: Job, job_dir: JobDir, output: Path, *, h5_layout: H5Layout | None = None) -> ExportReport:
    """Write a finished job's output, its meta.json and, where there is any, its quarantine.tsv.

    Without `h5_layout` an HDF5 file has the one that the job was submitted with. Exporting twice gives the
    same bytes; two exports at once wait for each other.

    Raises:
        UsageError: the output's format cannot hold what the job computed.
        HoldfastError: shards are not done yet.
        Damage: a result is not the one that was published, or records are missing.
        DiskFull: no room; the output that was there before stays.
    """
    check_output(output)
    check_format(output, job.options, h5_layout or job.run.h5_layout)
    started = time.monotonic()
    lock = FileLock(job_dir.path / "export.lock")
    lock.acquire(wait=True)
    try:
        done = _done_records(job, job_dir)
        content = _Content(job, job_dir, done, h5_layout)
        with room_for(output):
            OUTPUTS[output_format(output)](output, content)
            card = _write_companions(job, job_dir, output, content, done)
    finally:
        lock.release()
    quarantined = job.counts.num_records - content.num_rows
    seconds = time.monotonic() - started
    return ExportReport(
        output, job.counts.num_records, content.num_rows, quarantined, content.digest, seconds, card
    )


def _done_records(job: Job, job_dir: JobDir) -> list[DoneRecord]:
    """Every shard's done record, checked for completeness, its file for its digest."""
    found = [read_done(job_dir, shard.index) for shard in job.shards]
    missing = [shard.index for shard, record in zip(job.shards, found, strict=True) if record is None]
    if missing:
        raise HoldfastError(
            f"{len(missing)} of {len(found)} shards are not done; holdfast resume {job_dir.path} goes on"
        )
    records = [record for record in found if record is not None]
    for shard, record in zip(job.shards, records, strict=True):
        _check(job_dir, shard, record)
    total = sum(record.num_embedded + len(record.quarantine) for record in records)
    if total != job.counts.num_records:
        raise Damage(f"{job_dir.path}: {total} records accounted for, {job.counts.num_records} were read")
    return records


def _check(job_dir: JobDir, shard: Shard, record: DoneRecord) -> None:
    path = job_dir.results / record.file
    if not path.is_file() or file_digest(path) != record.digest:
        raise Damage(
            f"shard {shard.index}: {path} is missing or damaged; "
            f"holdfast resume {job_dir.path} computes it again"
        )
    if record.num_embedded + len(record.quarantine) != shard.num_records:
        raise Damage(
            f"shard {shard.index}: {record.num_embedded} embedded + {len(record.quarantine)} quarantined, "
            f"of {shard.num_records} records"
        )


class _Content:
    """The rows of all shards, streamed; counted and digested as they pass. Implements `Results`."""

    def __init__(self, job: Job, job_dir: JobDir, done: list[DoneRecord], h5_layout: H5Layout | None) -> None:
        self.files = [job_dir.results / record.file for record in done]
        self.num_rows = sum(record.num_embedded for record in done)
        self.as_published = (job.twins is None and job.reuse is None) or self.num_rows == 0
        self._rows = partial(in_input_order, job, job_dir, dict(enumerate(done)))
        self.dim = job.model.dim
        self.columns = column_names(job.options)
        self.is_ragged = is_ragged(job.options)
        self.dtype = job.options.store_dtype
        self.h5_layout = h5_layout or job.run.h5_layout
        self.provenance = provenance(job, self.num_rows)
        self.digest = ""

    def batches(self) -> Iterator[pa.RecordBatch]:
        content, rows = ContentDigest(self.columns, ragged=self.is_ragged), 0
        for batch in self._rows():
            content.update(batch)
            rows += batch.num_rows
            yield batch
        if rows != self.num_rows:
            raise Damage(f"{rows} rows in the results, {self.num_rows} were published")
        self.digest = content.hexdigest()


def provenance(job: Job, num_embedded: int) -> dict[str, str]:
    """What is the same in every run of the job, as strings: it stands inside the output."""
    return {
        "model_name": job.model.name,
        "model_digest": job.model.digest,
        "job_digest": job.digest,
        "inputs": json.dumps([{"name": file.name, "digest": file.digest} for file in job.inputs]),
        "options": json.dumps(asdict(job.options), sort_keys=True),
        "num_records": str(job.counts.num_records),
        "num_embedded": str(num_embedded),
        "num_quarantined": str(job.counts.num_records - num_embedded),
        "num_reused": str(job.reuse.num_vectors if job.reuse else 0),
    }


def _write_companions(
    job: Job, job_dir: JobDir, output: Path, content: Results, done: list[DoneRecord]
) -> RunCard:
    """quarantine.tsv and the run card, then meta.json: its being there says that everything else is."""
    quarantine = sorted((entry for record in done for entry in record.quarantine), key=lambda e: e.ordinal)
    listed = output.with_name(output.name + ".quarantine.tsv")
    if quarantine:
        write_durably(listed, "".join(_tsv_lines(quarantine)).encode())
    else:
        listed.unlink(missing_ok=True)
    card = make_card(
        job,
        job_dir,
        output,
        content_digest=content.digest,
        num_embedded=content.num_rows,
        quarantine=quarantine,
        versions=_versions(job),
    )
    markdown, data = card_paths(output)
    write_durably(markdown, card_markdown(card).encode())
    write_durably(data, json.dumps(card.as_json(), indent=1).encode())
    write_durably(meta_path(output), json.dumps(_meta(job, output, content), indent=1).encode())
    return card


def _versions(job: Job) -> dict[str, str]:
    """Of what is installed here; of transformers where it ran the model."""
    found = {"python": platform.python_version(), **{name: version(name) for name in VERSIONS_OF}}
    if job.model.family == "auto":
        with contextlib.suppress(PackageNotFoundError):  # on the host of the workers it is there
            found["transformers"] = version("transformers")
    return found


def _tsv_lines(entries: list[QuarantineEntry]) -> Iterator[str]:
    yield "ordinal\tid\tlength\treason\n"
    for entry in entries:
        fields = (str(entry.ordinal), entry.id, str(entry.length), entry.reason)
        yield "\t".join(one_line(field).replace("\t", " ") for field in fields) + "\n"


def output_damage(job: Job) -> list[str]:
    """What is wrong with the job's output, if it was written; one that was moved away is not damage."""
    output, meta = Path(job.output), exported(job)
    if meta is None or not output.exists():
        return []
    written = {output.parent / name: digest for name, digest in meta["files"].items()}
    damaged = [path for path, digest in written.items() if not path.is_file() or file_digest(path) != digest]
    return [f"output {path} is not what was written; run the same embed command again" for path in damaged]


def _meta(job: Job, output: Path, content: Results) -> dict[str, Any]:
    return {
        "job": job.job_id,
        "content_digest": content.digest,
        "files": {str(path.relative_to(output.parent)): file_digest(path) for path in files_of(output)},
        "sequences": {
            "total": job.counts.num_records,
            "done": content.num_rows,
            "quarantined": job.counts.num_records - content.num_rows,
            "duplicate_ids": job.counts.num_duplicate_ids,
            "duplicate_sequences": job.counts.num_duplicate_sequences,
            "twins": job.twins.num_twins if job.twins else 0,
            "reused": job.reuse.num_vectors if job.reuse else 0,
        },
        "reuse": asdict(job.reuse) if job.reuse else None,
        "dim": content.dim,
        "columns": list(content.columns),
        "model": asdict(job.model),
        "options": asdict(job.options),
        "inputs": [asdict(file) for file in job.inputs],
        "versions": _versions(job),
        "host": socket.gethostname(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
