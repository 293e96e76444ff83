"""What the two processes say to each other over a socket: JSON, batches, and one sign for "go on".

A frame is a letter, the length of what follows, and that. The file to read travels as an open descriptor, so
that the child reads what its parent hashes, whatever becomes of the name meanwhile.
"""

import json
import socket
import struct
from collections.abc import Callable
from typing import Any

OPEN, NEXT, CLOSE = b"O", b"N", b"C"
"""What the parent says. A descriptor and a request come with the first; the last is not answered."""
JSON, BATCH = b"J", b"B"
ID, SEQUENCE, UNUSABLE = "id", "sequence", "unusable"
"""The columns of a batch. Those that are kept stand behind them, by their numbers. In the last one stands why
a row is no record."""
FRAME_MOST = 256 << 20
"""More than the longest record has. A longer frame is none of ours."""
_HEAD = struct.Struct(">cQ")


def send_json(channel: socket.socket, fields: dict[str, Any]) -> None:
    send(channel, JSON, json.dumps(fields).encode())


def send(channel: socket.socket, kind: bytes, content: bytes) -> None:
    channel.sendall(_HEAD.pack(kind, len(content)))
    channel.sendall(content)


def receive(channel: socket.socket, waiting: Callable[[], None] | None = None) -> tuple[bytes, bytearray]:
    """The next frame: its letter, and what it holds. `waiting` is called at every timeout of the channel.

    Raises EOFError when the other one is gone.
    """
    kind, length = _HEAD.unpack(receive_bytes(channel, _HEAD.size, waiting))
    if length > FRAME_MOST:
        raise EOFError("no frame")
    return kind, receive_bytes(channel, length, waiting)


def receive_bytes(
    channel: socket.socket, length: int, waiting: Callable[[], None] | None = None
) -> bytearray:
    content = bytearray(length)
    rest = memoryview(content)
    while rest:
        try:
            count = channel.recv_into(rest)
        except TimeoutError:
            if waiting is None:
                raise
            waiting()
            continue
        if not count:
            raise EOFError("gone")
        rest = rest[count:]
    return content
