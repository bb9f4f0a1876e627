"""The application: own routes first, the guard around all, Gradio's pages mounted last at "/"."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from biozoo import Zoo
from biozoo.errors import BiozooError, StorageError

from ..jobs import JobImage, Jobs
from ..web.viewing import mount_viewer
from .catalog import Catalog
from .guard import Guard
from .images import ImageStore, Session, session_of
from .images.routes import image_routes
from .jobs import job_routes
from .routes import routes
from .runs import Runs
from .settings import ServerSettings
from .state import ServerState


def create_app(settings: ServerSettings, *, pages: bool = True) -> FastAPI:
    """One server: its catalog, its runs, its working folder, and its pages.

    Parameters
    ----------
    settings
        Which zoo, where, who.
    pages
        Mount Gradio's pages too; importing it takes seconds. The viewer (/view) is always there.

    Returns
    -------
    FastAPI
        The working folder is made with it and removed at the end of its lifespan.
    """
    folder = _working_folder(settings)
    state = ServerState(
        settings=settings,
        catalog=Catalog(settings.zoo),
        runs=Runs(folder / "runs", loaded=settings.loaded_models, kept=settings.kept_runs),
        images=ImageStore(folder / "images", image_folders=settings.image_folders),
        jobs=Jobs(
            settings.zoo.home / "jobs",
            find=Zoo(settings.zoo).get,
            loaded=settings.loaded_models,
            kept=settings.kept_jobs,
        ),
        folder=folder,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            state.runs.close()
            state.jobs.close()
            state.images.close()
            shutil.rmtree(folder, ignore_errors=True)

    app = FastAPI(title="biozoo", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.server = state
    app.add_middleware(Session)
    app.add_middleware(Guard, settings=settings)  # the outermost: who is refused gets no session
    _answer_errors_as_json(app)
    app.include_router(image_routes(state.images, max_upload=settings.max_upload))
    app.include_router(
        job_routes(
            state.jobs,
            session=session_of,
            find_image=partial(_image_of_job, state.images),
            find_model=state.catalog.package,
            open_file=partial(_open_result, state.images),
        )
    )
    app.include_router(routes(state))  # after all others: it answers for every unknown route
    mount_viewer(app)
    if pages:
        from ..web.page import mount_page

        mount_page(app, state)
    return app


def _image_of_job(images: ImageStore, image_id: str, session: str) -> JobImage:
    """An opened image with what its user corrected; the job keeps what goes with the server."""
    image = images.get(image_id, session)
    return JobImage(
        image.path,
        name=image.description.name,
        id=image_id,
        axes=image.axes,
        pixel_size=image.pixel_size,
        keep=image.owned is not None,
    )


def _open_result(
    images: ImageStore, session: str, path: Path, name: str, kind: Literal["image", "labels"]
) -> dict[str, Any]:
    return images.add(session, path, name=name, kind=kind).description.to_dict()


def _working_folder(settings: ServerSettings) -> Path:
    """A folder of this server alone for uploads and results, on the disk of the zoo's cache."""
    cache = settings.zoo.cache
    try:
        cache.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="server-", dir=cache))
    except OSError as exc:
        raise StorageError(
            path=cache, why=str(exc.strerror or exc), hint="Set BIOZOO_HOME to another folder."
        ) from exc


def _answer_errors_as_json(app: FastAPI) -> None:
    """Every error is `{"error": "..."}` with its status, an unforeseen one too."""

    @app.exception_handler(BiozooError)
    async def biozoo_error(_: Request, exc: BiozooError) -> JSONResponse:
        return JSONResponse({"error": exc.message}, status_code=exc.http_status)

    @app.exception_handler(RequestValidationError)
    async def wrong_request(_: Request, exc: RequestValidationError) -> JSONResponse:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors())
        return JSONResponse({"error": f"The request is not understood: {faults}."}, status_code=422)

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, exc: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(exc.detail)}, status_code=exc.status_code)

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, exc: Exception) -> JSONResponse:
        error = f"The server failed in a way nobody foresaw: {type(exc).__name__}."
        return JSONResponse({"error": error}, status_code=500)
