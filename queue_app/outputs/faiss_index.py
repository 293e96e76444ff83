"""`holdfast index`: a FAISS index of a finished job's vectors, beside its output.

A vector is found under its row number, which is that of its row in every output and of its line in
<index>.ids.txt. <index>.json says what the index is and which files belong to it; it is written last.
"""

import contextlib
import json
import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from checkpoint.records import DoneRecord
from queue_app.choices import Metric
from queue_app.errors import UsageError
from queue_app.host.durable_files import (
    AS_UMASK_SAYS,
    DigestedFile,
    has_digest,
    room_for,
    sync_file,
    write_durably,
)
from queue_app.job.directory import JobDir, make_directories
from queue_app.job.done_records import results_digest
from queue_app.job.output_names import ids_path, target_of
from queue_app.job.output_place import check_parents, claim, give_up_claim, is_claimed, output_of
from queue_app.job.result_files import as_matrix
from queue_app.job.spec import Job
from queue_app.outputs.content import Content, content_lock
from queue_app.outputs.formats.replacing import Digests, id_lines, replacing

ENDINGS = (".faiss", ".index")
POINTS_LEAST = 39
"""Below so many vectors a cluster, FAISS finds its clusters doubtful."""
POINTS_USUAL = 64
TRAINED_BY_LEAST = 65_536
PROBED_SHARE = 16
"""An `ivf` is searched in 1/16 of its clusters, and in 8 at least: `nprobe` of the index says how many."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What was written: an index of so many rows of a column, and who has no row in it."""

    path: Path
    num_records: int
    num_rows: int
    dim: int
    column: str
    kind: str
    metric: Metric

    @property
    def num_quarantined(self) -> int:
        return self.num_records - self.num_rows

    def as_json(self) -> dict[str, Any]:
        return {
            "index": str(self.path),
            "ids": str(ids_path(self.path)),
            "rows": self.num_rows,
            "dim": self.dim,
            "column": self.column,
            "kind": self.kind,
            "metric": self.metric,
            "quarantined": self.num_quarantined,
        }

    def lines(self) -> list[str]:
        what = f"{self.num_rows:,} vectors of {self.dim:,} numbers, {self.kind}, by {self.metric}"
        return [f"{self.path}: {what}; row numbers, whose ids are in {ids_path(self.path).name}"]


def default_index(output: Path) -> Path:
    return output.with_name(f"{output.name}.faiss")


def write_index(
    job: Job,
    job_dir: JobDir,
    path: Path,
    *,
    kind: str = "flat",
    metric: Metric = "cosine",
    column: str | None = None,
    overwrite: bool = False,
) -> IndexReport:
    """Build the index, which is in memory meanwhile, from vectors that are not.

    Args:
        kind: `flat` compares with every vector, `hnsw` walks a graph, `ivf` looks into some of its clusters;
            or what `faiss.index_factory` understands, as "IVF4096,PQ64".
        metric: for `cosine` vectors are made of unit length, and queries are to be as well.
        column: which vectors, where the job has several.

    Raises:
        UsageError: FAISS is not installed, or knows no such kind; the job has no such column; something else
            lies there.
        HoldfastError: shards are not done yet.
        Damage: a result is not the one that was published.
        DiskFull: no room; the index that was there before stays.
    """
    require_faiss()
    _check_place(path)
    with content_lock(job_dir):
        if not overwrite:
            _refuse_foreign(path, job_dir, job.job_id)
        content = Content(job, job_dir)
        column = _column(content, column)
        index = _trained(content, column, kind, metric)
        make_directories(path.absolute().parent)
        claim(job_dir, path)
        with room_for(path):
            files = _write(path, content, index, column, metric)
            report = IndexReport(
                path, job.counts.num_records, content.num_rows, content.dim, column, kind, metric
            )
            _tell(report, job, content, files)
        give_up_claim(job_dir, path)
    return report


def require_faiss() -> None:
    """Raises UsageError, with what to do, where FAISS is missing."""
    if find_spec("faiss") is None:
        raise UsageError("an index is built by faiss, not installed here: pip install 'holdfast[faiss]'")


def index_damage(job: Job, job_dir: JobDir, done: Sequence[DoneRecord]) -> list[str]:
    """What is wrong with the index beside the job's output; nothing where there is none of this job.

    `done` are the records that count; only when no shard is missing among them an index can be out of date.
    """
    with contextlib.suppress(UsageError):  # a directory that was moved: nobody knows where its output is
        path = default_index(output_of(job, job_dir))
        told = _told(path)
        if told is not None and told["job"] == job.job_id and path.exists():
            files = ((path.parent / name, digest) for name, digest in told["files"].items())
            damaged = [each for each, digest in files if not has_digest(each, digest)]
            if damaged:
                return [f"index {each} is not what was written; run holdfast index again" for each in damaged]
            return _outdated(path, told, job, job_dir, done)
    return []


