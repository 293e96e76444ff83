"""One look at a job: what the server says of it, or where that is away, its directory."""

import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import redis

from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.trust.values import Garbage
from queue_app.dashboard.about import About
from queue_app.dashboard.job_source import Place, load
from queue_app.dashboard.shard_cells import Cell, ShardMap, cells_of_directory, with_losses
from queue_app.job.directory import JobDir
from queue_app.settings import RuntimeConfig
from queue_app.status.directory_snapshot import snapshot_of_directory
from queue_app.status.job_snapshot import JobSnapshot
from queue_app.status.snapshot import snapshot
from queue_app.status.worker_history import SeenWorker, WorkerHistory

DIRECTORY_EVERY_SECONDS = 5.0

Source = Literal["server", "directory", "memory"]


@dataclass(frozen=True, slots=True)
class Look:
    """A job at one moment. `samples` are (seconds, sequences done), oldest first."""

    summary: JobSnapshot
    about: About
    cells: tuple[Cell, ...]
    samples: tuple[tuple[float, int], ...] = ()
    source: Source = "server"
    """`memory`: what was last seen, for neither server nor directory answers now."""


class JobReader:
    """Looks at one job again and again."""

    def __init__(self, place: Place, job_id: str, config: RuntimeConfig) -> None:
        self.place = place
        self.job_id = job_id
        self.config = config
        self._map = ShardMap()
        self._known: About | None = None
        self._last: Look | None = None
        self._directory_read_at = float("-inf")

    def look(self) -> Look | None:
        """None when nobody knows the job, or nobody who knows it answers."""
        fault = ""
        try:
            seen = self._from_server(self.place.client())
        except TRANSIENT:
            seen = None
        except Garbage as error:  # the directory may say more
            seen, fault = None, str(error)
        self._last = seen or self._from_directory() or self._from_memory()
        if self._last is not None and fault:
            return replace(self._last, summary=replace(self._last.summary, trouble=fault))
        return self._last

    def _from_server(self, client: redis.Redis) -> Look | None:
        summary = snapshot(client, self.job_id, lease_seconds=self.config.lease_seconds)
        if summary is None:
            return None
        manifest = CheckpointManifest(client, self.job_id)
        cells = self._map.look(manifest, summary.num_shards, summary.state)
        self._directory_read_at = float("-inf")
        about = self._about(client)
        samples = tuple((each.time, each.sequences_done) for each in reversed(manifest.samples()))
        return Look(summary, about, cells, samples)

    def _from_directory(self) -> Look | None:
        """Reading all of it may take long, and what nobody works on changes little."""
        directory = self.place.directory
        job = load(directory) if directory else None
        if directory is None or job is None or job.job_id != self.job_id:
            return None
        if self._last and time.monotonic() - self._directory_read_at < DIRECTORY_EVERY_SECONDS:
            return self._last
        summary = snapshot_of_directory(job, directory, self.config.scratch)
        self._directory_read_at = time.monotonic()
        if self._last:  # events are the server's alone, and what was seen of them is still true
            summary = replace(summary, events=self._last.summary.events)
        cells = cells_of_directory(job, directory, self._last.cells if self._last else ())
        return Look(summary, About.of(directory, job), cells, source="directory")

    def _from_memory(self) -> Look | None:
        """What was last seen; how fast it goes on, if it does, nobody knows now."""
        if self._last is None:
            return None
        workers = tuple(replace(worker, figures=None) for worker in self._last.summary.workers)
        summary = replace(self._last.summary, rate=0.0, eta_seconds=None, workers=workers)
        return replace(self._last, summary=summary, source="memory")

    def _about(self, client: redis.Redis) -> About:
        """Looked at anew each time: an output and its card appear when the job is done."""
        hint = self.place.jobs(client).get(self.job_id, "")
        directory = self.place.directory or self.place.seen(client, self.job_id, hint)
        job = load(directory) if directory else None
        if directory is not None and job is not None and job.job_id == self.job_id:
            self._known = About.of(directory, job)
        return self._known or About.of(JobDir(Path(hint)), None)  # for its name alone


SAMPLES_KEPT = 450


@dataclass(frozen=True, slots=True)
class Board:
    """All that the page shows of one job."""

    look: Look
    workers: tuple[SeenWorker, ...]
    samples: tuple[tuple[float, int], ...]


class Watch:
    """One job, looked at again and again."""

    def __init__(self, reader: JobReader) -> None:
        self.reader = reader
        self._workers = WorkerHistory()
        self._last: Look | None = None
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES_KEPT)
        # Who gives up waiting for a look does not end it: the next may be asked for meanwhile.
        self._looking = threading.Lock()

    def board(self) -> Board | None:
        """What is to be shown now. None: nobody who answers knows the job."""
        with self._looking:
            now = self.reader.look()
            return None if now is None else self._add(now)

    def _add(self, now: Look) -> Board:
        now = replace(now, cells=with_losses(self._last.cells if self._last else (), now.cells))
        self._last = now
        newest = self._samples[-1][0] if self._samples else float("-inf")
        self._samples.extend(sample for sample in now.samples if sample[0] > newest)
        return Board(now, self._workers.look(now.summary), tuple(self._samples))


CELL = ("index", "state", "done", "quarantined", "total", "attempts", "losses", "worker", "error")


def board_message(now: Board, sent: Board | None) -> dict[str, Any]:
    """What must be told to one who was told `sent`."""
    whole = sent is None or len(sent.look.cells) != len(now.look.cells)
    base = None if whole else sent
    return {
        "whole": whole,
        "source": now.look.source,
        "about": asdict(now.look.about),
        "status": {**now.look.summary.as_json(), "workers": [_worker(seen) for seen in now.workers]},
        "cells": _changed_cells(now, base),
        "samples": _new_samples(now, base),
    }


def _worker(seen: SeenWorker) -> dict[str, Any]:
    return {**asdict(seen.view), "restarts": seen.restarts}


def _changed_cells(now: Board, sent: Board | None) -> list[list[Any]]:
    if sent is None:
        return [_cell(cell) for cell in now.look.cells]
    pairs = zip(sent.look.cells, now.look.cells, strict=True)
    return [_cell(new) for old, new in pairs if new != old]


def _cell(cell: Cell) -> list[Any]:
    return [getattr(cell, field) for field in CELL]


def _new_samples(now: Board, sent: Board | None) -> list[tuple[float, int]]:
    newest = sent.samples[-1][0] if sent and sent.samples else float("-inf")
    return [sample for sample in now.samples if sample[0] > newest]
