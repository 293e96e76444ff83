"""Who may speak with the page's server: the one who has its token, from its own page.

A server on loopback is reachable by every page that the user's browser has open, and by every user of the
machine. The token keeps out the latter. Of pages: one whose name was rebound to this address is refused for
its Host header, one that sends a form here with the user's cookie for its Origin header.
"""

import hashlib
import ipaddress
import secrets
from http.cookies import SimpleCookie
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ASK_AGAIN = "Open the address that `holdfast dashboard` printed when it was started: it carries the token.\n"
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
        # Cookies know no ports: two servers of one host must not take each other's away.
        self.cookie = "holdfast-" + hashlib.sha256(token.encode()).hexdigest()[:12]

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
                message["headers"] = [*message["headers"], *self._headers(request, welcome=refusal is None)]
            await send(message)

        answer = self.app if refusal is None else PlainTextResponse(refusal, status_code=403)
        await answer(scope, receive, send_guarded)

    def _why_not(self, request: Request) -> str | None:
        """None: it may pass."""
        host = request.headers.get("host", "")
        if not self._is_ours(host):
            return f"{host!r} is no name of this server.\n"
        by_cookie = self._is_token(request.cookies.get(self.cookie))
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

    def _headers(self, request: Request, *, welcome: bool) -> list[tuple[bytes, bytes]]:
        headers = dict(HEADERS)
        if welcome and self._came_by_address(request):
            headers["set-cookie"] = self._cookie_header()
        return [(name.encode(), value.encode()) for name, value in headers.items()]

    def _cookie_header(self) -> str:
        cookie = SimpleCookie({self.cookie: self.token})
        for name, value in (("path", "/"), ("httponly", True), ("samesite", "Strict")):
            cookie[self.cookie][name] = value
        return cookie[self.cookie].OutputString()


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else None
