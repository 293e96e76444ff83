"""A TCP proxy that stands between the workers and the server, and spoils their connections on demand."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

CHUNK_BYTES = 64 << 10


@dataclass(eq=False, slots=True)
class _Link:
    """One client's connection and ours to the server."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    swallow_requests: bool = False
    swallow_replies: bool = False

    def cut(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class TcpProxy:
    """Forwards a loopback port of its own to the port that `target` names at each new connection."""

    def __init__(self, target: Callable[[], int]) -> None:
        self.target = target
        self.port = 0
        self._links: set[_Link] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._partitioned = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None

    def start(self) -> None:
        self._thread.start()
        self._run(self._listen())

    def stop(self) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # ---- what can go wrong with a connection

    def cut(self) -> None:
        """Every connection ends at once."""
        self._run(self._each(_Link.cut))

    def half_open(self) -> None:
        """Both ends of every present connection wait for the other for ever; new ones are fine."""
        self._run(self._each(_swallow_all))

    def lose_replies(self) -> None:
        """What is asked on the present connections is done, and nobody hears of it."""
        self._run(self._each(_swallow_replies))

    def partition(self, partitioned: bool) -> None:
        """Nothing gets through, on present and on new connections; the end of it cuts them all."""
        self._partitioned = partitioned
        self._run(self._each(_swallow_all if partitioned else _Link.cut))

    # ---- the proxy's own thread

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=20)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._each(_Link.cut)
        await asyncio.gather(*self._handlers, return_exceptions=True)

    async def _each(self, spoil: Callable[[_Link], None]) -> None:
        for link in list(self._links):
            spoil(link)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            await self._serve(reader, writer)
        except OSError:
            writer.transport.abort()  # the server is away
        finally:
            self._handlers.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        replies, server = await asyncio.open_connection("127.0.0.1", self.target())
        link = _Link(writer, server, self._partitioned, self._partitioned)
        self._links.add(link)
        try:
            await asyncio.gather(
                _pump(reader, server, link, lambda: link.swallow_requests),
                _pump(replies, writer, link, lambda: link.swallow_replies),
            )
        finally:
            self._links.discard(link)
            link.cut()


def _swallow_all(link: _Link) -> None:
    link.swallow_requests = link.swallow_replies = True


def _swallow_replies(link: _Link) -> None:
    link.swallow_replies = True


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link, swallowed: Callable[[], bool]
) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            if not swallowed():
                writer.write(data)
                await writer.drain()
    link.cut()