def _outdated(
    path: Path, told: dict[str, Any], job: Job, job_dir: JobDir, done: Sequence[DoneRecord]
) -> list[str]:
    """Whether an index was made from other results than those that count, and the command that renews it."""
    if len(done) < len(job.shards) or told.get("results_digest") == results_digest(done):
        return []
    asked = [f"--{key}={told[key]}" for key in ("kind", "metric", "column") if key in told]
    again = shlex.join(["holdfast", "index", str(job_dir.path), *asked])
    return [f"index {path} was made from other results than those that count now; {again} makes it anew"]


# ---- what is refused


def _check_place(path: Path) -> None:
    if path.suffix not in ENDINGS:
        raise UsageError(f"{path}: an index is called .faiss or .index, as in {default_index(path)}")
    check_parents(path)
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: not a file; choose another name")


def _refuse_foreign(path: Path, job_dir: JobDir, job_id: str) -> None:
    told = _told(path)
    if is_claimed(job_dir, path) or (told is not None and told["job"] == job_id):
        return
    for each in (path, ids_path(path), _told_path(path)):
        if each.exists():
            raise UsageError(
                f"{each}: is there already, not written by this job; move it away, choose another -o, or "
                "replace it with --overwrite"
            )


def _column(content: Content, asked: str | None) -> str:
    if content.is_ragged:
        raise UsageError("an index has one vector a record, and --pool none makes one for every token")
    if asked in content.columns or (asked is None and len(content.columns) == 1):
        return asked or content.columns[0]
    had = "no column is named" if asked is None else f"no column {asked}"
    raise UsageError(f"{had}; the job has: {', '.join(content.columns)} (--column)")


# ---- the index


def _trained(content: Content, column: str, kind: str, metric: Metric) -> Any:
    index = _empty(kind, content.dim, metric, content.num_rows)
    if not index.is_trained:
        _train(index, content, column, kind, metric)
    return index


def _empty(kind: str, dim: int, metric: Metric, num_rows: int) -> Any:
    import faiss

    num_clusters = max(1, min(4 * math.isqrt(num_rows), num_rows // POINTS_LEAST))
    written = {"flat": "Flat", "hnsw": "HNSW32", "ivf": f"IVF{num_clusters},Flat"}.get(kind, kind)
    by = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    try:
        index: Any = faiss.index_factory(dim, written, by)
    except RuntimeError as error:
        raise _not_understood(kind, error) from None
    if kind == "ivf":
        index.nprobe = min(num_clusters, max(8, num_clusters // PROBED_SHARE))
    return index


def _train(index: Any, content: Content, column: str, kind: str, metric: Metric) -> None:
    """By rows that lie evenly in the job, so many for each of its clusters."""
    import faiss

    if content.num_rows == 0:
        raise UsageError(f"--kind {kind} learns from the vectors, and the job has none; flat needs none")
    found = faiss.try_extract_index_ivf(index)
    wanted = max(TRAINED_BY_LEAST, POINTS_USUAL * (found.nlist if found else 0))
    step = max(1, content.num_rows // wanted)
    try:
        index.train(np.concatenate(list(_every(step, content, column, metric))))
    except RuntimeError as error:
        raise _not_understood(kind, error) from None


def _every(step: int, content: Content, column: str, metric: Metric) -> Iterator[Floats]:
    """Rows 0, step, 2 * step, …"""
    row = 0
    for batch in content.batches():
        yield _vectors(batch, column, metric)[-row % step :: step]
        row += batch.num_rows


def _vectors(batch: pa.RecordBatch, column: str, metric: Metric) -> Floats:
    import faiss

    vectors = np.array(as_matrix(batch.column(column)), np.float32, order="C")
    if metric == "cosine":
        faiss.normalize_L2(vectors)
    return vectors


def _not_understood(kind: str, error: RuntimeError) -> UsageError:
    return UsageError(f"--kind {kind}: not for these vectors, says FAISS: {str(error).rsplit(': ', 1)[-1]}")


# ---- the files


def _write(path: Path, content: Content, index: Any, column: str, metric: Metric) -> Digests:
    """Fill the index with all vectors, and write it and the ids."""
    import faiss

    with replacing(ids_path(path)) as ids_temporary, replacing(path) as temporary:
        with DigestedFile(temporary) as file, DigestedFile(ids_temporary) as ids:
            for batch in content.batches():
                index.add(_vectors(batch, column, metric))
                ids.write(id_lines(batch))
            faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]
        sync_file(temporary)
        sync_file(ids_temporary)
    return {path: file.hexdigest(), ids_path(path): ids.hexdigest()}


def _tell(report: IndexReport, job: Job, content: Content, files: Digests) -> None:
    told = {
        "job": job.job_id,
        **report.as_json(),
        "index": report.path.name,
        "ids": ids_path(report.path).name,
        "content_digest": content.digest,
        "results_digest": content.results_digest,
        "files": {each.name: digest for each, digest in files.items()},
        "provenance": dict(content.provenance),
    }
    write_durably(target_of(_told_path(report.path)), json.dumps(told, indent=1).encode(), mode=AS_UMASK_SAYS)


def _told_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _told(path: Path) -> dict[str, Any] | None:
    """What was told of an index; None where nothing of ours lies there."""
    try:
        told = json.loads(_told_path(path).read_bytes())
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) and {"job", "files"} <= told.keys() else None
