"""JSON of a model directory, as all who read it agree on: UTF-8, and whole characters in it.

Python's own reader guesses the encoding of bytes, and takes half a character, a surrogate alone, which is no
Unicode: no file can be named so, and tokenizers and safetensors refuse it.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from queue_app.shown import visible

SHOWN_CHARACTERS = 60
_HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")
_MAY_BE_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
"""As JSON writes one; two of them may be one whole character."""

Hook = Callable[[Iterable[tuple[str, Any]]], Any]


def parse_json(content: bytes, of_pairs: Hook | None = None) -> Any:
    """What a text says; `of_pairs` makes each object of its names and values.

    Raises:
        ValueError: it is no JSON, nested too deeply, or a name or a value in it holds half a character; names
            the key.
    """
    try:
        fields = json.loads(content.decode(), object_pairs_hook=of_pairs)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if may_hold_half_a_character(content):
        _require_whole_characters(fields)
    return fields


def may_hold_half_a_character(content: bytes) -> bool:
    """A first look at a long text that somebody else parses."""
    return _MAY_BE_HALF.search(content) is not None


def _require_whole_characters(fields: Any) -> None:
    left: list[tuple[str, Any]] = [("", fields)]
    while left:
        key, value = left.pop()
        if isinstance(value, dict):
            left += [(name, each) for name, inner in value.items() for each in (name, inner)]
        elif isinstance(value, list):
            left += [(key, each) for each in value]
        elif isinstance(value, str) and (half := _HALF_A_CHARACTER.search(value)):
            where = visible(key, SHOWN_CHARACTERS) or "a text"
            raise ValueError(f"{where}: holds \\u{ord(half.group()):04x}, which is half a character")
