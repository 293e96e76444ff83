"""The server's script: every change of the manifest, and who is dealt what, each in one atomic call."""

from functools import cache
from importlib.resources import files
from typing import cast

import redis

PARTS = ("shards.lua", "manifest.lua", "dealing.lua")
"""Sent as one text; the first says what is kept."""


@cache
def _text() -> str:
    home = files("queue_app.coordination")
    return "".join((home / part).read_text() for part in PARTS)


class Script:
    """The operations of one server."""

    def __init__(self, client: redis.Redis) -> None:
        self._script = client.register_script(_text())

    def __call__(self, operation: str, *arguments: str | int | float) -> list[str]:
        """The answer of an operation. Raises redis errors as they come."""
        return cast("list[str]", self._script((), (operation, *arguments)))
