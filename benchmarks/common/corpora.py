"""What is embedded: real texts and proteins where the machine has them, drawn with a fixed seed."""

import csv
import gzip
import random
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.checkout import ROOT

EXAMPLES = ROOT / "examples"
EXAMPLE = EXAMPLES / "proteins.fasta.gz"
PROTEOME = ROOT.parent / "shared" / "data" / "staphylococcus.faa.gz"
APT_LISTS = Path("/var/lib/apt/lists")
APT_HELPER = Path("/usr/lib/apt/apt-helper")
DPKG_STATUS = Path("/var/lib/dpkg/status")
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
MAX_RESIDUES = 1022
SEED = 20261126
PROTEIN_NAMES = "the protein names of the example"

_DESCRIPTION = re.compile(r"^Description(?:-en)?: (.*(?:\n .*)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Corpus:
    """Sequences in an order of their own, and where they come from."""

    name: str
    source: str
    sequences: tuple[str, ...]


# ---- texts


def texts(num_texts: int) -> Corpus:
    """From the first source that has so many different ones; the richest come first."""
    source, found = next(
        (each for each in _found_texts() if len(each[1]) >= num_texts), (PROTEIN_NAMES, [*_protein_names()])
    )
    drawn = random.Random(SEED).sample(found, min(num_texts, len(found)))
    return Corpus(f"{len(drawn):,} texts", source, tuple(drawn))


def _found_texts() -> Iterator[tuple[str, list[str]]]:
    for source, read in TEXT_SOURCES.items():
        yield source, sorted(set(read()))


def lines(path: Path) -> Corpus:
    """One text a line."""
    found = tuple(filter(None, map(str.strip, path.read_text().splitlines())))
    return Corpus(f"{len(found):,} texts", path.name, found)


def _translations() -> Iterator[str]:
    for path in sorted(APT_LISTS.glob("*_i18n_Translation-en*")):
        yield from _descriptions(_output([str(APT_HELPER), "cat-file", str(path)]))


def _installed() -> Iterator[str]:
    if DPKG_STATUS.exists():
        yield from _descriptions(DPKG_STATUS.read_text(errors="replace"))


def _available() -> Iterator[str]:
    return _descriptions(_output(["apt-cache", "dumpavail"]))


def _protein_names() -> Iterator[str]:
    with (EXAMPLES / "protein_names.tsv").open(newline="") as file:
        yield from (row[-1] for row in csv.reader(file, delimiter="\t") if row)


TEXT_SOURCES: dict[str, Callable[[], Iterable[str]]] = {
    "the descriptions of Debian's packages, long ones": _translations,
    "the descriptions of the installed Debian packages, long ones": _installed,
    "the descriptions of Debian's packages, one line each": _available,
    PROTEIN_NAMES: _protein_names,
}


def _descriptions(control: str) -> Iterator[str]:
    """Of Debian's control format, each as one line: a dot alone stands for an empty line."""
    for match in _DESCRIPTION.finditer(control):
        words = [line.strip() for line in match[1].splitlines()]
        yield " ".join(line for line in words if line != ".")


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True).stdout.decode(errors="replace")
    except (OSError, subprocess.CalledProcessError):
        return ""


# ---- proteins


def proteins(num_proteins: int) -> Corpus:
    """Of a bacterium's proteome where it is there, else of the example."""
    path = PROTEOME if PROTEOME.exists() else EXAMPLE
    found = [sequence for sequence in _fasta(path) if len(sequence) <= MAX_RESIDUES]
    drawn = random.Random(SEED).sample(found, min(num_proteins, len(found)))
    return Corpus(f"{len(drawn):,} proteins", path.name, tuple(drawn))


def equal_proteins(num_proteins: int, num_residues: int) -> Corpus:
    """Random residues, all of one length: nothing to pad."""
    draw = random.Random(SEED)
    sequences = tuple("".join(draw.choices(RESIDUES, k=num_residues)) for _ in range(num_proteins))
    return Corpus(f"{num_proteins:,} proteins of {num_residues} residues", "random residues", sequences)


def write_fasta(path: Path, num_records: int, num_residues: int) -> Path:
    """Different random proteins of one length."""
    draw = random.Random(SEED)
    with path.open("w") as file:
        for number in range(num_records):
            file.write(f">p{number}\n{''.join(draw.choices(RESIDUES, k=num_residues))}\n")
    return path


def _fasta(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt") as file:
        for entry in file.read().split(">")[1:]:
            yield "".join(entry.splitlines()[1:])
