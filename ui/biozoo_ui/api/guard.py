"""Who may come in: one ASGI middleware around everything, own routes and Gradio's alike.

Gradio's own guard leaves some of its routes open, so the door stands outside of it. With a token,
each request must carry it: `Authorization: Bearer`, the cookie, or once `?token=` in the address,
which sets the cookie. On loopback without a token the door still refuses names that are not this
machine's (a web page elsewhere whose name resolves to 127.0.0.1) and changes asked for by the
page of another origin.
"""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .settings import ServerSettings, is_loopback

COOKIE = "biozoo_token"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

# Gradio builds its templates with Function() and styles elements inline; nothing may be fetched
# from, sent to, or framed by another server.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)


class Guard:
    """ASGI middleware that lets a request in, or answers it."""

    def __init__(self, app: ASGIApp, *, settings: ServerSettings) -> None:
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # Nothing here speaks WebSocket; "lifespan" is no request.
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        answer = self._answer(Request(scope))
        if answer is not None:
            await answer(scope, receive, send)
            return

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("content-security-policy", POLICY)
                headers["x-content-type-options"] = "nosniff"
                headers["referrer-policy"] = "no-referrer"
            await send(message)

        await self.app(scope, receive, with_policy)

    def _answer(self, request: Request) -> Response | None:
        headers = request.headers
        if request.method not in SAFE_METHODS and not _same_origin(headers):
            return _refuse(403, "This request comes from the page of another server.")
        if self.settings.token is None:
            if is_loopback(_hostname(headers.get("host", ""))):
                return None
            return _refuse(403, "Open this server by its own address, 127.0.0.1 or localhost.")
        return self._check_token(request)

    def _check_token(self, request: Request) -> Response | None:
        asked = parse_qsl(request.url.query, keep_blank_values=True)
        given = dict(asked).get("token")
        if given is not None and self._right(given) and request.method == "GET":
            rest = urlencode([(k, v) for k, v in asked if k != "token"])
            # No leading "//": that would be another server.
            path = "/" + request.url.path.lstrip("/") + (f"?{rest}" if rest else "")
            response = RedirectResponse(path, status_code=303)
            response.set_cookie(
                COOKIE,
                given,
                httponly=True,
                samesite="lax",
                secure=request.url.scheme == "https",
            )
            return response
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._right(bearer.strip()):
            return None
        if self._right(_cookie(request.headers)):
            return None
        return _refuse(401, "This server asks for its token: open its address with ?token=TOKEN.")

    def _right(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self.settings.token or "").encode())


def _refuse(status: int, why: str) -> JSONResponse:
    return JSONResponse({"error": why}, status_code=status)


def _cookie(headers: Headers) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _hostname(host: str) -> str:
    """The name in a Host header, without the port: "[::1]:7860" -> "::1"."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _same_origin(headers: Headers) -> bool:
    origin = headers.get("origin")
    if origin is None:  # no browser, or the same page
        return True
    return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
