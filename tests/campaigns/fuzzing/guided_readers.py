"""What a fuzzer that watches the code feeds to each reader of inputs: whatever it is, read whole or refused.

The first byte of an input chooses how it is asked for, the others are the file.
"""

import functools
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import cast, get_args

from queue_app.choices import Alphabet, InputFormat
from queue_app.errors import InputError
from queue_app.ingest.readers.bounds.limits import DEFAULT
from queue_app.ingest.readers.columnar.magics import ARROW_STREAM_MAGIC
from queue_app.ingest.readers.columnar.tables import File, open_table
from queue_app.ingest.readers.columns import Columns
from queue_app.ingest.readers.formats import COLUMNAR
from queue_app.ingest.readers.keep import Keep
from tests.campaigns.fuzzing.columnar_changes import seed_tables
from tests.campaigns.fuzzing.input_changes import RECORDS, seed_inputs
from tests.campaigns.fuzzing.inputs import INGESTED, TIGHT, Asked, judge
from tests.support.input_files import PACKED

CORPUS = Path(__file__).parent / "guided_corpus"
"""A folder of each reader: inputs that reach different places of it."""
ANY = "any"
"""No format is named: it is told by the first bytes, and unpacked where it is an archive."""
READERS: tuple[str, ...] = (*get_args(InputFormat), ANY)
_ALPHABETS: tuple[Alphabet, ...] = ("text", "protein", "dna")
_KEPT = (None, "all", "x")
_IDS = (None, "accession", "full")
_LIMITS = (DEFAULT, TIGHT)


def look(reader: str, data: bytes) -> None:
    """Raises AssertionError for what must not be; for Parquet and Arrow whatever the child would die of."""
    if not data:
        return
    asked, content = _asked(reader, data[0]), data[1:]
    if reader in COLUMNAR:
        _look_at_table(reader, content, asked)
        return
    whole = zlib.crc32(data) % INGESTED == 0
    verdict = judge("a" if reader == ANY else f"a.{reader}", content, asked, _home(), whole=whole)
    assert verdict.wrong is None, verdict.wrong


def look_as_the_product_does(reader: str, data: bytes) -> None:
    """The same, but through the child that Parquet and Arrow are read by."""
    if data and reader in COLUMNAR:
        verdict = judge(f"a.{reader}", data[1:], _asked(reader, data[0]), _home())
        assert verdict.wrong is None, verdict.wrong
    else:
        look(reader, data)


def _asked(reader: str, choice: int) -> Asked:
    choices = []
    for values in (_ALPHABETS, _KEPT, _IDS, _LIMITS):
        choice, place = divmod(choice, len(values))
        choices.append(values[place])
    alphabet, keep, id_rule, limits = choices
    input_format = None if reader == ANY else cast(InputFormat, reader)
    return Asked(alphabet, keep, id_rule, input_format, limits)  # type: ignore[arg-type]


@functools.cache
def _home() -> Path:
    """In memory, where there is room: each input is written."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="holdfast-guided-", dir=memory if memory.is_dir() else None))


def _look_at_table(form: str, content: bytes, asked: Asked) -> None:
    """What the child does with it, in this process, whose Python the fuzzer watches."""
    (path := _home() / "table").write_bytes(content)
    file = File(str(path), "table", form, content.startswith(ARROW_STREAM_MAGIC), asked.limits)
    try:
        chosen, batches = open_table(file, Columns(keep=Keep.of(asked.keep)))
        names = {str(number) for number in range(len(chosen.kept))} | {"sequence", "unusable"}
        for batch in batches:
            assert names <= {*batch.schema.names}
            batch.validate(full=True)
    except InputError:
        return


def seeds(reader: str) -> Mapping[str, bytes]:
    """Sound inputs for a fuzzer to begin with."""
    if reader in COLUMNAR:
        return {name: b"\3" + data for name, data in seed_tables().items() if name.startswith(reader)}
    endings = {"fasta": (".fasta", ".fa", ".pir"), "lines": (".txt",)}.get(reader, (f".{reader}",))
    found = {name: data for name, data in seed_inputs().items() if reader == ANY or name.endswith(endings)}
    if reader == ANY:
        found |= {
            f"a.fasta{kind}": pack(f">{RECORDS[0][0]}\nMKV\n".encode()) for kind, pack in PACKED.items()
        }
    return {name: bytes([choice]) + data for name, data in found.items() for choice in (0, 3)}
