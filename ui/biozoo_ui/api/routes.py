"""The HTTP routes: models, their covers and documents, and what runs left."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.responses import FileResponse, JSONResponse, Response

from biozoo.errors import MissingFileError, NotFoundError

from .catalog import COVER_TYPES
from .results import zip_files
from .runs import Run
from .state import ServerState

if TYPE_CHECKING:
    from biozoo import ModelPackage
    from biozoo_model_cards.pictures import Picture

#: A cover or a picture of a run never changes under its address.
CACHED = {"cache-control": "private, max-age=3600"}

CARD_TYPES = {"html": "text/html", "md": "text/markdown", "json": "application/json"}

#: A card is one file with a stranger's words in it: it fetches nothing, runs nothing, and stands
#: apart from the page of this server.
CARD_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox allow-popups "
    "allow-popups-to-escape-sandbox"
)


def routes(state: ServerState) -> APIRouter:
    """The routes of one server, all below /api.

    Plain functions, not coroutines: FastAPI runs them in threads, so a slow disk blocks nobody.
    """
    router = APIRouter(prefix="/api")
    catalog, runs = state.catalog, state.runs

    @router.get("/health")
    def health() -> dict[str, Any]:
        return {"status": "ok", "models": len(catalog.packages())}

    @router.get("/models")
    def models(words: str = "") -> dict[str, Any]:
        ids = catalog.search(words)
        entries = {entry.id: entry for entry in catalog.entries()}
        return {"models": [entries[i].to_dict() for i in ids if i in entries]}

    @router.get("/search")
    def search(words: str = "") -> dict[str, Any]:
        return {"ids": catalog.search(words)}

    @router.get("/models/{model_id:path}/cover")
    def cover(model_id: str) -> FileResponse:
        path = catalog.cover(catalog.package(model_id))
        if path is None:
            raise MissingFileError(what="The cover of", path=model_id)
        return FileResponse(path, media_type=COVER_TYPES[path.suffix.lower()], headers=CACHED)

    @router.get("/models/{model_id:path}/picture")
    def picture(model_id: str, path: str) -> FileResponse:
        """Serve a picture that the model's documentation shows."""
        package = catalog.package(model_id)
        found = package_picture(package.root, path)
        if found is None:
            raise MissingFileError(what="The picture", path=path)
        return FileResponse(found, media_type=COVER_TYPES[found.suffix.lower()], headers=CACHED)

    @router.get("/models/{model_id:path}/test-picture")
    def test_picture(model_id: str, tensor: str, n: int = 0) -> Response:
        """Serve the n-th picture of one of the model's own test tensors."""
        for shown in test_pictures(catalog.package(model_id)):
            if shown.tensor == tensor and 0 <= n < len(shown.views):
                view = shown.views[n]
                return Response(view.content, media_type=view.media, headers=CACHED)
        raise MissingFileError(what="The picture", path=f"{tensor} {n}")

    @router.get("/models/{model_id:path}/card.{kind}")
    def card(model_id: str, kind: str) -> Response:
        """Serve the whole card as `zoo card` writes it: html, md or json."""
        from biozoo_model_cards import Sheet

        package = catalog.package(model_id)
        if kind not in CARD_TYPES:
            raise NotFoundError(kind="kind of card", got=kind, known=CARD_TYPES)
        sheet = Sheet.of(package)
        if kind == "json":
            return JSONResponse(sheet.to_json())
        text = sheet.to_html() if kind == "html" else sheet.to_markdown()
        headers = {"content-security-policy": CARD_POLICY}
        return Response(text.encode(), media_type=CARD_TYPES[kind], headers=headers)

    @router.get("/models/{model_id:path}")
    def model(model_id: str) -> dict[str, Any]:
        from biozoo_model_cards import ModelCard

        package = catalog.package(model_id)
        return {
            **catalog.entry(package).to_dict(),
            "facts": dict(ModelCard.of(package).facts),
            "documentation": package.documentation,
        }

    @router.get("/previews/{key}.png")
    def preview(key: str) -> FileResponse:
        path = state.previews / f"{key}.png"
        if not key.isalnum() or not path.is_file():
            raise MissingFileError(what="The picture", path=key)
        return FileResponse(path, media_type="image/png", headers=CACHED)

    @router.get("/runs/{run_id}")
    def run(run_id: str) -> dict[str, Any]:
        return describe_run(runs.get(run_id))

    @router.delete("/runs/{run_id}")
    def cancel(run_id: str) -> dict[str, Any]:
        found = runs.get(run_id)
        found.cancel()
        return describe_run(found)

    @router.get("/runs/{run_id}/layers/{key}.png")
    def layer(run_id: str, key: str) -> FileResponse:
        outcome = runs.get(run_id).outcome
        keys = ("image", *(one.key for one in outcome.layers)) if outcome else ()
        if key not in keys:
            raise MissingFileError(what="The picture", path=key)
        path = runs.get(run_id).folder / f"{key}.png"
        return FileResponse(path, media_type="image/png", headers=CACHED)

    @router.get("/runs/{run_id}/files/{name}")
    def file(run_id: str, name: str) -> FileResponse:
        found = runs.get(run_id)
        files = [d.file for d in found.outcome.downloads] if found.outcome else []
        if name not in files:
            raise MissingFileError(what="The file", path=name)
        return FileResponse(found.folder / name, filename=name, media_type="image/tiff")

    @router.get("/runs/{run_id}/all.zip")
    def everything(run_id: str) -> FileResponse:
        """Every file of a run in one."""
        found = runs.get(run_id)
        if found.outcome is None:
            raise MissingFileError(what="The files of", path=f"run {run_id}")
        path = zip_files(found.folder, found.outcome)
        name = f"{found.outcome.stem}.zip"
        return FileResponse(path, filename=name, media_type="application/zip")

    @router.api_route(
        "/{rest:path}", methods=["GET", "POST", "PUT", "DELETE"], include_in_schema=False
    )
    def unknown(rest: str) -> None:
        """Answer as every other error here; else the pages would, in words of their own."""
        raise NotFoundError(kind="route", got=f"/api/{rest}", known=())

    return router


