"""The check of disks: those a job would lie on, by their kind, their room, and how fast they are."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from rich.filesize import decimal

from checkpoint.network_filesystems import NETWORK_FILE_SYSTEMS, mount_of
from queue_app.job.directory import standing
from queue_app.preflight.findings import Finding

PASSING = {
    "tmpfs": "it is memory, and empty after a restart: choose another --job-dir",
    "ramfs": "it is memory, and empty after a restart: choose another --job-dir",
    "overlay": "inside a container it is gone with the container: mount a volume, and let the job lie there",
}
"""File systems that are as safe as their machine or container, and what to do."""
FREE_BYTES_LEAST = 1 << 30
FREE_FILES_LEAST = 1_000
PIECE_BYTES = 2 << 20
PIECES = 16
PROBE_SECONDS = 3.0
SLOW_SECONDS = 0.2
"""A durable write may take so long: at a commit every 2 s the disk would be busy a tenth of the time."""


def examine_disks(job_dir: Path, scratch: Path | None) -> Iterator[Finding]:
    """The job directory's, and that of the checkpoints where it is another."""
    yield _kind("disk", job_dir, scratch)
    if scratch is not None:
        yield _kind("scratch", scratch, None)
    for path in dict.fromkeys((job_dir, scratch or job_dir)):
        yield examine_room(path)
    yield examine_speed(scratch or job_dir)


def _kind(topic: str, path: Path, scratch: Path | None) -> Finding:
    mount = mount_of(path)
    if mount is None:
        return Finding(topic, "ok", f"{path.absolute()}: of a kind that cannot be told here")
    where = f"{path.absolute()} lies on {mount.type} ({mount.point})"
    if mount.type not in NETWORK_FILE_SYSTEMS:
        remedy = PASSING.get(mount.type, "")
        return Finding(topic, "warning" if remedy else "ok", where, remedy)
    if scratch is not None:
        return Finding(topic, "ok", f"{where}, a network file system; checkpoints go to {scratch}")
    remedy = "set HOLDFAST_SCRATCH to a directory on a local disk: LMDB is not safe on a network"
    return Finding(topic, "problem", f"{where}, a network file system", remedy)


def examine_room(path: Path) -> Finding:
    there = standing(path.absolute())
    free = shutil.disk_usage(there).free
    left = os.statvfs(there)
    text = f"{decimal(free)} free at {there}"
    if left.f_files and left.f_favail < FREE_FILES_LEAST:  # some file systems count no files
        return Finding(
            "room", "warning", f"{text}, but for {left.f_favail:,} files only", "remove small files"
        )
    if free < FREE_BYTES_LEAST:
        return Finding(
            "room", "warning", text, "holdfast plan says what a job needs; holdfast clean frees some"
        )
    return Finding("room", "ok", text)


def examine_speed(path: Path) -> Finding:
    """What a commit does: some megabytes, then fsync. Nothing is left behind."""
    there = standing(path.absolute())
    try:
        seconds = median(_durable_writes(there))
    except OSError as error:
        text = f"cannot be written: {there}: {error.strerror}"
        return Finding("disk speed", "problem", text, "choose another --job-dir, or mend its permissions")
    speed = f"{decimal(round(PIECE_BYTES / seconds))}/s"
    text = f"{decimal(PIECE_BYTES)} are safe after {seconds * 1000:.1f} ms: {speed}"
    if seconds < SLOW_SECONDS:
        return Finding("disk speed", "ok", text)
    remedy = "commits may keep a fast device waiting: HOLDFAST_SCRATCH on a faster local disk"
    return Finding("disk speed", "warning", text, remedy)


def _durable_writes(directory: Path) -> Iterator[float]:
    """Seconds of each, for a few seconds at most."""
    piece = os.urandom(PIECE_BYTES)  # zeros would be compressed away
    begun = time.monotonic()
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(PIECES):
            started = time.monotonic()
            file.write(piece)
            file.flush()
            os.fsync(file.fileno())
            yield time.monotonic() - started
            if time.monotonic() - begun > PROBE_SECONDS:
                return
