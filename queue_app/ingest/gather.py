"""What the user named as inputs, made into files: directories, patterns, pipes and standard input.

The order is the user's, and by name within a directory or pattern. What can be read only once is kept in
the job directory until it has been read: the producer reads every input twice.
"""

import contextlib
import errno
import glob
import logging
import os
import select
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, repeat
from pathlib import Path

from queue_app.errors import InputError
from queue_app.host.durable_files import room_for
from queue_app.host.own_files import begun, make_inner_directory
from queue_app.ingest.readers.bounds.limits import DEFAULT, Limits
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
TOLD_AFTER_SECONDS = (5, 60)
STANDARD_INPUT_DESCRIPTOR = 0


@contextlib.contextmanager
def gather(named: Sequence[Path], spool: Path, limits: Limits = DEFAULT) -> Iterator[list[Input]]:
    """Every file that is meant. `spool`, a directory that is gone afterwards, takes what pipes give.

    Raises:
        InputError: names what is missing, empty, unreadable, no input, or named twice.
        DiskFull: no room for what a pipe gives.
    """
    try:
        files = expand(named, limits)
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
    targets = {_resolved(path) for path in (*written, output.parent / f"{output.stem}{IDS_ENDING}")}
    for file in files:
        path = _resolved(file.named)
        if targets & {path, *path.parents}:
            raise InputError(f"{file.title}: the output {output} would replace this input; choose another -o")


def _resolved(path: Path) -> Path:
    """Unlike that of Path this raises nothing where links lead back to themselves."""
    return Path(os.path.realpath(path))


def expand(named: Sequence[Path], limits: Limits = DEFAULT) -> list[Path]:
    """Directories and patterns replaced by what they hold. Raises InputError for those that hold nothing."""
    return [file for path in named for file in _files_of(path, limits)]


def _files_of(path: Path, limits: Limits) -> list[Path]:
    if path == STANDARD_INPUT:
        return [path]
    if path.is_dir():
        return _files_in(path, limits)
    if path.exists() or not any(sign in str(path) for sign in "*?["):
        return [path]
    # Links within that lead back to where they stand would match for ever.
    matches = glob.iglob(str(path), recursive=True)  # noqa: PTH207 Path's own knows no /
    found = [each for each in _at_most(limits, path, map(Path, matches)) if not _is_of_a_job(each)]
    if not found:
        raise InputError(f"{path}: no file matches this pattern")
    for each in found:
        if each.exists() and not each.is_file() and not each.is_dir():
            raise InputError(
                f"{each}: matches {path}, and is no file; a pipe is read when it is named itself"
            )
    return [file for each in sorted(found) for file in _files_of(each, limits)]


def _at_most(limits: Limits, where: Path, paths: Iterable[Path]) -> list[Path]:
    """Raises InputError where there are more than anybody means."""
    found = list(islice(paths, limits.files + 1))
    if len(found) > limits.files:
        raise InputError(f"{where}: {limits.more_than('files', 'files')}")
    return found


def _files_in(directory: Path, limits: Limits) -> list[Path]:
    """The files whose names say a format, which must be one: a note or a table beside FASTA is no input."""
    if JobDir(directory).job_json.exists():
        raise InputError(f"{directory}: a job directory, and no input; holdfast resume {directory} goes on")
    saved = saved_dataset(directory)
    if saved is not None:
        return saved
    there = sorted(_at_most(limits, directory, directory.iterdir()))
    visible = [path for path in there if not path.name.startswith(".")]
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
    """JSON beside files of another format says something of them, most likely, and holds no records.

    A pipe or a device is none of them, whatever its name; a broken link is, and will be refused.
    """
    files = [path for path in paths if format_by_name(path) and (path.is_file() or not path.exists())]
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
            raise InputError(f"{path}: {_why_missing(path)}")
        if not path.is_file() and not path.is_fifo():
            raise InputError(f"{path}: neither a file nor a pipe")
        if path.is_file() and path.stat().st_size == 0:
            raise InputError(f"{path}: an empty file")
    times = Counter(path.resolve() for path in files)
    for path in files:
        if times[path.resolve()] > 1:
            raise InputError(f"{path}: this input is named twice")


def _why_missing(path: Path) -> str:
    if not path.is_symlink():
        return "no such file"
    try:
        path.stat()
    except OSError as error:
        return "a link that leads back to itself" if error.errno == errno.ELOOP else "a broken link"
    return "a broken link"


def _as_input(path: Path, spool: Path) -> Input:
    if path != STANDARD_INPUT and path.is_file():
        return Input(path, path)
    piped = Input(spool, path)
    if path == STANDARD_INPUT and os.isatty(STANDARD_INPUT_DESCRIPTOR):
        raise InputError(
            "stdin: a terminal; pipe a file into it, as in: zcat a.fasta.gz | holdfast embed - …"
        )
    make_inner_directory(spool.parent)
    begun(spool)
    with room_for(spool), _opened(path) as pipe, spool.open("wb") as file:
        while part := _next_part(pipe, piped.title):
            file.write(part)
    if spool.stat().st_size == 0:
        raise InputError(f"{piped.title}: nothing came out of it")
    return piped


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A descriptor of a pipe, at once: where nobody writes to it yet, opening it would wait unseen."""
    if path == STANDARD_INPUT:
        yield STANDARD_INPUT_DESCRIPTOR  # not ours to close
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _next_part(pipe: int, title: str) -> bytes:
    """What came next; nothing at the end. One waits as long as it takes, and is told so."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    for seconds in chain(TOLD_AFTER_SECONDS, repeat(TOLD_AFTER_SECONDS[-1])):
        if poll.poll(1000 * seconds):
            break
        log.warning("%s: nothing has come out of it for %d seconds; waiting", title, seconds)
    try:
        return os.read(pipe, COPY_BYTES)
    except OSError as error:
        raise InputError(f"{title}: cannot be read: {error.strerror}") from None
