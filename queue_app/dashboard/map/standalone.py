"""`holdfast map`: the map as one HTML file, which needs no server and no network.

It is made of the page's own scripts, one after the other, each in a function of its own. What the job says
stands in it as JSON in which no `<` is left, so that nothing of it can end the script or become markup.
"""

import html
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np

from queue_app.dashboard.map.colours import colour
from queue_app.dashboard.map.embedding_map import EmbeddingMap
from queue_app.dashboard.map.make_map import Wanted, make_map, map_message, settled
from queue_app.dashboard.map.metadata import Metadata
from queue_app.dashboard.map.offer import offer
from queue_app.dashboard.map.published_vectors import Published
from queue_app.dashboard.map.selection import as_fasta, point_texts
from queue_app.dashboard.map.sequence_texts import is_kept, lengths
from queue_app.dashboard.static_files import read_files
from queue_app.errors import UsageError
from queue_app.host.durable_files import AS_UMASK_SAYS, write_durably

ENTRY = "standalone.js"
MARK = '<meta name="generator" content="holdfast map">'
"""What tells a file of ours, which may be replaced by a newer one."""
LETTERS_MOST = 20_000_000
"""Of the sequences in a file. The vectors are never in it, which are some times that."""
_MAP = re.compile(r"<!-- map -->(.*)<!-- /map -->", re.DOTALL)
_IMPORT = re.compile(r'^import \{ ([\w, $]+) \} from "\./([\w]+\.js)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function|class|const)) ([\w$]+)", re.MULTILINE)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{mark}
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
{style}
</style>
</head>
<body>
<main id="board" data-state="done">
<section id="head"><div><h2 id="title"></h2><p id="about"></p></div></section>
{map}
</main>
<div id="tip" aria-hidden="true" hidden></div>
<noscript><p>The map is drawn by JavaScript.</p></noscript>
<script type="application/json" id="data">{data}</script>
<script type="module">
{script}
</script>
</body>
</html>
"""


def write_map(
    published: Published, output: Path, metadata: Metadata | None, wanted: Wanted, by: str, *, overwrite: bool
) -> EmbeddingMap:
    """Draw a job's map and write it as a file; what lies there is replaced only where it is such a map.

    Raises:
        UsageError: another file lies there, or there is no such column or layout.
        Damage: a result is not the one that was published.
        OSError: it cannot be written.
    """
    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{output}: a map is written as .html")
    if output.exists() and not overwrite and not is_ours(output):
        raise UsageError(f"{output}: is there already, and no map of ours; --overwrite replaces it")
    column, method = settled(published, wanted)
    drawn = make_map(published, column, method, lambda step, share: None)
    write_durably(output, page_of(drawn, metadata, by).encode(), mode=AS_UMASK_SAYS)
    return drawn


def is_ours(path: Path) -> bool:
    """Whether a file is a map that this command wrote."""
    with path.open("rb") as file:
        return MARK.encode() in file.read(1_000)


def page_of(embedding_map: EmbeddingMap, metadata: Metadata | None, by: str = "") -> str:
    """The whole file; coloured by `by` at first, where that is not empty. Raises UsageError."""
    files = {name: found.text for name, found in read_files().items()}
    section = _MAP.search(files["page.html"])
    assert section is not None
    data = _data(embedding_map, metadata, by)
    return PAGE.format(
        mark=MARK,
        title=html.escape(data["title"]),
        style=files["page.css"],
        map=section[1],
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        script=bundled(files, ENTRY),
    )


def _data(embedding_map: EmbeddingMap, metadata: Metadata | None, by: str) -> dict[str, Any]:
    published = embedding_map.published
    choices = offer(published, metadata)
    if by and by not in choices.colours:
        raise UsageError(f"no column {by!r} to colour by: there is {', '.join(choices.colours)}")
    names = sorted(choices.colours, key=lambda name: name != by)
    told = map_message(embedding_map, choices)
    told |= {"columns": [embedding_map.column], "methods": [""], "colours": names}
    job = published.job
    return {
        "title": Path(job.output).name,
        "about": f"{job.model.name}, from {', '.join(file.name for file in job.inputs)}",
        "map": told,
        "texts": point_texts(embedding_map),
        "fasta": _records(embedding_map),
        "colours": {name: asdict(colour(embedding_map, name, metadata)) for name in names},
    }


def _records(embedding_map: EmbeddingMap) -> list[str]:
    """Each point's record in FASTA, for a selection to take away.

    None where they are texts or were cleaned away, or would make a file that is no longer passed around.
    """
    job, job_dir = embedding_map.published.job, embedding_map.published.job_dir
    if job.options.alphabet == "text" or not is_kept(job, job_dir):
        return []
    letters = np.array(lengths(job, job_dir, embedding_map.rows), np.int64)
    if letters[embedding_map.places].sum() > LETTERS_MOST:
        return []
    return list(as_fasta(embedding_map, embedding_map.ordinals))


def bundled(files: Mapping[str, str], entry: str) -> str:
    """A module and all that it imports as one script: each in a function, after those that it needs."""
    needs = {entry: {name for _, name in _IMPORT.findall(files[entry])}}
    while missing := set().union(*needs.values()) - needs.keys():
        needs |= {name: {other for _, other in _IMPORT.findall(files[name])} for name in missing}
    order = TopologicalSorter(needs).static_order()
    return "\n".join(["const modules = {};", *(_wrapped(name, files[name]) for name in order)])


def _wrapped(name: str, source: str) -> str:
    exported = ", ".join(found for _, found in _EXPORT.findall(source))
    body = _EXPORT.sub(r"\1 \2", _IMPORT.sub(r'const { \1 } = modules["\2"];', source))
    return f"modules[{json.dumps(name)}] = (() => {{\n{body}\nreturn {{ {exported} }};\n}})();"
