"""The viewer's files, and a page of its own for an opened image: needs no Gradio."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

__all__ = ["VIEWER", "mount_viewer"]

#: Where the viewer's modules are served; `import(VIEWER + "/index.js")`.
VIEWER = "/static/viewer"
_FOLDER = Path(__file__).parent / "static" / "viewer"

_PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>biozoo viewer</title>
<style>html, body {{ height: 100%; margin: 0 }} #viewer {{ height: 100% }}</style>
<script type="module" src="{VIEWER}/open.js"></script>
</head>
<body><main id="viewer"></main></body>
</html>
"""


def mount_viewer(app: FastAPI) -> None:
    """Serve the viewer's modules, and at /view the page that shows one image.

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
    app.mount(VIEWER, StaticFiles(directory=_FOLDER))
