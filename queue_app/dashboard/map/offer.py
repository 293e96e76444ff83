"""What the maps of a job can show: of which vectors, laid out how, coloured by what."""

from dataclasses import dataclass

from queue_app.dashboard.map.kept_texts import DESCRIPTION, kept_names
from queue_app.dashboard.map.metadata import Metadata
from queue_app.dashboard.map.projection import Method, methods
from queue_app.dashboard.map.published_vectors import Published
from queue_app.dashboard.map.sequence_texts import is_kept

LENGTH = "length"
PLACE = "place in the input"


@dataclass(frozen=True, slots=True)
class Offer:
    """What the map of a job can show, the defaults first."""

    columns: tuple[str, ...]
    methods: tuple[Method, ...]
    colours: tuple[str, ...]


def offer(published: Published, metadata: Metadata | None) -> Offer:
    return Offer(published.columns, methods(), choices(published, metadata))


def choices(published: Published, metadata: Metadata | None) -> tuple[str, ...]:
    """What a job's map can be coloured by, the default first."""
    of_table = metadata.columns if metadata else ()
    of_input = (name for name in kept_names(published.job) if name not in (*of_table, DESCRIPTION))
    known = (*of_table, *of_input)
    kept = [LENGTH] if is_kept(published.job, published.job_dir) else []
    return (*known, *(name for name in (*kept, PLACE) if name not in known))
