"""Who may speak with the page's server: the one who has its token, from its own page.

A server on loopback is reachable by every page that the user's browser has open, and by every user of the
machine. The token keeps out the latter. Of pages: one whose name was rebound to this address is refused for
its Host header, one that sends a form here with the user's cookie for its Origin header.

The token comes once, in the address that is opened, and then in a cookie. Browsers send a cookie to every
port of a host, which may be another user's: this one is tied to a path that nobody else knows, where the page
lies.
"""

import hashlib
import ipaddress
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ASK_AGAIN = "Open the address that `holdfast dashboard` printed when it was started: it carries the token.\n"
COOKIE = "holdfast"
# Not a redirection: after one, a browser that came from another site would not send a strict cookie along.
WELCOME = (
    '<!doctype html><title>Holdfast</title><link rel="icon" href="data:,">'
    '<meta http-equiv="refresh" content="0; url={path}">'
)
READING = ("GET", "HEAD")
HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Guard:
    """Lets requests through to `app` that come with the token, from where they may come.

    `host` is the name or address that was asked to listen on.
    """

    def __init__(self, app: ASGIApp, *, token: str, host: str) -> None:
        self.app = app
        self.token = token
        self.host = host
        self.path = f"/{hashlib.sha256(token.encode()).hexdigest()[:32]}/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        refusal = self._why_not(request)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_raw(HEADERS)]
            await send(message)

        if refusal is not None:
            await PlainTextResponse(refusal, status_code=403)(scope, receive, send_guarded)
        elif self._came_by_address(request):
            await self._welcome()(scope, receive, send_guarded)
        else:
            await self.app(self._within(scope), receive, send_guarded)

    def _why_not(self, request: Request) -> str | None:
        """None: it may pass."""
        host = request.headers.get("host", "")
        if not self._is_ours(host):
            return f"{host!r} is no name of this server.\n"
        by_cookie = self._is_token(request.cookies.get(COOKIE))
        if not (by_cookie or self._is_token(_bearer(request)) or self._came_by_address(request)):
            return ASK_AGAIN
        origin = request.headers.get("origin")
        if request.method not in READING and (origin or by_cookie) and urlsplit(origin or "").netloc != host:
            return "This may only be asked for by the page itself.\n"
        return None

    def _is_ours(self, host: str) -> bool:
        """Only a name can be rebound: an address is what it says, as is localhost to every browser."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in ("localhost", self.host) or bool(ipaddress.ip_address(name))
        except ValueError:
            return False

    def _is_token(self, text: str | None) -> bool:
        return text is not None and secrets.compare_digest(text.encode(), self.token.encode())

    def _came_by_address(self, request: Request) -> bool:
        """The token in the address opens the page, and nothing else."""
        asks_for_page = request.method in READING and request.url.path == "/"
        return asks_for_page and self._is_token(request.query_params.get("token"))

    def _welcome(self) -> HTMLResponse:
        """Hands over the cookie and leads to where it counts."""
        answer = HTMLResponse(WELCOME.format(path=self.path))
        answer.set_cookie(COOKIE, self.token, path=self.path, httponly=True, samesite="strict")
        return answer

    def _within(self, scope: Scope) -> Scope:
        """As the app knows it: programs, which bring the token in a header, may leave out the path."""
        is_below = scope["path"].startswith(self.path)
        return {**scope, "root_path": self.path.rstrip("/")} if is_below else scope


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else None
