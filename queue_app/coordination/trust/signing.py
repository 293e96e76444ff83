"""Signatures on what the server hands on: who may write to it without the fleet's key is not believed.

A key file holds a line a key, `ID SECRET`. The first one signs and all of them are accepted, so that a key is
exchanged without a pause: append the new one on every host, put it first on every host, drop the old one.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from queue_app.errors import UsageError
from queue_app.settings import runtime_config

KEY_LINE = re.compile(r"([A-Za-z0-9_.-]{1,32})[ \t]+(\S{32,512})")


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys of a fleet, by their ids; the first one signs."""

    keys: Mapping[str, bytes]

    def sign(self, meaning: str, *parts: str | int) -> str:
        """`ID:HEX`, HMAC-SHA256 (RFC 2104) of what is meant and of its parts, each with its length before it:
        no two lists of parts have the same text."""
        key_id = next(iter(self.keys))
        return f"{key_id}:{_digest(self.keys[key_id], meaning, *parts)}"

    def accepts(self, signature: object, meaning: str, *parts: str | int) -> bool:
        """True for what a holder of one of the keys has signed as just this."""
        key_id, _, digest = signature.partition(":") if isinstance(signature, str) else ("", "", "")
        key = self.keys.get(key_id)
        return key is not None and hmac.compare_digest(
            digest.encode(), _digest(key, meaning, *parts).encode()
        )


def _digest(key: bytes, *parts: str | int) -> str:
    texts = [str(part).encode("utf-8", "surrogatepass") for part in parts]
    message = b"".join(len(text).to_bytes(8, "big") + text for text in texts)
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def read_key_file(path: Path) -> KeyRing:
    """The keys in a file. Empty lines, and those that begin with `#`, are passed over.

    Raises:
        UsageError: it cannot be read, is no regular file, others can read or write it, or a line is no key.
    """
    try:
        found = path.stat()
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: no key file ({error}); holdfast key-file PATH writes one") from None
    if found.st_mode & 0o077:
        raise UsageError(f"{path}: a key that others can read is none; chmod 600 {path}")
    keys: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = KEY_LINE.fullmatch(line.strip())
        if parts is None or parts[1] in keys:
            raise UsageError(
                f"{path}:{number}: no line of a key file: ID SECRET, each id once, 32 characters at least"
            )
        keys[parts[1]] = parts[2].encode()
    if not keys:
        raise UsageError(f"{path}: holds no key; a line is ID SECRET")
    return KeyRing(keys)


_OF_EMBEDDED: dict[str, KeyRing] = {}
"""Those of embedded servers that this process has to do with, by the servers' passwords."""


def use_embedded_key(password: str, path: Path) -> None:
    """What goes by an embedded server is signed with its own key from now on, where it has one."""
    with suppress(UsageError):  # another user's, who may look at the job and no more
        _OF_EMBEDDED[password] = read_key_file(path)


def ring_of_server(password: str | None) -> KeyRing | None:
    """The keys that are used with a server, which is known by its password: those of an embedded one, else
    those of this process."""
    return _OF_EMBEDDED.get(password or "") or key_ring()


@cache
def key_ring() -> KeyRing | None:
    """The keys of this process, read once; None without HOLDFAST_KEY_FILE: nothing is signed."""
    path = runtime_config().key_file
    return read_key_file(path) if path is not None else None
