"""The HTTP server of a worker's metrics: whoever sends half a request, or hundreds of them, costs it little.

Each connection has a thread, as prometheus_client has it; but there are few of them, each request must be
whole within seconds, and where all are taken the one that has waited longest is closed for the next.
"""

import contextlib
import io
import logging
import socket
import threading
import time
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

log = logging.getLogger(__name__)

CONNECTIONS_MOST = 16
REQUEST_SECONDS = 10.0
"""How long a request may take, from the connection to its headers' end; and each write of the answer."""


class MetricsServer(ThreadingMixIn, WSGIServer):
    """Serves a registry at an address and a port. Raises OSError when they cannot be had."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: str, port: int, registry: CollectorRegistry) -> None:
        self._lock = threading.Lock()
        self._open: dict[socket.socket, None] = {}
        self.address_family, _, _, _, place = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        super().__init__(place[:2], OneRequest)  # type: ignore[arg-type]
        self.set_app(make_wsgi_app(registry))

    def start(self) -> threading.Thread:
        """From the thread that it answers, for as long as the process lives."""
        thread = threading.Thread(target=self.serve_forever, name="metrics", daemon=True)
        thread.start()
        return thread

    def server_bind(self) -> None:
        """As WSGIServer does, without asking a name server what we are called."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            if len(self._open) >= CONNECTIONS_MOST:
                longest = next(iter(self._open))
                del self._open[longest]
                _hang_up(longest)
            self._open[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is too slow or goes away is no error of ours."""
        log.debug("a request for metrics was not answered client=%s", client_address, exc_info=True)


def _hang_up(connection: socket.socket) -> None:
    """Its thread reads the end, and closes it."""
    with contextlib.suppress(OSError):  # it went by itself
        connection.shutdown(socket.SHUT_RDWR)


class OneRequest(WSGIRequestHandler):
    """Reads a request's head within its time; a body is not asked for, and not read."""

    timeout = REQUEST_SECONDS

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_UntilDeadline(self.connection, time.monotonic() + REQUEST_SECONDS))

    def handle(self) -> None:
        self.raw_requestline = self.rfile.readline(65_537)
        if len(self.raw_requestline) <= 65_536 and self.parse_request():
            self.connection.settimeout(REQUEST_SECONDS)
            answer: Any = self.wfile
            handler = ServerHandler(io.BytesIO(), answer, self.get_stderr(), self.get_environ())
            handler.request_handler = self  # type: ignore[attr-defined]
            handler.run(self.server.get_app())  # type: ignore[attr-defined]

    def address_string(self) -> str:
        return str(self.client_address[0])

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: somebody scrapes every few seconds."""


class _UntilDeadline(io.RawIOBase):
    """What comes in until a moment; then TimeoutError, however slowly it comes."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        super().__init__()
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)
