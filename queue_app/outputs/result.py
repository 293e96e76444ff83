"""What a job computed, in the hands of a Python program: arrays, frames, and what a notebook shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from checkpoint.records import QuarantineEntry
from queue_app.array_types import Int64s
from queue_app.errors import WrongReadout
from queue_app.job.kept_columns import KeptColumns
from queue_app.job.result_files import Vectors
from queue_app.outputs import frames
from queue_app.outputs.contacts import Contacts
from queue_app.outputs.html_table import html_table
from queue_app.outputs.ragged import Ragged

if TYPE_CHECKING:
    import pandas as pd

ROWS_SHOWN = 5
NUMBERS_SHOWN = 4
LETTERS_SHOWN = 80
READOUTS: Mapping[type, tuple[str, str]] = {
    np.ndarray: ("a vector for each record", "embeddings"),
    Ragged: ('a vector for every residue or token (pool="none")', "residues"),
    Contacts: ('a map of contacts for each record (pool="contacts")', "contacts"),
}
"""What a job may have computed, and where a result has it."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Result:
    """What a job computed: row i of `embeddings` is that of `ids[i]`, in the order of the input.

    A job with `pool="none"` has `residues` instead, one with `pool="contacts"` has `contacts`. Quarantined
    records have no row; `embedded + quarantined = records read`, always.
    """

    ids: list[str]
    """N ids as the input has them, repeated ones too; a line break inside one is a blank."""
    ordinals: Int64s
    """[N], ascending: the place of each row's record in the input, counted from 0."""
    rows: Vectors | Ragged
    """`embeddings`, `residues` or `contacts`: for programs that take any of them."""
    columns: tuple[str, ...]
    """What the columns are, as the other outputs call them: `embedding`, or `embedding_cls`, …"""
    quarantine: tuple[QuarantineEntry, ...]
    """The records without a row: `ordinal`, `id`, `length` in characters, and `reason`."""
    provenance: Mapping[str, str]
    """The model, the inputs and the options, as an .h5 has them in its attributes."""
    kept_columns: KeptColumns | None = None
    """What stays with every record of the input, by ordinal: `kept` has that of the rows."""

    @property
    def kept(self) -> pa.Table:
        """N rows: the descriptions, and the columns that `keep` named, as a .parquet has them. Read anew."""
        return self.kept_columns.rows(self.ordinals) if self.kept_columns else pa.table({})

    @property
    def embeddings(self) -> npt.NDArray[np.floating]:
        """[N, dim], float32 or float16, read-only: only the rows that are looked at are read from the disk.

        With several pools or layers [N, columns, dim].

        Raises:
            WrongReadout: the job has a vector for every residue or token: read `residues`.
        """
        if isinstance(self.rows, Ragged):
            raise self._wrong_readout("embeddings")
        return self.rows

    @property
    def residues(self) -> Ragged:
        """N rows: row i is [L_i, dim], a vector for every residue or token of the record.

        With several layers [L_i, layers, dim].

        Raises:
            WrongReadout: the job has something else: pooled vectors, or contacts.
        """
        if not isinstance(self.rows, Ragged) or isinstance(self.rows, Contacts):
            raise self._wrong_readout("residues")
        return self.rows

    @property
    def contacts(self) -> Contacts:
        """N maps: map i is [L_i, L_i], how probable it is that two residues of the protein touch.

        Raises:
            WrongReadout: the job has something else: vectors.
        """
        if not isinstance(self.rows, Contacts):
            raise self._wrong_readout("contacts")
        return self.rows

    def _wrong_readout(self, asked: str) -> WrongReadout:
        has, read = READOUTS[type(self.rows) if isinstance(self.rows, Ragged) else np.ndarray]
        return WrongReadout(f"this job has {has}: read result.{read}, not result.{asked}")

    def to_pandas(self) -> "pd.DataFrame":
        """A frame with the ids as its index, `id`, and a column for every number: `embedding_0`, ….

        The vectors are not copied: they stay on the disk and read-only; a `.copy()` can be changed. With
        several pools or layers these stand side by side, as in `embedding_cls_0`. With `pool="none"` a row
        is a residue or token, and the index is `id` and `position`, counted from 0.

        Raises:
            UsageError: pandas is not installed.
            WrongReadout: the job has maps of contacts, which are no rows of a table.
        """
        if isinstance(self.rows, Contacts):
            raise self._wrong_readout("to_pandas()")
        if isinstance(self.rows, Ragged):
            index = frames.index_of_tokens(self.ids, self.rows.offsets)
            return frames.frame_of(self.rows.values, index, self.columns)
        return frames.frame_of(self.rows, frames.index_of(self.ids), self.columns)

    def to_anndata(self) -> Any:
        """An `anndata.AnnData`: a row of `obs` for each of the N ids, with `id`, `ordinal` and what is kept.

        `X` is `embeddings`; with several pools or layers each is in `obsm` under its name in `columns`, and
        there is no `X`. `obs_names` are the ids, repeated ones told apart as AnnData does (`a`, `a-1`), and
        `uns["holdfast"]` is `provenance`.

        Raises:
            UsageError: anndata is not installed.
            WrongReadout: the job has a vector for every residue or token, and AnnData one row a record.
        """
        return frames.ann_data(
            self.ids, self.ordinals, self.embeddings, self.columns, self.provenance, self.kept
        )

    def __len__(self) -> int:
        """N, the number of rows."""
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Result({self._described()})"

    def _described(self) -> str:
        values, length = (self.rows.values, ["L"]) if isinstance(self.rows, Ragged) else (self.rows, [])
        shape = " x ".join([*length, *map(str, values.shape[1:])])
        return f"{len(self)} rows of {shape} {values.dtype}, {len(self.quarantine)} quarantined"

    def _repr_html_(self) -> str:
        """The first rows, and what was quarantined: what a notebook shows."""
        shown = min(len(self), ROWS_SHOWN)
        rows = [(self.ids[row], _in_short(self.rows[row])) for row in range(shown)]
        rows += [("…", f"{len(self) - shown:,} more")] if shown < len(self) else []
        rows += [(entry.id, f"quarantined: {entry.reason}") for entry in self.quarantine[:ROWS_SHOWN]]
        return html_table(f"Result: {self._described()}", ((_cut(name), _cut(text)) for name, text in rows))


def _in_short(vectors: Vectors) -> str:
    """The shape and the first numbers of a row: `[320] 0.113 -0.027 0.098 0.004 …`."""
    numbers = " ".join(f"{number:.3f}" for number in vectors.flat[:NUMBERS_SHOWN])
    shape = " x ".join(map(str, vectors.shape))
    return f"[{shape}] {numbers}{' …' if vectors.size > NUMBERS_SHOWN else ''}"


def _cut(text: str) -> str:
    return text if len(text) <= LETTERS_SHOWN else text[: LETTERS_SHOWN - 1] + "…"
