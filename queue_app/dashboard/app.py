"""The requests that the page makes, and their answers."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from queue_app import control
from queue_app.broker import TRANSIENT
from queue_app.dashboard.access import Guard
from queue_app.dashboard.aside import read_aside
from queue_app.dashboard.feed import Feed
from queue_app.dashboard.page import load_page
from queue_app.errors import HoldfastError
from queue_app.states import JobState

CONTROLS: Mapping[str, Callable[[str, str | None], tuple[str, JobState]]] = {
    "pause": control.pause,
    "unpause": control.unpause,
    "cancel": control.cancel,
}


def make_app(feed: Feed, *, token: str, host: str) -> ASGIApp:
    """The page's server; nothing of it answers without the token."""
    answers = Answers(feed)
    routes = [
        Route("/", answers.page),
        Route("/events", answers.events),
        Route("/jobs/{job}/quarantine", answers.quarantine),
        Route("/jobs/{job}/{control}", answers.control, methods=["POST"]),
    ]
    return Guard(Starlette(routes=routes), token=token, host=host)


class Answers:
    """One method per kind of request."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self._page = load_page()

    async def page(self, request: Request) -> Response:
        return HTMLResponse(self._page.html, headers={"content-security-policy": self._page.policy})

    async def events(self, request: Request) -> Response:
        """`?job=ID`: the list of jobs, and this one's board."""
        return StreamingResponse(
            self.feed.stream(request.query_params.get("job", "")), media_type="text/event-stream"
        )

    async def quarantine(self, request: Request) -> Response:
        """`?from=N`: some of the records that were set aside, by ordinal."""
        job_id = await self._job(request)
        start = request.query_params.get("from", "0")
        if not start.isdecimal():
            raise HTTPException(400, "from is a number")
        return await _answer(lambda: asdict(read_aside(self.feed.place, job_id, int(start))))

    async def control(self, request: Request) -> Response:
        """Pause, unpause or cancel; answers the job's state."""
        job_id = await self._job(request)
        act = CONTROLS.get(request.path_params["control"])
        if act is None:
            raise HTTPException(404)
        place = self.feed.place

        def run() -> dict[str, str]:
            _, state = act(place.name_of(job_id), place.broker)
            return {"state": str(state)}

        return await _answer(run)

    async def _job(self, request: Request) -> str:
        """Only ids that are in the list: anything else might be taken for a path."""
        job_id: str = request.path_params["job"]
        if job_id not in {line.job for line in (await self.feed.jobs()).jobs}:
            raise HTTPException(404, "no such job")
        return job_id


async def _answer(read: Callable[[], object]) -> Response:
    """What `read` answers, in a thread; what it cannot do is said in one line."""
    try:
        return JSONResponse(await asyncio.to_thread(read))
    except TRANSIENT as error:
        return JSONResponse({"error": f"the server does not answer: {error}"}, status_code=503)
    except HoldfastError as error:
        return JSONResponse({"error": str(error)}, status_code=409)
