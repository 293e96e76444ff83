"""The records of a job that were set aside, some at a time."""

from dataclasses import dataclass

from checkpoint.records import QuarantineEntry
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import TRANSIENT
from queue_app.dashboard.job_source import Place
from queue_app.job.quarantine import list_quarantine

PAGE_SIZE = 50


@dataclass(frozen=True, slots=True)
class Aside:
    """Entries `start` and following, of `num_entries` that are known; by ordinal."""

    start: int
    num_entries: int
    entries: tuple[QuarantineEntry, ...]


def read_aside(place: Place, job_id: str, start: int) -> Aside:
    """Those of finished shards; without a server also what the stores of the others say.

    Raises redis errors where there is no directory to be read instead.
    """
    try:
        entries = CheckpointManifest(place.client(), job_id).quarantine()
    except TRANSIENT:
        if place.directory is None:
            raise
        entries = list_quarantine(place.directory)
    return Aside(start, len(entries), tuple(entries[start : start + PAGE_SIZE]))
