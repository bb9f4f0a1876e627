"""Every route of ours is described for other programs, and nothing of Gradio's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from biozoo import Settings

pytest.importorskip("fastapi")
pytest.importorskip("gradio")
pytest.importorskip("argon2")

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from biozoo_ui.api import ServerSettings, create_app, users

ERROR = {"$ref": "#/components/schemas/ErrorAnswer"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """A server with all that it can have: users and pages."""
    folder = tmp_path_factory.mktemp("server")
    users.add_user(folder / "users.txt", "maria", "correct horse")
    zoo = Settings(home=folder / "home", index_url="http://127.0.0.1:9/x", offline=True)
    app = create_app(ServerSettings(zoo, users=folder / "users.txt"))
    with TestClient(app):
        yield app


@pytest.fixture(scope="module")
def described(app: FastAPI) -> dict[str, Any]:
    client = TestClient(app)
    client.auth = ("maria", "correct horse")
    return dict(client.get("/openapi.json").json())


def _ways(described: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, ways in described["paths"].items():
        for method, way in ways.items():
            yield f"{method.upper()} {path}", way


def test_every_route_of_ours_is_there_and_no_other(app: FastAPI, described: dict[str, Any]) -> None:
    told = {name for name, _ in _ways(described)}
    own = {
        f"{method} {route.path_format.replace(':path', '')}"
        for route in _routes(app.routes)
        for method in route.methods
        if "{rest" not in route.path_format  # answers for what does not exist
    }
    assert told == own
    assert {"GET /api/me", "POST /login", "POST /api/jobs", "GET /api/models"} <= told
    for foreign in ("gradio", "/config", "/queue", "/upload", "/theme.css", "/static"):
        assert not [name for name in told if name.split()[1].startswith(f"/{foreign.strip('/')}")]


def _routes(routes: Iterable[Any]) -> Iterator[APIRoute]:
    """Our routes, which stand before the mounted pages; newer FastAPI nests them."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif (router := getattr(route, "original_router", None)) is not None:
            yield from _routes(router.routes)


def test_every_route_says_what_it_does_and_what_it_answers(described: dict[str, Any]) -> None:
    mute = []
    for name, way in _ways(described):
        good = [answer for status, answer in way["responses"].items() if status[0] == "2"]
        shown = [s for a in good for c in a.get("content", {}).values() if (s := c.get("schema"))]
        empty = "204" in way["responses"]
        if not (way.get("summary") and way.get("description") and way.get("tags")):
            mute.append(f"{name} does not say what it does")
        if not empty and not any(_says_something(one) for one in shown):
            mute.append(f"{name} does not say what it answers")
    assert mute == []
    assert described["paths"]["/api/jobs"]["get"]["summary"].startswith("List the jobs")


def _says_something(schema: dict[str, Any]) -> bool:
    """A named model, text or bytes; not "some object"."""
    kind = schema.get("items", schema)
    return "$ref" in kind or kind.get("type") == "string" or bool(kind.get("properties"))


def test_every_route_has_the_one_shape_of_errors(described: dict[str, Any]) -> None:
    for name, way in _ways(described):
        answer = way["responses"]["default"]
        assert answer["content"]["application/json"]["schema"] == ERROR, name
        assert "422" not in way["responses"], name  # FastAPI's own shape is never answered
    error = described["components"]["schemas"]["ErrorAnswer"]
    assert error["required"] == ["error"]
    assert "HTTPValidationError" not in described["components"]["schemas"]


def test_errors_are_as_described(app: FastAPI) -> None:
    client = TestClient(app)
    client.auth = ("maria", "correct horse")
    for method, path, status in (
        ("GET", "/api/nothing", 404),
        ("GET", "/api/images/none", 404),
        ("POST", "/api/images/paths", 422),
        ("PUT", "/api/me", 404),
        ("GET", "/api/images/x/tiles/a/b/c/d/e/f", 422),
    ):
        answer = client.request(method, path)
        assert (answer.status_code, list(answer.json())) == (status, ["error"]), path
    client.auth = None
    assert list(client.get("/openapi.json").json()) == ["error"]


def test_the_description_can_be_read_by_a_program(
    described: dict[str, Any], tmp_path: Path
) -> None:
    """Every model that is referred to is there, and no two routes have one name."""
    names = [way["operationId"] for _, way in _ways(described)]
    assert len(set(names)) == len(names)
    known = described["components"]["schemas"]

    def check(part: Any) -> None:
        if isinstance(part, dict):
            if isinstance(reference := part.get("$ref"), str):
                assert reference.removeprefix("#/components/schemas/") in known
            for inner in part.values():
                check(inner)
        elif isinstance(part, list):
            for inner in part:
                check(inner)

    check(described)
    assert described["info"]["version"]