def test_pictures(package: ModelPackage) -> tuple[Picture, ...]:
    """Pictures of a package's test tensors; those of the last few packages are kept."""
    changed = package.rdf.stat().st_mtime_ns
    return _test_pictures(package.root, package.rdf, package.origin, changed)


@lru_cache(maxsize=8)
def _test_pictures(root: Path, rdf: Path, origin: Any, changed: int) -> tuple[Picture, ...]:
    from biozoo import ModelPackage
    from biozoo_model_cards import ModelCard
    from biozoo_model_cards.pictures import test_pictures

    if origin == "installed":  # its record knows what files of an address are called here
        package = ModelPackage.from_record(root, origin=origin)
    else:
        package = ModelPackage.from_folder(root, rdf=rdf, origin=origin)
    card = ModelCard.of(package)
    return test_pictures(package, card.inputs, card.outputs)


def package_picture(root: Path, relative: str) -> Path | None:
    """A picture inside a package folder, None for anything else."""
    from biozoo.rdf import safe_relative

    inside = safe_relative(relative)
    if inside is None:
        return None
    path = (root / inside).resolve()
    if not path.is_relative_to(root.resolve()) or path.suffix.lower() not in COVER_TYPES:
        return None
    return path if path.is_file() else None


def describe_run(run: Run) -> dict[str, Any]:
    """A run in plain values: how far it is, and once done where its files are."""
    progress, outcome = run.progress, run.outcome
    return {
        "id": run.id,
        "model": run.request.package.id,
        "image": run.request.name,
        "state": run.state,
        "done": progress.done if progress else 0,
        "total": progress.total if progress else 0,
        "seconds_left": run.seconds_left,
        "error": run.error,
        "objects": outcome.objects if outcome else None,
        "files": [f"/api/runs/{run.id}/files/{d.file}" for d in outcome.downloads]
        if outcome
        else [],
        "command": run.request.command,
    }
