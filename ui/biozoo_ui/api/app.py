"""The application: own routes first, the guard around all, Gradio's pages mounted last at "/"."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from biozoo import Zoo
from biozoo.errors import BiozooError

from ..annotations import Annotations
from ..jobs import Jobs
from ..jobs.previews import Previews
from ..live import LiveSessions
from ..trainings import Trainings
from ..web.login import login_routes
from ..web.viewing import mount_viewer
from .annotations import annotation_routes
from .answers import ERRORS, describe_errors
from .guard import Guard
from .images import ImageStore, Session
from .images.routes import image_routes
from .logins import Logins
from .me import me_routes
from .models import Catalog, additions_of, model_routes
from .routes import routes
from .settings import ServerSettings
from .state import ServerState
from .users import UserFile
from .work import work_routes
from .working import WorkingFolder


def create_app(settings: ServerSettings, *, pages: bool = True) -> FastAPI:
    """One server: its catalog, its jobs, its working folder, and its pages.

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
    logins = Logins(UserFile(settings.users)) if settings.users else None
    working = WorkingFolder(settings.zoo.cache)
    folder = working.path
    catalog = Catalog(settings.zoo)
    zoo = Zoo(settings.zoo)
    jobs = Jobs(
        settings.zoo.home / "jobs",
        find=zoo.get,
        loaded=settings.loaded_models,
        kept=settings.kept_jobs,
    )
    state = ServerState(
        settings=settings,
        catalog=catalog,
        additions=additions_of(catalog, settings.zoo),
        images=ImageStore(
            folder / "images",
            image_folders=settings.image_folders,
            idle_seconds=settings.keep_hours * 3600,
            most_kept=settings.max_kept or 4 * settings.max_upload,
        ),
        annotations=Annotations(settings.zoo.home / "annotations"),
        jobs=jobs,
        previews=Previews(jobs.models),
        live=LiveSessions(),
        trainings=Trainings(
            settings.zoo.home / "trainings",
            settings=settings.zoo,
            install=zoo.add,
            remove=zoo.remove,
        ),
        folder=folder,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            state.live.close()
            state.previews.close()
            state.trainings.close()
            state.jobs.close()
            state.additions.close()
            state.catalog.close()
            state.images.close()
            working.close()
            if logins is not None:
                logins.close()

    app = FastAPI(
        title="biozoo",
        version=version("biozoo"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=ERRORS,
    )
    app.state.server = state
    app.add_middleware(Session)
    # The outermost: who is refused gets no session.
    app.add_middleware(Guard, settings=settings, logins=logins)
    _answer_errors_as_json(app)
    describe_errors(app)
    app.include_router(me_routes(settings))
    if logins is not None:
        app.include_router(login_routes(logins))
    app.include_router(image_routes(state.images, max_upload=settings.max_upload))
    passing = (folder, settings.zoo.home / "jobs")
    app.include_router(
        annotation_routes(
            state.annotations, state.images, passing=passing, max_upload=settings.max_upload
        )
    )
    for router in work_routes(state):
        app.include_router(router)
    app.include_router(model_routes(catalog, state.additions, settings=settings.zoo))
    app.include_router(routes(state))  # after all others: it answers for every unknown route
    mount_viewer(app)
    if pages:
        from ..web.page import mount_page

        mount_page(app, state)
    return app


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
