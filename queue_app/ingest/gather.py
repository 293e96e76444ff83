"""What the user named as inputs, made into files: directories, patterns, pipes and standard input.

The order is the user's, and by name within a directory or pattern. What can be read only once is kept in
the job directory until it has been read: the producer reads every input twice.
"""

import contextlib
import glob
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from queue_app.errors import InputError
from queue_app.host.durable_files import room_for
from queue_app.host.own_files import begun, make_inner_directory
from queue_app.ingest.readers.formats import FORMATS, format_by_name
from queue_app.ingest.readers.saved_dataset import downloaded_dataset, saved_dataset
from queue_app.ingest.readers.sources import STANDARD_INPUT, Input
from queue_app.job.directory import JobDir

log = logging.getLogger(__name__)

MARKS_OF_AN_OUTPUT = (".card.json", ".holdfast")
ENDINGS_OF_AN_OUTPUT = (
    "", ".quarantine.tsv", ".card.json", ".card.md", ".holdfast", ".ids.txt", ".faiss", ".faiss.ids.txt",
    ".faiss.json",
)  # fmt: skip
IDS_ENDING = ".ids.txt"
NAMED_OF_IGNORED = 3
COPY_BYTES = 1 << 20
STANDARD_INPUT_DESCRIPTOR = 0


@contextlib.contextmanager
def gather(named: Sequence[Path], spool: Path) -> Iterator[list[Input]]:
    """Every file that is meant. `spool`, a directory that is gone afterwards, takes what pipes give.

    Raises:
        InputError: names what is missing, empty, unreadable, no input, or named twice.
        DiskFull: no room for what a pipe gives.
    """
    try:
        files = expand(named)
        _check(files)
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from None
    shutil.rmtree(spool, ignore_errors=True)  # of a run that was killed
    try:
        yield [_as_input(path, spool / str(index)) for index, path in enumerate(files)]
    finally:
        shutil.rmtree(spool, ignore_errors=True)


def refuse_replacing(files: Sequence[Input], output: Path) -> None:
    """Raises InputError for an input in the place of anything that is written, or in it: it would be lost."""
    written = [Path(f"{output}{ending}") for ending in ENDINGS_OF_AN_OUTPUT]
    targets = {path.resolve() for path in (*written, output.parent / f"{output.stem}{IDS_ENDING}")}
    for file in files:
        path = file.named.resolve()
        if targets & {path, *path.parents}:
            raise InputError(f"{file.title}: the output {output} would replace this input; choose another -o")


def expand(named: Sequence[Path]) -> list[Path]:
    """Directories and patterns replaced by what they hold. Raises InputError for those that hold nothing."""
    return [file for path in named for file in _files_of(path)]


def _files_of(path: Path) -> list[Path]:
    if path == STANDARD_INPUT:
        return [path]
    if path.is_dir():
        return _files_in(path)
    if path.exists() or not any(sign in str(path) for sign in "*?["):
        return [path]
    found = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207 Path's own knows no /
    found = [each for each in found if not _is_of_a_job(each)]
    if not found:
        raise InputError(f"{path}: no file matches this pattern")
    return [file for each in found for file in _files_of(each)]


def _files_in(directory: Path) -> list[Path]:
    """The files whose names say a format, which must be one: a note or a table beside FASTA is no input."""
    if JobDir(directory).job_json.exists():
        raise InputError(f"{directory}: a job directory, and no input; holdfast resume {directory} goes on")
    saved = saved_dataset(directory)
    if saved is not None:
        return saved
    visible = [path for path in sorted(directory.iterdir()) if not path.name.startswith(".")]
    others = [path for path in visible if not _is_of_a_job(path)]
    files = _named_as_inputs(others)
    if not files and (downloaded := downloaded_dataset(directory)):
        return downloaded
    if not files:
        endings = ", ".join(ending for form in FORMATS.values() for ending in form.endings)
        raise InputError(f"{directory}: a directory without a file whose name says a format: {endings}")
    titles = Counter(FORMATS[name].title for path in files if (name := format_by_name(path)))
    if len(titles) > 1:
        held = ", ".join(f"{count} {title}" for title, count in titles.items())
        pattern = directory / f"*{''.join(files[0].suffixes)}"
        raise InputError(
            f"{directory}: files of several formats ({held}): name those that are meant, as in '{pattern}'"
        )
    taken = set(files)
    _tell_ignored(directory, [path for path in others if path not in taken], len(files))
    return files


def _named_as_inputs(paths: Sequence[Path]) -> list[Path]:
    """JSON beside files of another format says something of them, most likely, and holds no records."""
    files = [path for path in paths if format_by_name(path) and not path.is_dir()]
    return [path for path in files if format_by_name(path) != "json"] or files


def _is_of_a_job(path: Path) -> bool:
    """True of what Holdfast wrote there itself: the same command again must find the same inputs."""
    name = str(path)
    outputs = [name.removesuffix(ending) for ending in ENDINGS_OF_AN_OUTPUT if name.endswith(ending)]
    if name.endswith(IDS_ENDING):
        outputs.append(f"{name.removesuffix(IDS_ENDING)}.npy")
    marks = (Path(f"{output}{mark}") for output in outputs for mark in MARKS_OF_AN_OUTPUT)
    return JobDir(path).job_json.exists() or any(mark.exists() for mark in marks)


def _tell_ignored(directory: Path, ignored: Sequence[Path], num_taken: int) -> None:
    if ignored:
        names = [f"{path.name}/" if path.is_dir() else path.name for path in ignored[:NAMED_OF_IGNORED]]
        more = len(ignored) - len(names)
        listed = ", ".join(names) + (f" and {more} more" if more else "")
        log.warning("%s: %d files are inputs; ignored: %s", directory, num_taken, listed)


def _check(files: Sequence[Path]) -> None:
    for path in files:
        if path == STANDARD_INPUT:
            continue
        if not path.exists():
            raise InputError(f"{path}: {'a broken link' if path.is_symlink() else 'no such file'}")
        if not path.is_file() and not path.is_fifo():
            raise InputError(f"{path}: neither a file nor a pipe")
        if path.is_file() and path.stat().st_size == 0:
            raise InputError(f"{path}: an empty file")
    times = Counter(path.resolve() for path in files)
    for path in files:
        if times[path.resolve()] > 1:
            raise InputError(f"{path}: this input is named twice")


def _as_input(path: Path, spool: Path) -> Input:
    if path != STANDARD_INPUT and path.is_file():
        return Input(path, path)
    piped = Input(spool, path)
    if path == STANDARD_INPUT and os.isatty(STANDARD_INPUT_DESCRIPTOR):
        raise InputError(
            "stdin: a terminal; pipe a file into it, as in: zcat a.fasta.gz | holdfast embed - …"
        )
    make_inner_directory(spool.parent)
    given = STANDARD_INPUT_DESCRIPTOR if path == STANDARD_INPUT else path
    # Standard input is not ours to close.
    begun(spool)
    with room_for(spool), open(given, "rb", closefd=given is path) as pipe, spool.open("wb") as file:
        shutil.copyfileobj(pipe, file, COPY_BYTES)
    if spool.stat().st_size == 0:
        raise InputError(f"{piped.title}: nothing came out of it")
    return piped
