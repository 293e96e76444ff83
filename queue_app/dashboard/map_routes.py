"""The requests that the map makes. `?column=C&method=M` choose one, by default the first that there is."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from queue_app.array_types import Int64s
from queue_app.dashboard.answers import Jobs, answered, job_of, number_of
from queue_app.dashboard.job_source import Place
from queue_app.dashboard.map.cache import Making, Maps, making_message
from queue_app.dashboard.map.colours import colour
from queue_app.dashboard.map.make_map import Wanted, map_message
from queue_app.dashboard.map.metadata import Metadata
from queue_app.dashboard.map.nearest import neighbourhood, spot
from queue_app.dashboard.map.offer import offer
from queue_app.dashboard.map.record_search import search
from queue_app.dashboard.map.selection import as_csv, as_fasta, point_texts
from queue_app.dashboard.map.standalone import page_of

MAP_THREADS = 2
"""So many questions about maps are answered at once: a pass over all results may take minutes, and is made by
the threads that also look at the jobs."""
SEARCH_LETTERS_MOST = 1_000
BODY_BYTES_MOST = 1 << 20
"""The ordinals of all points of a map take less."""


class MapAnswers:
    """One method per kind of request."""

    def __init__(self, place: Place, jobs: Jobs, metadata: Metadata | None) -> None:
        self.jobs = jobs
        self.metadata = metadata
        self._maps = Maps(place)
        self._turns = asyncio.Semaphore(MAP_THREADS)

    def routes(self) -> list[Route]:
        asked = {
            "/map": self.map, "/map.html": self.file, "/map/colours": self.colours, "/map/texts": self.texts,
            "/map/search": self.search, "/map/nearest": self.nearest, "/map/spot": self.spot,
        }  # fmt: skip
        taken = {"/map/selection.csv": self.csv, "/map/selection.fasta": self.fasta}
        return [
            *(Route(f"/jobs/{{job}}{path}", answer) for path, answer in asked.items()),
            *(Route(f"/jobs/{{job}}{path}", answer, methods=["POST"]) for path, answer in taken.items()),
        ]

    async def search(self, request: Request) -> Response:
        """`?text=T&from=PART`: the records that have it in their id, description or text."""
        wanted, start = await self._wanted(request), number_of(request, "from")
        text = request.query_params.get("text", "")
        if len(text) > SEARCH_LETTERS_MOST:
            raise HTTPException(400, f"at most {SEARCH_LETTERS_MOST} letters are looked for")
        return await self._in_turn(request, lambda: asdict(search(self._maps.made(wanted), text, start)))

    async def map(self, request: Request) -> Response:
        """The points, or how far their making is."""
        wanted = await self._wanted(request)

        def look() -> dict[str, Any]:
            found = self._maps.look(wanted)
            if isinstance(found, Making):
                return making_message(found)
            return map_message(found, offer(found.published, self.metadata))

        return await self._in_turn(request, look)

    async def colours(self, request: Request) -> Response:
        """`?by=COLUMN`: what each point is coloured by, and how."""
        wanted, by = await self._wanted(request), request.query_params.get("by", "")
        return await self._in_turn(
            request, lambda: asdict(colour(self._maps.made(wanted), by, self.metadata))
        )

    async def texts(self, request: Request) -> Response:
        """The description of each point, or how its sequence begins."""
        wanted = await self._wanted(request)
        return await self._in_turn(request, lambda: point_texts(self._maps.made(wanted)))

    async def nearest(self, request: Request) -> Response:
        """`?of=ORDINAL`: a record, and its nearest neighbours."""
        wanted, ordinal = await self._wanted(request), number_of(request, "of")
        return await self._in_turn(
            request, lambda: [asdict(each) for each in neighbourhood(self._maps.made(wanted), ordinal)]
        )

    async def spot(self, request: Request) -> Response:
        """`?of=ORDINAL`: where on the map a record belongs that is not drawn."""
        wanted, ordinal = await self._wanted(request), number_of(request, "of")
        return await self._in_turn(request, lambda: asdict(spot(self._maps.made(wanted), ordinal)))

    async def file(self, request: Request) -> Response:
        """The map as one file. It is only ever saved: its scripts are not to run as this page's."""
        wanted = await self._wanted(request)
        headers = {"content-disposition": "attachment", "content-security-policy": "sandbox"}
        return await self._in_turn(
            request,
            lambda: HTMLResponse(page_of(self._maps.made(wanted), self.metadata), headers=headers),
        )

    async def csv(self, request: Request) -> Response:
        """A table of the points whose ordinals are sent."""
        wanted, ordinals = await self._wanted(request), await _ordinals(request)
        return await self._in_turn(
            request,
            lambda: StreamingResponse(
                as_csv(self._maps.made(wanted), ordinals, self.metadata), media_type="text/csv"
            ),
        )

    async def fasta(self, request: Request) -> Response:
        """Their sequences."""
        wanted, ordinals = await self._wanted(request), await _ordinals(request)
        return await self._in_turn(
            request,
            lambda: StreamingResponse(as_fasta(self._maps.made(wanted), ordinals), media_type="text/plain"),
        )

    async def _in_turn(self, request: Request, read: Callable[[], object]) -> Response:
        """Who has gone away meanwhile, or asked for something else, is not answered."""
        async with self._turns:
            return Response() if await request.is_disconnected() else await answered(read)

    async def _wanted(self, request: Request) -> Wanted:
        job_id, asked = await job_of(self.jobs, request), request.query_params
        return Wanted(job_id, asked.get("column", ""), asked.get("method", ""))


async def _ordinals(request: Request) -> Int64s:
    """Those of the request's body, ascending, each once."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES_MOST:
            raise HTTPException(413, "more records than a map has")
    try:
        return np.unique(np.array(json.loads(body), np.int64).reshape(-1))
    except (ValueError, TypeError, OverflowError):
        raise HTTPException(400, "a list of ordinals is wanted") from None
