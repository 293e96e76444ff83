"""What the shell offers where a job is to be named."""

from collections.abc import Iterator
from pathlib import Path


def jobs_here(incomplete: str) -> list[str]:
    """The jobs whose names begin so: by its output where that is written, else by its directory.

    Where there is none, the shell offers files.
    """
    folder, slash, begin = incomplete.rpartition("/")
    return [f"{folder}{slash}{name}" for name in _names(Path(folder + slash)) if name.startswith(begin)]


def _names(folder: Path) -> Iterator[str]:
    from queue_app.job.directory import ENDING

    for directory in sorted(folder.glob(f"*{ENDING}")):
        output = directory.with_suffix("")
        yield output.name if output.exists() else directory.name
