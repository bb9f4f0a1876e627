"""Who may come in: one ASGI middleware around everything, own routes and Gradio's alike.

Gradio's own guard leaves some of its routes open, so the door stands outside of it.

- With users, a browser shows the cookie that signing in gave it (pages lead to /login without one),
  a program sends `Authorization: Basic` with a name and a password.
- With a token, each request carries it: `Authorization: Bearer`, the cookie, or once `?token=` in
  the address, which sets the cookie. Beside users the token is for programs: as a header only.
- On loopback without either the door still refuses names that are not this machine's (a web page
  elsewhere whose name resolves to 127.0.0.1).

Always refused: changes asked for by the page of another origin, and requests of more than 4 MB but
for uploads, which count for themselves: all else is read into memory.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import re
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .logins import Logins
from .patience import TooManyAttemptsError
from .settings import ServerSettings, is_loopback

COOKIE = "biozoo_token"
LOGIN_COOKIE = "biozoo_login"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
OPEN_PATHS = ("/login", "/logout")
"""What anybody may ask for where there are users."""

STREAMED = re.compile(r"/api/images/uploads|/api/annotations/\w+/files")
"""Routes that write a body to disk as it comes, and count it themselves."""

MOST_BODY = 4 * 2**20  # bytes of all others

USER = "biozoo_user"
"""Key of the signed-in user's name in a request's state."""

# Gradio builds its templates with Function() and styles elements inline; nothing may be fetched
# from, sent to, or framed by another server.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)


class Guard:
    """ASGI middleware that lets a request in, or answers it.

    Parameters
    ----------
    logins
        The users' sign-ins; None where there are no users.
    """

    def __init__(
        self, app: ASGIApp, *, settings: ServerSettings, logins: Logins | None = None
    ) -> None:
        self.app, self.settings, self.logins = app, settings, logins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # Nothing here speaks WebSocket; "lifespan" is no request.
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        answer = await self._answer(Request(scope))
        if answer is not None:
            answer.headers.setdefault("cache-control", "no-store")
            await answer(scope, receive, send)
            return

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("content-security-policy", POLICY)
                headers["x-content-type-options"] = "nosniff"
                # Not "no-referrer": a browser would then hide the origin of our own forms too.
                headers["referrer-policy"] = "same-origin"
            await send(message)

        if not STREAMED.fullmatch(path_of(scope)):
            receive = _counted(receive)
        await self.app(scope, receive, with_policy)

    async def _answer(self, request: Request) -> Response | None:
        headers = request.headers
        if request.method not in SAFE_METHODS and not _same_origin(headers):
            return _refuse(403, "This request comes from the page of another server.")
        said = headers.get("content-length", "")
        whole = not STREAMED.fullmatch(path_of(request.scope))
        if whole and said.isdecimal() and int(said) > MOST_BODY:
            return _refuse(413, _TOO_LARGE)
        if self.logins is not None:
            return await self._check_user(request, self.logins)
        if self.settings.token is None:
            if is_loopback(_hostname(headers.get("host", ""))):
                return None
            return _refuse(403, "Open this server by its own address, 127.0.0.1 or localhost.")
        return self._check_token(request)

    async def _check_user(self, request: Request, logins: Logins) -> Response | None:
        if path_of(request.scope) in OPEN_PATHS or self._bears_token(request):
            return None
        user = logins.user(cookie_of(request.headers, LOGIN_COOKIE))
        given = _basic(request.headers) if user is None else None
        if given is not None:
            try:
                user = await logins.check(*given, address_of(request))
            except TooManyAttemptsError as exc:
                after = {"retry-after": str(exc.seconds)}
                return JSONResponse({"error": exc.message}, exc.http_status, headers=after)
            if user is None:
                return _refuse(401, "The name or the password is wrong.", challenge=True)
        if user is None:
            return _to_login(request)
        request.scope.setdefault("state", {})[USER] = user
        return None

    def _bears_token(self, request: Request) -> bool:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self._right(bearer.strip())

    def _check_token(self, request: Request) -> Response | None:
        asked = parse_qsl(request.url.query, keep_blank_values=True)
        given = dict(asked).get("token")
        if given is not None and self._right(given) and request.method == "GET":
            rest = urlencode([(k, v) for k, v in asked if k != "token"])
            # No leading "//": that would be another server.
            path = "/" + request.url.path.lstrip("/") + (f"?{rest}" if rest else "")
            response = RedirectResponse(path, status_code=303)
            set_cookie(response, request, COOKIE, given)
            return response
        if self._bears_token(request) or self._right(cookie_of(request.headers, COOKIE)):
            return None
        return _refuse(401, "This server asks for its token: open its address with ?token=TOKEN.")

    def _right(self, given: str) -> bool:
        token = self.settings.token
        return token is not None and hmac.compare_digest(given.encode(), token.encode())


_TOO_LARGE = f"This request is too large: up to {MOST_BODY // 2**20} MB are read."


def _counted(receive: Receive) -> Receive:
    """The same, for as much as may be read into memory."""
    total = 0

    async def counting() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > MOST_BODY:
            raise HTTPException(413, _TOO_LARGE)
        return message

    return counting


def user_of(request: HTTPConnection) -> str | None:
    """The name of the user who asks; None for a program with the token, or without users."""
    return getattr(request.state, USER, None)


def cookie_of(headers: Headers, name: str) -> str:
    """The value of a cookie, empty where there is none."""
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def set_cookie(
    response: Response, request: HTTPConnection, name: str, value: str, seconds: int | None = None
) -> None:
    """A cookie that scripts and other sites do not get, for this application's paths."""
    response.set_cookie(
        name,
        value,
        max_age=seconds,
        path=base_of(request) or "/",
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )


