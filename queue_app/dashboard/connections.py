"""A connection to the page's server: it brings a whole request within seconds, or is closed.

Whoever may reach the port may open connections and send half a request on each, without any token. There are
so many connections at most; where all are taken, of those that have not asked anything the oldest is closed.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS_MOST = 256
REQUEST_SECONDS = 10.0
"""How long a request may take, from the connection, or its first byte on an old one, to its last."""


class TimedConnection(H11Protocol):
    """Speaks HTTP as uvicorn does."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin()
        if len(self.connections) > CONNECTIONS_MOST:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_asked():
            self._stop()
        else:
            self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _is_asked(self) -> bool:
        """Whether a request is here with its last byte; what answers it takes its time."""
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete and not cycle.more_body

    def _begin(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _make_room(self) -> None:
        waiting = [
            each
            for each in self.connections
            if isinstance(each, TimedConnection) and each._deadline is not None
        ]
        others = [each for each in waiting if each is not self]
        oldest = min(others, key=lambda each: each._deadline.when() if each._deadline else 0.0, default=self)
        self.connections.discard(oldest)
        oldest.transport.abort()
