"""The HTTP routes of models: listed, described, their cards and pictures, added and removed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.exceptions import HTTPException
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse

from biozoo import Zoo
from biozoo.errors import BiozooError, MissingFileError, NotFoundError

from ..answers import sends
from ..events import Look, event_stream
from .additions import Additions, weights_sizes
from .answers import AdditionAnswer, ModelDetails, ModelList
from .cards import card_fragment, details, package_picture, test_pictures
from .entries import COVER_TYPES
from .packing import package_name, zipped

if TYPE_CHECKING:
    from biozoo import Settings

    from .catalog import Catalog

__all__ = ["model_routes"]

#: A cover or a picture never changes under its address, which names the version.
CACHED = {"cache-control": "private, max-age=3600"}

CARD_TYPES = {"html": "text/html", "md": "text/markdown", "json": "application/json"}

#: A card is one file with a stranger's words in it: it fetches nothing, runs nothing, and stands
#: apart from the page of this server.
CARD_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox allow-popups "
    "allow-popups-to-escape-sandbox"
)

PICTURE = sends("image/*", "The picture.")
CARD = sends("text/html", "The card; as text/markdown or application/json likewise.")
ZIP = sends("application/zip", "The package.")
SSE = sends("text/event-stream", "Events `addition`, each with the addition as JSON.")


def model_routes(catalog: Catalog, additions: Additions, *, settings: Settings) -> APIRouter:
    """The routes of one server's models, below /api/models and /api/additions.

    Plain functions, not coroutines: FastAPI runs them in threads, so a slow disk blocks nobody.
    """
    router = APIRouter(prefix="/api", tags=["models"])

    @router.get("/models", response_model=ModelList)
    def models(request: Request) -> Response:
        """List every model with what it can be filtered by, and the state of the collection.

        The list is kept as bytes; whoever has it already (If-None-Match) is told so.
        """
        listing = catalog.listing()
        headers = {
            "etag": listing.etag,
            "cache-control": "private, no-cache",
            "vary": "accept-encoding",
        }
        if request.headers.get("if-none-match") == listing.etag:
            return Response(status_code=304, headers=headers)
        body = listing.body
        if "gzip" in request.headers.get("accept-encoding", "") and listing.packed is not None:
            body = listing.packed
            headers["content-encoding"] = "gzip"
        return Response(body, media_type="application/json", headers=headers)

    @router.get("/models/{model_id:path}/cover", response_class=FileResponse, responses=PICTURE)
    def cover(model_id: str) -> FileResponse:
        """Serve the picture of a model; that of the collection's is fetched by the server, once."""
        path = catalog.cover(model_id)
        return FileResponse(path, media_type=COVER_TYPES[path.suffix.lower()], headers=CACHED)

    @router.get("/models/{model_id:path}/picture", response_class=FileResponse, responses=PICTURE)
    def picture(model_id: str, path: str) -> FileResponse:
        """Serve a picture that the model's documentation shows."""
        package = catalog.package(model_id)
        found = package_picture(package.root, path)
        if found is None:
            raise MissingFileError(what="The picture", path=path)
        return FileResponse(found, media_type=COVER_TYPES[found.suffix.lower()], headers=CACHED)

    @router.get("/models/{model_id:path}/test-picture", response_class=Response, responses=PICTURE)
    def test_picture(model_id: str, tensor: str, n: int = 0) -> Response:
        """Serve the n-th picture of one of the model's own test tensors."""
        for shown in test_pictures(catalog.package(model_id)):
            if shown.tensor == tensor and 0 <= n < len(shown.views):
                view = shown.views[n]
                return Response(view.content, media_type=view.media, headers=CACHED)
        raise MissingFileError(what="The picture", path=f"{tensor} {n}")

    @router.get("/models/{model_id:path}/card", response_class=HTMLResponse)
    def fragment(model_id: str) -> HTMLResponse:
        """Serve the card as a piece of HTML for a page that has its own style.

        The description of a model that is not on this machine is fetched for it, a few kilobytes.
        """
        return HTMLResponse(card_fragment(catalog.described(model_id)))

    @router.get("/models/{model_id:path}/card.{kind}", response_class=Response, responses=CARD)
    def card(model_id: str, kind: Literal["html", "md", "json"]) -> Response:
        """Serve the whole card as `zoo card` writes it: html, md or json."""
        from biozoo_model_cards import Sheet

        sheet = Sheet.of(catalog.described(model_id))
        if kind == "json":
            return JSONResponse(sheet.to_json())
        text = sheet.to_html() if kind == "html" else sheet.to_markdown()
        headers = {"content-security-policy": CARD_POLICY}
        return Response(text.encode(), media_type=CARD_TYPES[kind], headers=headers)

    @router.get("/models/{model_id:path}/package", response_class=StreamingResponse, responses=ZIP)
    def download(model_id: str) -> StreamingResponse:
        """Download a built-in or installed model as a bioimage.io package, one zip."""
        package = catalog.package(model_id)
        name = quote(package_name(package))
        headers = {"content-disposition": f"attachment; filename*=utf-8''{name}"}
        return StreamingResponse(zipped(package), media_type="application/zip", headers=headers)

    @router.post("/models/{model_id:path}/add", status_code=202, response_model=AdditionAnswer)
    def add(model_id: str) -> dict[str, Any]:
        """Add a model of the collection to the zoo; two who ask for one share the addition."""
        return additions.start(model_id).to_dict()

    @router.get("/models/{model_id:path}", response_model=ModelDetails)
    def model(model_id: str) -> dict[str, Any]:
        """Describe one model: its entry, its inputs and outputs, facts, and commands.

        Of a model that is not on this machine only what is known without the network; its card
        asks for the rest.
        """
        return _described(catalog, additions, model_id)

    @router.delete("/models/{model_id:path}", status_code=204)
    def remove(model_id: str) -> None:
        """Remove every version of an installed model; 409 for one that comes with biozoo."""
        package = catalog.package(model_id)
        if package.origin == "built-in":
            raise HTTPException(409, f"Model '{model_id}' comes with biozoo and stays.")
        Zoo(settings).remove(model_id)

    @router.get("/additions/{addition_id}", response_model=AdditionAnswer)
    def addition(addition_id: str) -> dict[str, Any]:
        """Tell how far an addition is."""
        return additions.get(addition_id).to_dict()

    @router.post("/additions/{addition_id}/cancel", response_model=AdditionAnswer)
    def cancel(addition_id: str) -> dict[str, Any]:
        """Stop an addition with the next piece that arrives; nothing is left behind."""
        return additions.cancel(addition_id).to_dict()

    @router.get("/additions/{addition_id}/events", response_class=StreamingResponse, responses=SSE)
    async def events(addition_id: str, request: Request) -> StreamingResponse:
        """Stream an addition as server-sent events, one per change, until it has ended."""
        found = additions.get(addition_id)

        def told() -> Look:
            return Look("addition", json.dumps(found.to_dict()), found.state != "running")

        async def look() -> Look:
            return told()

        return event_stream(told(), look, request)

    return router


def _described(catalog: Catalog, additions: Additions, model_id: str) -> dict[str, Any]:
    entry, running = catalog.entry(model_id), additions.of_model(model_id)
    told: dict[str, Any] = {
        "inputs": [],
        "outputs": [],
        "facts": {},
        "documentation": "",
        "commands": {},
        "addition": running.to_dict() if running is not None else None,
    }
    try:
        package = catalog.described(model_id, fetch=False)
    except NotFoundError:
        raise
    except BiozooError:  # its description has not been fetched yet
        return entry.to_dict() | told
    if entry.origin == "collection":
        entry = entry.with_size(sum(weights_sizes(package).values()) or None)
    return entry.to_dict() | told | details(package)
