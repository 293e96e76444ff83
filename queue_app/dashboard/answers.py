"""What all answers have in common: which job is meant, and errors in one line."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from queue_app.coordination.redis_client import TRANSIENT
from queue_app.dashboard.job_list import JobList
from queue_app.errors import HoldfastError
from queue_app.shown import visible_lines

Jobs = Callable[[], Awaitable[JobList]]
"""What tells the list of jobs as it is now."""


async def job_of(jobs: Jobs, request: Request) -> str:
    """Only ids that are in the list: anything else might be taken for a path."""
    job_id: str = request.path_params["job"]
    if job_id not in {line.job for line in (await jobs()).jobs}:
        raise HTTPException(404, "no such job")
    return job_id


def number_of(request: Request, name: str) -> int:
    text = request.query_params.get(name, "0")
    if not text.isdecimal():
        raise HTTPException(400, f"{name} is a number")
    return int(text)


async def answered(read: Callable[[], object]) -> Response:
    """What `read` answers, in a thread, as JSON; what it cannot do is said in one line."""
    try:
        found = await asyncio.to_thread(read)
        return found if isinstance(found, Response) else JSONResponse(found)
    except TRANSIENT as error:
        why = visible_lines(str(error))
        return JSONResponse({"error": f"the server does not answer: {why}"}, status_code=503)
    except HoldfastError as error:
        return JSONResponse({"error": visible_lines(str(error))}, status_code=409)
