"""The page: its markup, style and script, kept in files of their own and sent as one that needs no other."""

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files

SCRIPTS = ("words.js", "shards.js", "points.js", "legend.js", "embeddings.js", "board.js", "page.js")


@dataclass(frozen=True, slots=True)
class Page:
    """What is sent, and the policy that lets the browser run exactly this."""

    html: str
    policy: str


def load_page() -> Page:
    """Read it from the package."""
    style, script = _read("page.css"), "".join(map(_read, SCRIPTS))
    html = _read("page.html").replace("/* STYLE */", style).replace("/* SCRIPT */", script)
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_digest(style)}'",
            f"script-src '{_digest(script)}'",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
    return Page(html, policy)


def _read(name: str) -> str:
    return (files("queue_app.dashboard") / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
