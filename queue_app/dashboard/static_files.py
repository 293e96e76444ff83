"""The page: its markup, style and scripts, as they lie in this package. It needs no other, and no build."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # no text becomes markup, whatever it says
        "trusted-types 'none'",
    )
)
"""What the browser lets the page do: show and run what its own server sends, and speak with nobody else."""


@dataclass(frozen=True, slots=True)
class File:
    """`kind` is its media type."""

    text: str
    kind: str


def read_files() -> Mapping[str, File]:
    """Every file of the page, by its name."""
    here = sorted((files("queue_app.dashboard") / "static").iterdir(), key=lambda found: found.name)
    return {
        found.name: File(found.read_text(encoding="utf-8"), kind)
        for found in here
        for suffix, kind in KINDS.items()
        if found.name.endswith(suffix)
    }
