"""Whose an image is: a signed-in user's, else a browser's (a random cookie) or a token's.

The guard decides who may come in; this only keeps those who are in apart from each other.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..guard import USER, base_of

COOKIE = "biozoo_session"

_KEPT = 400 * 24 * 3600  # seconds: what was painted is found again after the browser was closed
_KEY = "biozoo_session"  # in a request's state, which the program may use that embeds this one
_VALID = re.compile(r"[A-Za-z0-9_-]{32}")


class Session:
    """ASGI middleware, inside of the guard: puts the session's id into the request's state.

    A user's session is the user's own, whatever the browser, so images and jobs follow the person.
    Else a request without a session gets a new one and its cookie, so a page that is loaded first
    has it in every request that follows. A program that sends `Authorization: Bearer` keeps no
    cookies: its session is that of its token.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        state = scope.setdefault("state", {})
        # No cookie or token can be mistaken for that of a user: neither holds a colon.
        user = f"user:{state[USER]}" if USER in state else ""
        found = user or _cookie(headers) or _bearer(headers)
        session = found or secrets.token_urlsafe(24)
        state[_KEY] = session
        if found:
            await self.app(scope, receive, send)
            return
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        path = base_of(HTTPConnection(scope)) or "/"

        async def with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append(
                    "set-cookie",
                    f"{COOKIE}={session}; Path={path}; Max-Age={_KEPT}; HttpOnly; "
                    f"SameSite=Lax{secure}",
                )
            await send(message)

        await self.app(scope, receive, with_cookie)


def session_of(request: HTTPConnection) -> str:
    """The id of the session that a request belongs to; a secret, never to be shown to others."""
    return str(request.scope["state"][_KEY])


def _cookie(headers: Headers) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel and _VALID.fullmatch(morsel.value) else ""


def _bearer(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        return ""
    return f"token-{hashlib.sha256(token.strip().encode()).hexdigest()}"
