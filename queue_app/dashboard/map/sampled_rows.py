"""The records that a map draws: all, or of very many a random choice that is always the same.

However many records a job has, no more vectors are in memory than are drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from queue_app.array_types import Floats, Int64s
from queue_app.dashboard.map.published_vectors import Published
from queue_app.job.duplicates import read_duplicates
from queue_app.job.readouts import vector_dim
from queue_app.job.result_rows import among

DRAWN_MOST = 20_000
DRAWN_BYTES_MOST = 256 << 20
"""Of their vectors: a model with 5,120 dimensions has some thousand points less."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """n records by ordinal; `places` says which of m rows each has, whose ordinals are `rows`."""

    ids: list[str]
    ordinals: Int64s
    places: Int64s
    rows: Int64s
    vectors: Floats
    """[m, dim], m <= n: records of one sequence share a row."""


def choose(num_records: int, most: int) -> Int64s:
    """Ordinals, ascending. The same arguments give the same choice."""
    if num_records <= most:
        return np.arange(num_records)
    return np.sort(np.random.default_rng(0).choice(num_records, most, replace=False))


def draw(published: Published, column: str, tell: Callable[[float], None]) -> Drawn:
    """Of the chosen records those that were embedded, telling the share of rows that was read.

    Raises:
        Damage: a result or twins.arrow cannot be read.
    """
    job = published.job
    most = min(DRAWN_MOST, DRAWN_BYTES_MOST // (4 * vector_dim(job.model, job.options)))
    chosen = choose(job.counts.num_records, most)
    twins = _twins(published, chosen)
    own = chosen[~among(chosen, twins.ordinals)]
    ids, rows, vectors = _read(published, column, np.union1d(own, twins.firsts), tell)
    twins = twins.only(among(twins.firsts, rows))
    drawn = among(rows, own)
    ordinals = np.concatenate([rows[drawn], twins.ordinals])
    places = np.concatenate([np.flatnonzero(drawn), np.searchsorted(rows, twins.firsts)])
    named = pa.concat_arrays([ids.filter(pa.array(drawn)), twins.ids])
    order = np.argsort(ordinals)
    return Drawn(named.take(pa.array(order)).to_pylist(), ordinals[order], places[order], rows, vectors)


@dataclass(frozen=True, slots=True, eq=False)
class _Twins:
    """Records that have the row of `firsts`; by ordinal."""

    ids: pa.StringArray
    ordinals: Int64s
    firsts: Int64s

    def only(self, wanted: npt.NDArray[np.bool_]) -> "_Twins":
        return _Twins(self.ids.filter(pa.array(wanted)), self.ordinals[wanted], self.firsts[wanted])


def _twins(published: Published, chosen: Int64s) -> _Twins:
    found = [_Twins(pa.array([], pa.string()), np.empty(0, np.int64), np.empty(0, np.int64))]
    for batch in read_duplicates(published.job, published.job_dir):
        ordinals, firsts = (batch.column(name).to_numpy().astype(np.int64) for name in ("ordinal", "first"))
        twins = _Twins(batch.column("id"), ordinals, firsts)
        found.append(twins.only(among(ordinals, chosen)))
    return _Twins(
        pa.concat_arrays([part.ids for part in found]),
        np.concatenate([part.ordinals for part in found]),
        np.concatenate([part.firsts for part in found]),
    )


def _read(
    published: Published, column: str, wanted: Int64s, tell: Callable[[float], None]
) -> tuple[pa.StringArray, Int64s, Floats]:
    """Ids, ordinals and vectors of those of the wanted rows that are there."""
    vectors = np.empty((len(wanted), vector_dim(published.job.model, published.job.options)), np.float32)
    ids, ordinals = [pa.array([], pa.string())], [np.empty(0, np.int64)]
    filled = read = 0
    for rows in published.rows(column):
        here = among(rows.ordinals, wanted)
        end = filled + int(here.sum())
        vectors[filled:end] = rows.vectors[here]
        ids.append(rows.ids.filter(pa.array(here)))
        ordinals.append(rows.ordinals[here])
        filled, read = end, read + len(here)
        tell(read / published.num_embedded)
    return pa.concat_arrays(ids), np.concatenate(ordinals), vectors[:filled]
