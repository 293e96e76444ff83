"""Search over all records of a job, by id, what was kept and text, whatever the number of them.

It goes part by part, and looks at one batch of rows at once. Who asks gets an answer within a second or two:
of a job that takes longer, what was found by then, and where to go on.
"""

import re
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from queue_app.array_types import Int64s
from queue_app.dashboard.map.embedding_map import EmbeddingMap
from queue_app.dashboard.map.published_vectors import Published
from queue_app.dashboard.map.searched_rows import has_texts, num_parts, rows_of_part, texts_of
from queue_app.job.result_rows import among

Booleans = npt.NDArray[np.bool_]
HITS_MOST = 50
SECONDS_MOST = 1.5
EXCERPT_LETTERS = 160
BEFORE_LETTERS = 30
_UNIPROT = re.compile(r"[a-z]+\|([^|]+)\|.*", re.IGNORECASE)
"""`sp|P12345|NAME` (https://www.uniprot.org/help/fasta-headers)."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A record that was found. `exact`: the id, or the accession in it, is what was asked for.

    `excerpt` is of its description or sequence, around what was found in it. `copies` counts the records of
    its sequence, itself included. One that is quarantined has no vector, and is not on the map.
    """

    ordinal: int
    id: str
    excerpt: str
    exact: bool
    copies: int = 1
    quarantined: bool = False


@dataclass(slots=True)
class Found:
    """What was found in some parts.

    `count` counts records of one text once, unless their ids were found. `next` is the part to go on with,
    None after the last of `num_parts`. `texts` says whether there are texts, as there are until
    `holdfast clean`. `drawn` are the ordinals of all points of the map that match.
    """

    texts: bool
    num_parts: int
    drawn: list[int] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    count: int = 0
    next: int | None = None

    def add(self, hits: list[Hit], count: int) -> None:
        """Exact ones stay before all others."""
        self.count += count
        self.hits = sorted([*self.hits, *hits], key=lambda hit: not hit.exact)[:HITS_MOST]


def search(embedding_map: EmbeddingMap, text: str, start: int = 0, seconds: float = SECONDS_MOST) -> Found:
    """The records whose id, kept text or sequence has `text` in it, whatever its case, from a part on.

    All records of the job are looked at, drawn or not.

    Of an id such as `sp|P12345|NAME` its accession alone is looked for, too.

    Raises:
        Damage: a shard or a result cannot be read.
    """
    published = embedding_map.published
    found = Found(texts=has_texts(published), num_parts=num_parts(published))
    until, wanted = time.monotonic() + seconds, needles(text)
    for part in range(start, found.num_parts) if text.strip() else ():
        for batch in rows_of_part(published, part):
            by_id, by_text = _matches(batch, wanted)
            found.drawn += _drawn(embedding_map, batch, by_id, by_text)
            found.add(*_hits(batch, wanted, np.flatnonzero(by_id | by_text)))
        if time.monotonic() > until and part + 1 < found.num_parts:
            found.next = part + 1
            break
    found.hits = _marked(published, found.hits)
    return found


def needles(text: str) -> list[str]:
    """What was typed, and the accession in it where it is an id of UniProt's form."""
    typed = text.strip()
    uniprot = _UNIPROT.fullmatch(typed)
    return [typed, uniprot[1]] if uniprot else [typed]


def _hits(batch: pa.RecordBatch, wanted: list[str], places: Int64s) -> tuple[list[Hit], int]:
    exact = _is_exact(batch.column("id").take(pa.array(places)), wanted)
    order = np.argsort(~exact, kind="stable")[:HITS_MOST]
    rows, names = batch.take(pa.array(places[order])).to_pylist(), texts_of(batch)
    found = zip(rows, exact[order], strict=True)
    return [_hit(row, names, wanted[0], exact=bool(is_it)) for row, is_it in found], len(places)


def _matches(batch: pa.RecordBatch, wanted: list[str]) -> tuple[Booleans, Booleans]:
    """Which rows have it in their ids, and which in their texts."""
    by_text = [(name, wanted[0]) for name in texts_of(batch)]
    return _any(batch, [("id", text) for text in wanted]), _any(batch, by_text)


def _any(batch: pa.RecordBatch, looked_for: list[tuple[str, str]]) -> Booleans:
    matches = np.zeros(batch.num_rows, np.bool_)
    for name, text in looked_for:
        matches |= _booleans(pc.match_substring(batch.column(name), text, ignore_case=True))
    return matches


def _drawn(
    embedding_map: EmbeddingMap, batch: pa.RecordBatch, by_id: Booleans, by_text: Booleans
) -> list[int]:
    """The points of these rows; a text is that of all points of its row."""
    ordinals = batch.column("ordinal").to_numpy().astype(np.int64)
    points, rows = embedding_map.ordinals, embedding_map.rows[embedding_map.places]
    drawn: list[int] = points[among(points, ordinals[by_id]) | among(rows, ordinals[by_text])].tolist()
    return drawn


def _is_exact(ids: pa.Array, wanted: list[str]) -> Booleans:
    """The whole id, or a part of it between bars; a version or an isoform may follow."""
    either = "|".join(re.escape(text) for text in wanted)
    return _booleans(pc.match_substring_regex(ids, rf"(^|\|)({either})([.-]\d+)?($|\|)", ignore_case=True))


def _booleans(found: pa.Array) -> Booleans:
    return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), np.bool_)


def _hit(row: dict[str, Any], names: list[str], wanted: str, *, exact: bool) -> Hit:
    texts = [row[name] or "" for name in names]
    around = next(filter(None, (_around(text, wanted) for text in texts)), "")
    begins = next(filter(None, texts), "")[:EXCERPT_LETTERS]
    return Hit(row["ordinal"], row["id"], around or begins, exact, row.get("copies") or 1)


def _around(text: str, wanted: str) -> str:
    """What stands around the first place where it is; empty where it is not."""
    place = text.lower().find(wanted.lower())
    start = max(0, place - BEFORE_LETTERS)
    return "" if place < 0 else ("…" if start else "") + text[start : start + EXCERPT_LETTERS]


def _marked(published: Published, hits: list[Hit]) -> list[Hit]:
    gone = among(np.array([hit.ordinal for hit in hits], np.int64), published.quarantined)
    return [replace(hit, quarantined=bool(is_gone)) for hit, is_gone in zip(hits, gone, strict=True)]
