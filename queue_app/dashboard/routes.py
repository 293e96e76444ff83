"""The requests that the page makes, and their answers."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from queue_app.coordination import job_control
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.states import JobState
from queue_app.dashboard.access import Guard
from queue_app.dashboard.job_source import Place
from queue_app.dashboard.map.cache import Making, Maps, Wanted, making_message, map_message
from queue_app.dashboard.map.metadata import Metadata
from queue_app.dashboard.static_files import POLICY, read_files
from queue_app.dashboard.streams import Feed
from queue_app.errors import HoldfastError
from queue_app.job.quarantine import list_quarantine

CONTROLS: Mapping[str, Callable[[str, str | None], tuple[str, JobState]]] = {
    "pause": job_control.pause,
    "unpause": job_control.unpause,
    "cancel": job_control.cancel,
}
QUARANTINE_PAGE = 50
MAP_THREADS = 2
"""So many questions about maps are answered at once: a pass over all results may take minutes, and is made by
the threads that also look at the jobs."""


def make_app(feed: Feed, *, token: str, host: str, metadata: Metadata | None = None) -> ASGIApp:
    """The page's server; nothing of it answers without the token. Maps can be coloured by `metadata`."""
    answers, maps = Answers(feed), MapAnswers(feed, metadata)
    routes = [
        Route("/", answers.file),
        Route("/events", answers.events),
        Route("/jobs/{job}/quarantine", answers.quarantine),
        Route("/jobs/{job}/map", maps.map),
        Route("/jobs/{job}/map/colours", maps.colours),
        Route("/jobs/{job}/map/nearest", maps.nearest),
        Route("/jobs/{job}/{control}", answers.control, methods=["POST"]),
        Route("/{name}", answers.file),
    ]
    return Guard(Starlette(routes=routes), token=token, host=host)


class Answers:
    """One method per kind of request."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self._files = read_files()

    async def file(self, request: Request) -> Response:
        """The page, its style or one of its scripts."""
        found = self._files.get(request.path_params.get("name", "page.html"))
        if found is None:
            raise HTTPException(404)
        return Response(found.text, media_type=found.kind, headers={"content-security-policy": POLICY})

    async def events(self, request: Request) -> Response:
        """`?job=ID`: the list of jobs, and this one's board."""
        return StreamingResponse(
            self.feed.stream(request.query_params.get("job", "")), media_type="text/event-stream"
        )

    async def quarantine(self, request: Request) -> Response:
        """`?from=N`: some of the records that were set aside, by ordinal."""
        job_id = await _job(self.feed, request)
        start = _number(request, "from")
        return await _answer(lambda: read_quarantine(self.feed.place, job_id, start))

    async def control(self, request: Request) -> Response:
        """Pause, unpause or cancel; answers the job's state."""
        job_id = await _job(self.feed, request)
        act = CONTROLS.get(request.path_params["control"])
        if act is None:
            raise HTTPException(404)
        place = self.feed.place

        def run() -> dict[str, str]:
            _, state = act(place.name_of(job_id), place.broker)
            return {"state": str(state)}

        return await _answer(run)


class MapAnswers:
    """The same for maps. `?column=C&method=M` choose one, by default the first that there is."""

    def __init__(self, feed: Feed, metadata: Metadata | None) -> None:
        self.feed = feed
        self._maps = Maps(feed.place, metadata)
        self._turns = asyncio.Semaphore(MAP_THREADS)

    async def map(self, request: Request) -> Response:
        """The points, or how far their making is."""
        wanted = await self._wanted(request)

        def look() -> dict[str, Any]:
            found = self._maps.look(wanted)
            if isinstance(found, Making):
                return making_message(found)
            return map_message(found, self._maps.offer(found.published))

        return await self._in_turn(request, look)

    async def colours(self, request: Request) -> Response:
        """`?by=COLUMN`: what each point is coloured by, and how."""
        wanted, by = await self._wanted(request), request.query_params.get("by", "")
        return await self._in_turn(request, lambda: asdict(self._maps.colour(wanted, by)))

    async def nearest(self, request: Request) -> Response:
        """`?of=ORDINAL`: a record that is on the map, and its nearest neighbours."""
        wanted, ordinal = await self._wanted(request), _number(request, "of")
        return await self._in_turn(
            request, lambda: [asdict(each) for each in self._maps.nearest(wanted, ordinal)]
        )

    async def _in_turn(self, request: Request, read: Callable[[], object]) -> Response:
        """Who has gone away meanwhile, or asked for something else, is not answered."""
        async with self._turns:
            return Response() if await request.is_disconnected() else await _answer(read)

    async def _wanted(self, request: Request) -> Wanted:
        job_id, asked = await _job(self.feed, request), request.query_params
        return Wanted(job_id, asked.get("column", ""), asked.get("method", ""))


async def _job(feed: Feed, request: Request) -> str:
    """Only ids that are in the list: anything else might be taken for a path."""
    job_id: str = request.path_params["job"]
    if job_id not in {line.job for line in (await feed.jobs()).jobs}:
        raise HTTPException(404, "no such job")
    return job_id


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "0")
    if not text.isdecimal():
        raise HTTPException(400, f"{name} is a number")
    return int(text)


async def _answer(read: Callable[[], object]) -> Response:
    """What `read` answers, in a thread; what it cannot do is said in one line."""
    try:
        return JSONResponse(await asyncio.to_thread(read))
    except TRANSIENT as error:
        return JSONResponse({"error": f"the server does not answer: {error}"}, status_code=503)
    except HoldfastError as error:
        return JSONResponse({"error": str(error)}, status_code=409)


def read_quarantine(place: Place, job_id: str, start: int) -> dict[str, Any]:
    """Records that were set aside, by ordinal, a page of them from the `start`-th of `num_entries` on.

    Those of finished shards; without a server also what the stores of the others say. Raises redis errors
    where there is no directory to be read instead.
    """
    try:
        entries = CheckpointManifest(place.client(), job_id).quarantine()
    except TRANSIENT:
        if place.directory is None:
            raise
        entries = list_quarantine(place.directory)
    shown = [asdict(entry) for entry in entries[start : start + QUARANTINE_PAGE]]
    return {"start": start, "num_entries": len(entries), "entries": shown}
