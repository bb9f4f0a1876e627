"""The page to sign in with: small HTML of our own, without Gradio and without JavaScript."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from ..api.guard import LOGIN_COOKIE, address_of, base_of, cookie_of, set_cookie
from ..api.logins import LONGEST_SECONDS, Logins
from ..api.patience import TooManyAttemptsError
from .render import render

_MOST = 16 * 2**10  # bytes of a form
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_WRONG = (
    "This name and password do not belong together. Try again, or ask the owner of this server."
)


def login_routes(logins: Logins) -> APIRouter:
    """The routes to sign in and out, for people; programs send `Authorization: Basic`."""
    router = APIRouter(tags=["users"])

    @router.get("/login", response_class=HTMLResponse)
    def login_page(request: Request, next: str = "") -> Response:
        """Show the page to sign in with; who has done so goes on to `next`."""
        if logins.user(cookie_of(request.headers, LOGIN_COOKIE)):
            return _on(request, next)
        return _page()

    @router.post("/login", response_class=HTMLResponse, openapi_extra=_FORM)
    async def login(request: Request, next: str = "") -> Response:
        """Sign in with the form's `name` and `password`; leads on to `next` with a cookie."""
        form = await _form(request)
        name = form.get("name", "").strip()
        try:
            user = await logins.check(name, form.get("password", ""), address_of(request))
        except TooManyAttemptsError as exc:
            return _page(name, exc.message, 429, {"retry-after": str(exc.seconds)})
        if user is None:
            return _page(name, _WRONG, 401)
        # Another one for each time: nobody can have laid it under the browser before.
        logins.forget(cookie_of(request.headers, LOGIN_COOKIE))
        response = _on(request, next)
        set_cookie(response, request, LOGIN_COOKIE, logins.open(user), int(LONGEST_SECONDS))
        return response

    @router.post("/logout", status_code=204, response_class=Response)
    def logout(request: Request) -> Response:
        """Sign out; a form of a page is led to the page to sign in with."""
        logins.forget(cookie_of(request.headers, LOGIN_COOKIE))
        response = Response(status_code=204)
        if "text/html" in request.headers.get("accept", ""):
            response = RedirectResponse(f"{base_of(request)}/login", status_code=303)
        set_cookie(response, request, LOGIN_COOKIE, "", 0)
        return response

    return router


_FORM = {
    "requestBody": {
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["name", "password"],
                    "properties": {"name": {"type": "string"}, "password": {"type": "string"}},
                }
            }
        }
    }
}


def _page(
    name: str = "", error: str = "", status: int = 200, headers: dict[str, str] | None = None
) -> HTMLResponse:
    own = {"content-security-policy": _POLICY, "cache-control": "no-store"}
    return HTMLResponse(render("login", name=name, error=error), status, own | (headers or {}))


async def _form(request: Request) -> dict[str, str]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST:
            return {}
    fields = parse_qs(body.decode(errors="replace"), keep_blank_values=True)
    return {key: values[0] for key, values in fields.items()}


def _on(request: Request, wanted: str) -> RedirectResponse:
    base = base_of(request)
    path = wanted if leads_inside(wanted, base) else f"{base}/"
    response = RedirectResponse(path, status_code=303)
    response.headers["cache-control"] = "no-store"
    return response


def leads_inside(wanted: str, base: str = "") -> bool:
    """Whether an address is a path below `base`, and to no browser one of another server.

    >>> leads_inside("/view?image=x"), leads_inside("//evil.example")
    (True, False)
    """
    if not wanted.startswith(f"{base}/") or wanted.startswith("//") or "\\" in wanted:
        return False
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in wanted):  # browsers drop some
        return False
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return False
    own = parts.path.removeprefix(base)
    return not parts.scheme and not parts.netloc and own not in ("/login", "/logout")
