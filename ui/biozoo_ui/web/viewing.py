"""Our own scripts and looks, and a page for an opened image alone: needs no Gradio."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

__all__ = ["mount_viewer"]

_STATIC = Path(__file__).parent / "static"

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>biozoo viewer</title>
<style>html, body { height: 100%; margin: 0 } #viewer { height: 100% }</style>
<script type="module" src="static/viewer/open.js"></script>
</head>
<body><main id="viewer"></main></body>
</html>
"""


def mount_viewer(app: FastAPI) -> None:
    """Serve the modules of page and viewer, and at /view the page that shows one image.

    ``/view?image=ID`` shows an image of the session, each ``&over=ID`` another one over it:
    labels as outlines, anything else as a colour map.
    """
    mimetypes.add_type("text/javascript", ".js")  # some Windows registries call it plain text
    router = APIRouter(tags=["pages"])

    @router.get("/view", response_class=HTMLResponse)
    def view(image: str) -> str:
        """Show an image of this session, with others over it."""
        return _PAGE

    app.include_router(router)
    for name in ("app", "viewer"):  # Gradio has files of its own below /static
        app.mount(f"/static/{name}", _Modules(directory=_STATIC / name))


class _Modules(StaticFiles):
    """Files that the browser keeps but asks about, so that an update is seen at once."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "no-cache"
        return response
