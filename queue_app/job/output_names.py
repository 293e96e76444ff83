"""The output formats: which a name means, what each can hold, and the files that lie beside an output."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from queue_app.choices import H5Layout, Precision
from queue_app.errors import UsageError
from queue_app.host.own_files import require_own_link
from queue_app.job.readouts import RAGGED, column_names
from queue_app.job.spec import EmbedOptions

Format = Literal["h5", "h5ad", "npy", "npz", "safetensors", "parquet", "arrow", "lance", "directory"]

_BY_ENDING: dict[str, Format] = {
    ".h5": "h5", ".hdf5": "h5", ".h5ad": "h5ad", ".npy": "npy", ".npz": "npz", ".safetensors": "safetensors",
    ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow", ".lance": "lance", "": "directory",
}  # fmt: skip
DIRECTORIES: tuple[Format, ...] = ("directory", "lance")
"""What is a directory of files."""
NO_RAGGED: tuple[Format, ...] = ("npy", "h5ad")
"""What has one vector a row, and no rows of different lengths."""

OF_ANY_PRECISION: tuple[Format, ...] = ("h5", "npy", "npz", "safetensors", "parquet", "arrow")
"""What can say of whole numbers how they are to be read."""


def output_format(output: Path) -> Format:
    """By the name's ending; none means a directory. Raises UsageError for one that is unknown."""
    suffix = output.suffix.lower()
    if suffix not in _BY_ENDING:
        raise UsageError(
            f"{output}: unknown format {suffix}; use .h5, .npy, .npz, .parquet, .arrow, .safetensors, .h5ad, "
            ".lance, or no ending for a directory"
        )
    return _BY_ENDING[suffix]


def require_extra(output: Path) -> None:
    """Raises UsageError, with what to do, where the package is missing that writes this format."""
    if output_format(output) == "lance" and find_spec("lance") is None:
        raise UsageError(
            f"{output}: is written by pylance, not installed here: pip install 'holdfast[lance]'"
        )


def refuse_unheeded(
    output: Path, pool: str | None, h5_layout: H5Layout, precision: Precision = "float32"
) -> None:
    """Raises UsageError for an option that this output would have to ignore, or cannot hold what it asks for.

    What was asked for tells, before anything is read; `check_format` knows what it comes to.
    """
    if h5_layout != "flat" and output_format(output) != "h5":
        raise UsageError(f"{output}: --h5-layout {h5_layout} is for an .h5; leave it away, or write an .h5")
    require_extra(output)
    _refuse_shape(output, h5_layout, pool, num_columns=len((pool or "").split(",")))
    _refuse_precision(output, h5_layout, precision, pool)


def check_format(
    output: Path, options: EmbedOptions, h5_layout: H5Layout, precision: Precision = "float32"
) -> None:
    """Raises UsageError where the output's format cannot hold what is computed."""
    require_extra(output)
    _refuse_shape(output, h5_layout, options.pool, num_columns=len(column_names(options)))
    _refuse_precision(output, h5_layout, precision, options.pool)


def _refuse_shape(output: Path, h5_layout: H5Layout, pool: str | None, *, num_columns: int) -> None:
    kind = output_format(output)
    if kind in NO_RAGGED and pool in RAGGED:
        raise UsageError(
            f"{output}: a .{kind} holds no rows of different lengths, which --pool {pool} makes; "
            "use .h5, .parquet, .arrow, .npz, .safetensors, .lance, or a directory"
        )
    if kind == "h5" and h5_layout != "flat" and num_columns > 1:
        raise UsageError(
            f"{output}: --h5-layout {h5_layout} has one vector a record; choose one pool and one layer"
        )


def _refuse_precision(output: Path, h5_layout: H5Layout, precision: Precision, pool: str | None) -> None:
    if precision == "float32":
        return
    if pool in RAGGED:
        raise UsageError(
            f"{output}: --precision {precision} is for one vector a record, and --pool {pool} makes "
            "something else; leave one of them away"
        )
    if output_format(output) not in OF_ANY_PRECISION or h5_layout != "flat":
        raise UsageError(
            f"{output}: --precision {precision} is for .npy, .npz, .parquet, .arrow, .safetensors, and .h5 "
            "with all vectors in one dataset; leave it away, or write one of these"
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
    """The file that is written: where a symbolic link leads. Raises NotOurs for another user's link."""
    if not path.is_symlink():
        return path
    require_own_link(path)
    return path.resolve()


def ids_path(output: Path) -> Path:
    """Where the ids of an output lie that cannot hold them: those of out.npy in out.ids.txt, of anything else
    behind its whole name, so that two outputs never share them."""
    if output.suffix == ".npy":
        return output.with_suffix(".ids.txt")
    return output.with_name(output.name + ".ids.txt")


def ranges_path(output: Path) -> Path:
    """Where a .npy output of int8 or uint8 has its ranges."""
    return output.with_suffix(".ranges.npy")


def companions(output: Path) -> tuple[Path, ...]:
    """The files that an output may consist of beside the one that it is named after."""
    kind = output_format(output)
    if kind == "npy":
        return ids_path(output), ranges_path(output)
    return (ids_path(output),) if kind == "safetensors" else ()


def one_line(text: str) -> str:
    """Every line break, of whatever kind, becomes a blank."""
    return " ".join(text.splitlines())
