"""A new key of a fleet, in a file for its user alone."""

import secrets
from pathlib import Path

from queue_app.host.durable_files import create_durably

SECRET_BYTES = 32


def write_key_file(path: Path) -> bool:
    """Make a file with one new key; False where a file stood there, which stays."""
    line = f"{secrets.token_hex(4)} {secrets.token_urlsafe(SECRET_BYTES)}\n"
    return create_durably(path, line.encode(), mode=0o600)
