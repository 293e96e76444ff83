"""The server's script: every change of the manifest, and who is dealt what, each in one atomic call."""

from functools import cache
from importlib.resources import files
from typing import cast

import redis

from queue_app.coordination.trust.values import read_from

PARTS = ("sound.lua", "shards.lua", "manifest.lua", "dealing.lua")
"""Sent as one text; shards.lua says what is kept."""


@cache
def _text() -> str:
    home = files("queue_app.coordination")
    return "".join((home / part).read_text() for part in PARTS)


class Script:
    """The operations of one server."""

    def __init__(self, client: redis.Redis) -> None:
        self._script = client.register_script(_text())

    def __call__(self, operation: str, *arguments: str | int | float) -> list[str]:
        """The answer of an operation. Raises redis errors as they come.

        Raises:
            Garbage: what the server holds stopped it, before it changed anything where that can be; names the
                key.
        """
        with read_from(operation):
            return cast("list[str]", self._script((), (operation, *arguments)))
