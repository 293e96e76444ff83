"""The requests that the page makes, and their answers."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from checkpoint.records import QuarantineEntry
from queue_app.coordination import job_control
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.states import JobState
from queue_app.dashboard.about import output_path
from queue_app.dashboard.access import Guard
from queue_app.dashboard.answers import answered, job_of, number_of
from queue_app.dashboard.job_source import Place, load
from queue_app.dashboard.static_files import POLICY, read_files
from queue_app.dashboard.streams import Feed
from queue_app.errors import UsageError
from queue_app.job.output_names import card_paths
from queue_app.job.quarantine import list_quarantine
from queue_app.shown import visible

CONTROLS: Mapping[str, Callable[[str, str | None], tuple[str, JobState]]] = {
    "pause": job_control.pause,
    "unpause": job_control.unpause,
    "cancel": job_control.cancel,
}
QUARANTINE_PAGE = 50
TEXT_MOST = 1_000
"""Letters of an id or a reason, on the page."""


def make_app(feed: Feed, maps: Iterable[Route], *, token: str, host: str) -> ASGIApp:
    """The page's server, with the routes of maps; nothing of it answers without the token."""
    answers = Answers(feed)
    routes = [
        Route("/", answers.file),
        Route("/events", answers.events),
        Route("/jobs/{job}/quarantine", answers.quarantine),
        Route("/jobs/{job}/card", answers.card),
        *maps,
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
        """`?from=N`: some of the quarantined records, by ordinal."""
        job_id = await job_of(self.feed.jobs, request)
        start = number_of(request, "from")
        return await answered(lambda: read_quarantine(self.feed.place.of(job_id), job_id, start))

    async def card(self, request: Request) -> Response:
        """The run card of a finished job, as it lies beside the output."""
        job_id = await job_of(self.feed.jobs, request)
        return await answered(lambda: {"card": read_card(self.feed.place.of(job_id), job_id)})

    async def control(self, request: Request) -> Response:
        """Pause, unpause or cancel; answers the job's state."""
        job_id = await job_of(self.feed.jobs, request)
        act = CONTROLS.get(request.path_params["control"])
        if act is None:
            raise HTTPException(404)
        place = self.feed.place.of(job_id)

        def run() -> dict[str, str]:
            _, state = act(place.name_of(job_id), place.broker)
            return {"state": str(state)}

        return await answered(run)


def read_card(place: Place, job_id: str) -> str:
    """Markdown. Raises UsageError where there is none, or this host does not see it."""
    directory = place.directory_of(job_id)
    job = load(directory) if directory else None
    if directory is None or job is None:
        raise UsageError("this host does not see the job's directory")
    path = card_paths(output_path(job, directory))[0]
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; holdfast export writes it anew") from None


def read_quarantine(place: Place, job_id: str, start: int) -> dict[str, Any]:
    """Quarantined records by ordinal, a page of them from the `start`-th of `num_entries` on.

    Those of finished shards; without a server also what the stores of the others say. Raises redis errors
    where there is no directory to be read instead.
    """
    try:
        entries = CheckpointManifest(place.client(), job_id).quarantine()
    except TRANSIENT:
        if place.directory is None:
            raise
        entries = list_quarantine(place.directory)
    shown = entries[start : start + QUARANTINE_PAGE]
    return {"start": start, "num_entries": len(entries), "entries": [_shown(entry) for entry in shown]}


def _shown(entry: QuarantineEntry) -> dict[str, Any]:
    """As text on a screen: an id may be a megabyte long, or turn the direction of what stands beside it."""
    texts = {"id": visible(entry.id, TEXT_MOST), "reason": visible(entry.reason, TEXT_MOST)}
    return {**asdict(entry), **texts}
