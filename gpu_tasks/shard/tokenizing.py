"""A shard's texts made tokens under a note that outlives the process: a text that kills costs itself alone.

A tokenizer takes hundreds of bytes for a character, and where it gets no more memory it ends its process. It
is noted, counted and concluded as the crash log of the batches does it (checkpoint/crash_log.py): after a
death in a chunk of records each is tried alone, and one in which the process died twice is not tried again.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from checkpoint.process_identity import ProcessId, host_key, identify
from checkpoint.store_files import clear_when_full, make_store_directory, write_as_directory
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.shard.trouble.whose_failure import Whose, whose

CHUNK_CHARACTERS = 1 << 20
CHUNK_RECORDS = 4096
Ids = npt.NDArray[np.int32]
Process = tuple[int, int]


@dataclass(slots=True)
class _Note:
    """`at` are the ordinals that are being tokenised; keys of the dicts are ordinals as strings, as JSON has
    them."""

    at: list[int] = field(default_factory=list)
    host: str = ""
    process: Process | None = None
    """None where it lives on and its tokenizer has raised `error`."""
    parent: Process | None = None
    error: str = ""
    suspects: list[int] = field(default_factory=list)
    deaths: dict[str, int] = field(default_factory=dict)
    accused: dict[str, str] = field(default_factory=dict)


class TokenizingLog:
    """The note of one shard. `open` counts what the last process left in it."""

    def __init__(self, path: Path, note: _Note, accuse_after: int) -> None:
        self._path = path
        self._note = note
        self._accuse_after = accuse_after
        self.has_accused = False
        """Now, as it was opened: a plan that was made before had one record more."""
        self._take_stock()

    @classmethod
    def open(cls, path: Path, *, accuse_after: int) -> "TokenizingLog":
        """A note that cannot be read, as after a power loss, is as good as none."""
        try:
            note = _Note(**json.loads(path.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            note = _Note()
        return cls(path, note, accuse_after)

    @property
    def accused(self) -> Mapping[int, str]:
        """Records that are not to be tokenised again, and why."""
        return {int(ordinal): reason for ordinal, reason in self._note.accused.items()}

    def tokenize(
        self, model: EmbeddingModel, ordinals: Sequence[int], sequences: Sequence[str]
    ) -> dict[int, Ids]:
        """The ids of each record by its ordinal; those that are accused are left out.

        Raises:
            Exception: whatever tokenising raised; what was being tokenised stays noted.
            DiskFull: no room for the note.
        """
        make_store_directory(self._path.parent)
        accused = self.accused
        wanted = [each for each in zip(ordinals, sequences, strict=True) if each[0] not in accused]
        tokens: dict[int, Ids] = {}
        for chunk in self._chunks(wanted):
            chosen = [ordinal for ordinal, _ in chunk]
            self._begin(chosen)
            try:
                ids = model.tokenize([sequence for _, sequence in chunk])
            except Exception as error:
                self._failed(error)
                raise
            tokens.update(zip(chosen, ids, strict=True))
        self._rest()
        return tokens

    def _chunks(self, records: Sequence[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
        """Those under suspicion alone, the others many at a time."""
        suspects = set(self._note.suspects)
        chunk: list[tuple[int, str]] = []
        num_characters = 0
        for record in records:
            if record[0] in suspects:
                yield [record]
                continue
            if chunk and (num_characters + len(record[1]) > CHUNK_CHARACTERS or len(chunk) == CHUNK_RECORDS):
                yield chunk
                chunk, num_characters = [], 0
            chunk.append(record)
            num_characters += len(record[1])
        if chunk:
            yield chunk

    # ---- noting

    def _begin(self, ordinals: list[int]) -> None:
        self._note.at, self._note.host, self._note.error = ordinals, host_key(), ""
        self._note.process, self._note.parent = _process(os.getpid()), _process(os.getppid())
        self._write()

    def _failed(self, error: Exception) -> None:
        """As if the process had died of it, unless the host fails all alike."""
        self._note.process, self._note.error = None, f"{type(error).__name__}: {error}"
        if whose(error) is Whose.HOST:
            self._note.at = []
        self._write()

    def _rest(self) -> None:
        """All that were to be tokenised are: what died before did not die of them."""
        self._note.at, self._note.suspects, self._note.deaths = [], [], {}
        if self._note.accused:
            self._write()
        else:
            self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        """Raises DiskFull."""
        temporary = self._path.with_name(self._path.name + ".tmp")
        with clear_when_full(self._path):
            write_as_directory(temporary, json.dumps(asdict(self._note)))
            temporary.replace(self._path)

    # ---- counting

    def _take_stock(self) -> None:
        note = self._note
        if not note.at or self._goes_on():
            return
        if len(note.at) > 1:
            note.suspects += note.at
        elif self._was_seen():
            (ordinal,) = map(str, note.at)
            note.deaths[ordinal] = note.deaths.get(ordinal, 0) + 1
            if note.deaths[ordinal] >= self._accuse_after:
                what = f"failed ({note.error})" if note.error else "ended the process"
                self.has_accused = True
                note.accused[ordinal] = f"tokenising it {what}, {note.deaths[ordinal]} times"
        note.at = []
        self._write()

    def _goes_on(self) -> bool:
        """True where the process that wrote the note still lives, perhaps without a lease."""
        here = self._note.host == host_key()
        return here and self._note.process is not None and ProcessId(*self._note.process).is_alive()

    def _was_seen(self) -> bool:
        """True when the parent of the process that died still lives: a kill of both accuses nobody."""
        here = self._note.host == host_key()
        return here and self._note.parent is not None and ProcessId(*self._note.parent).is_alive()


def _process(pid: int) -> Process | None:
    found = identify(pid)
    return None if found is None else (found.pid, found.start_time)