def path_of(scope: Scope) -> str:
    """The path that is asked for, below the one that the application is mounted at."""
    path, base = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    inside = base and (path == base or path.startswith(f"{base}/"))
    return path.removeprefix(base) if inside else path


def base_of(request: HTTPConnection) -> str:
    """The path that the application is mounted at, "" at the top."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def address_of(request: HTTPConnection) -> str:
    """Where a request comes from; of IPv6 the network, since one machine has many addresses."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 6 and not address.ipv4_mapped:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host


def _refuse(status: int, why: str, *, challenge: bool = False) -> JSONResponse:
    # The scheme Basic makes programs send a name; browsers would open a window of their own.
    headers = {"www-authenticate": 'Basic realm="biozoo", charset="UTF-8"'} if challenge else None
    return JSONResponse({"error": why}, status_code=status, headers=headers)


def _to_login(request: Request) -> Response:
    """The way to the login page for who wants to see a page, a sentence for all else."""
    path, headers = path_of(request.scope), request.headers
    is_page = request.method in ("GET", "HEAD") and "text/html" in headers.get("accept", "")
    if is_page and not path.startswith(("/api/", "/gradio_api/")):
        base, query = base_of(request), request.url.query
        wanted = quote(path) + (f"?{query}" if query else "")
        asked = "" if wanted in ("", "/") else f"?{urlencode({'next': base + wanted})}"
        return RedirectResponse(f"{base}/login{asked}", status_code=303)
    browser = "sec-fetch-mode" in headers or "origin" in headers
    return _refuse(401, "Sign in first: you are not, or no longer, signed in.",
                   challenge=not browser)  # fmt: skip


def _basic(headers: Headers) -> tuple[str, str] | None:
    """Name and password that a program sends."""
    scheme, _, packed = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(packed.strip()).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (name, password) if colon else None


def _hostname(host: str) -> str:
    """The name in a Host header, without the port: "[::1]:7860" -> "::1"."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _same_origin(headers: Headers) -> bool:
    origin = headers.get("origin")
    if origin is None:  # no browser, or the same page
        return headers.get("sec-fetch-site", "none") in ("none", "same-origin")
    return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
