"""Ports of this host that nobody listens at."""

import contextlib
import socket


def free_ports(*offsets: int) -> list[int]:
    """A port that is free with each of the offsets added to it; answers those sums."""
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, OverflowError):
            probe = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            first = probe.getsockname()[1]
            for offset in offsets:
                if offset:
                    stack.enter_context(socket.create_server(("127.0.0.1", first + offset)))
            return [first + offset for offset in offsets]
