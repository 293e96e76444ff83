"""`holdfast dashboard`: serves the page until it is interrupted."""

import errno
import ipaddress
import os
import secrets
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from queue_app.coordination.redis_client import check, connect
from queue_app.dashboard.connections import TimedConnection
from queue_app.dashboard.job_source import ManyJobs, Place
from queue_app.dashboard.map.metadata import Metadata, read_metadata
from queue_app.dashboard.map_routes import MapAnswers
from queue_app.dashboard.routes import make_app
from queue_app.dashboard.streams import Feed
from queue_app.errors import HoldfastError, JobNotFound
from queue_app.job.directory import JobDir, find_job_directory
from queue_app.settings import runtime_config
from queue_app.status.known_jobs import jobs_of_folder
from queue_app.status.snapshot import snapshots

USUAL_PORT = 8765


def serve(
    job: str | None, broker: str | None, *, host: str, port: int | None, metadata: Path | None = None
) -> None:
    """Print the page's address and serve it. `port` None: the usual one, or where it is taken, a free one.

    Raises:
        InputError: the table that maps are to be coloured by cannot be read.
        JobNotFound: nobody knows the job.
        BrokerUnreachable: there is no server, and nothing on disk to read instead.
        HoldfastError: the port cannot be listened on.
    """
    known = read_metadata(metadata) if metadata else None
    place = find_place(job, broker)
    with listen(host, port) as listener:
        feed, token = Feed(place, runtime_config()), secrets.token_urlsafe(24)
        page = PageServer(feed, token=token, host=host, metadata=known)
        # What asyncio does with a Ctrl-C until the server listens to it can be lost: the page would not end.
        signal.signal(signal.SIGINT, page.handle_exit)
        print(address(listener, token), flush=True)
        print(
            "whoever has this address can see the jobs, pause and cancel them; Ctrl-C ends the page",
            file=sys.stderr,
        )
        if not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
            print("nothing on its way is encrypted: ssh -L with the usual --host is safer", file=sys.stderr)
        page.run(sockets=[listener])


class PageServer(uvicorn.Server):
    """Ends the streams before it waits for its connections."""

    def __init__(self, feed: Feed, *, token: str, host: str, metadata: Metadata | None = None) -> None:
        # No log of requests: the first one carries the token.
        maps = MapAnswers(feed.place, feed.jobs, metadata).routes()
        app = make_app(feed, maps, token=token, host=host)
        super().__init__(
            uvicorn.Config(
                app,
                http=TimedConnection,
                ws="none",
                log_level="warning",
                access_log=False,
                server_header=False,
            )
        )
        self.feed = feed

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.feed.close()
        await super().shutdown(sockets)


def listen(host: str, port: int | None) -> socket.socket:
    """Raises HoldfastError, naming the way out, when that cannot be."""
    wanted = USUAL_PORT if port is None else port
    try:
        family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, wanted), family=family)
    except OSError as error:
        if port is None and error.errno == errno.EADDRINUSE:
            return listen(host, 0)
        number = error.errno or 0
        why = os.strerror(number) if number > 0 else error.strerror  # Python's text repeats the address
        raise HoldfastError(f"{host}:{wanted}: {why}; --port 0 takes one that is free") from None


def address(listener: socket.socket, token: str) -> str:
    """What is to be opened in a browser."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/?token={token}"


def find_place(job: str | None, broker: str | None) -> Place:
    """Where the jobs are: a job is found as `holdfast status` does, of a folder it is all of its jobs.

    Raises:
        JobNotFound: nobody knows the job.
        BrokerUnreachable: there is no server, and nothing on disk to read instead.
    """
    if job is None:
        if broker is not None:
            check(connect(broker), broker)
        return ManyJobs(broker=broker)
    if _directory_of(job) is None and jobs_of_folder(Path(job)):
        return ManyJobs(broker=broker, folder=Path(job).absolute())
    (found,) = snapshots(job, broker)
    return Place(job_id=found.job, directory=_directory_of(job), broker=broker)


def _directory_of(job: str) -> JobDir | None:
    try:
        return find_job_directory(Path(job))
    except JobNotFound:
        return None
