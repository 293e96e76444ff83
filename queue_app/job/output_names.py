"""The output formats: which a name means, what each can hold, and the files that lie beside an output."""

from pathlib import Path
from typing import Literal

from queue_app.choices import H5Layout
from queue_app.errors import UsageError
from queue_app.job.readouts import RAGGED, column_names
from queue_app.job.spec import EmbedOptions

Format = Literal["h5", "npy", "parquet", "arrow", "directory"]

_BY_ENDING: dict[str, Format] = {
    ".h5": "h5", ".hdf5": "h5", ".npy": "npy", ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow",
    "": "directory",
}  # fmt: skip


def output_format(output: Path) -> Format:
    """By the name's ending; none means a directory. Raises UsageError for one that is unknown."""
    suffix = output.suffix.lower()
    if suffix not in _BY_ENDING:
        raise UsageError(
            f"{output}: unknown format {suffix}; "
            "use .h5, .npy, .parquet, .arrow, or no ending for a directory"
        )
    return _BY_ENDING[suffix]


def refuse_unheeded(output: Path, pool: str | None, h5_layout: H5Layout) -> None:
    """Raises UsageError for an option that this output would have to ignore, or cannot hold what it asks for.

    What was asked for tells, before anything is read; `check_format` knows what it comes to.
    """
    if h5_layout != "flat" and output_format(output) != "h5":
        raise UsageError(f"{output}: --h5-layout {h5_layout} is for an .h5; leave it away, or write an .h5")
    _refuse_shape(output, h5_layout, pool, num_columns=len((pool or "").split(",")))


def check_format(output: Path, options: EmbedOptions, h5_layout: H5Layout) -> None:
    """Raises UsageError where the output's format cannot hold what is computed."""
    _refuse_shape(output, h5_layout, options.pool, num_columns=len(column_names(options)))


def _refuse_shape(output: Path, h5_layout: H5Layout, pool: str | None, *, num_columns: int) -> None:
    kind = output_format(output)
    if kind == "npy" and pool in RAGGED:
        raise UsageError(
            f"{output}: a .npy holds no rows of different lengths, which --pool {pool} makes; "
            "use .h5, .parquet, .arrow, or a directory"
        )
    if kind == "h5" and h5_layout != "flat" and num_columns > 1:
        raise UsageError(
            f"{output}: --h5-layout {h5_layout} has one vector a record; choose one pool and one layer"
        )


def needs_sequences(output: Path, h5_layout: H5Layout) -> bool:
    """True where vectors are named by their sequences, which only the shards hold."""
    return output_format(output) == "h5" and h5_layout == "per-hash"


def card_paths(output: Path) -> tuple[Path, Path]:
    """The run card, for people and for machines; the second is written last of all."""
    return output.with_name(output.name + ".card.md"), output.with_name(output.name + ".card.json")


def quarantine_path(output: Path) -> Path:
    """The list of the records that have no row."""
    return output.with_name(output.name + ".quarantine.tsv")


def target_of(path: Path) -> Path:
    """The file that is written: where a symbolic link leads."""
    return path.resolve() if path.is_symlink() else path


def ids_path(output: Path) -> Path:
    """Where the ids of a .npy output lie."""
    return output.with_suffix(".ids.txt")


def one_line(text: str) -> str:
    """Every line break, of whatever kind, becomes a blank."""
    return " ".join(text.splitlines())
