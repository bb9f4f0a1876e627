"""The HTTP routes, the guard around them and Gradio, and what runs leave behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from biozoo import Settings, Zoo
from biozoo.errors import UsageError
from packages import make_package

pytest.importorskip("fastapi")
pytest.importorskip("gradio")

from fastapi.testclient import TestClient

from biozoo_ui.api import ServerSettings, create_app

TOKEN = "a-token-of-some-length"
HOSTILE = "${window.pwned = 1} {{value}} <img src=x onerror=alert(1)>"


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A zoo with the built-in models, a plain one and one whose words are an attack."""
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home, index_url="http://127.0.0.1:9/index.json", offline=True)
    store = Zoo(settings)
    store.add(make_package(home / "tiny-source", validate=False))
    hostile = make_package(
        home / "hostile-source",
        id="hostile",
        name="Hostile",
        fields={"description": HOSTILE},
        validate=False,
    )
    (hostile / "README.md").write_text(f"# Hi {HOSTILE}\n")
    store.add(hostile)
    return settings


@pytest.fixture(scope="session")
def app(zoo: Settings) -> Any:
    """One application with its pages for all tests: importing Gradio takes seconds."""
    return create_app(ServerSettings(zoo))


@pytest.fixture(scope="session")
def client(app: Any) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://127.0.0.1:7860") as client:
        yield client


def test_the_server_tells_that_it_answers(client: TestClient) -> None:
    models = client.get("/api/models").json()["models"]
    assert client.get("/api/health").json() == {"status": "ok", "models": len(models)}


def test_every_error_is_json_with_an_error(client: TestClient) -> None:
    for path in ("/api/nothing", "/api/jobs/none"):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert isinstance(answer.json()["error"], str)


# ----------------------------------------------------------------------------------------- guard


def test_off_loopback_a_token_is_demanded(zoo: Settings) -> None:
    with pytest.raises(UsageError, match="give a token"):
        ServerSettings(zoo, host="0.0.0.0")
    with pytest.raises(UsageError, match="too short"):
        ServerSettings(zoo, host="0.0.0.0", token="short")
    assert ServerSettings(zoo, host="0.0.0.0", token=TOKEN).token == TOKEN
    for host in ("127.0.0.1", "localhost", "::1", "127.0.0.2"):
        ServerSettings(zoo, host=host)


def test_with_a_token_nothing_answers_without_it(zoo: Settings) -> None:
    """Own routes and Gradio's alike, those included that Gradio's own guard leaves open."""
    from biozoo_ui.api.guard import Guard

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"in"})

    guarded = Guard(inner, settings=ServerSettings(zoo, host="0.0.0.0", token=TOKEN))
    client = TestClient(guarded, base_url="http://10.0.0.5:7860", follow_redirects=False)
    for path in ("/", "/api/models", "/gradio_api/heartbeat/x", "/assets/x.js", "/theme.css"):
        assert client.get(path).status_code == 401, path
        assert client.get(path, headers={"authorization": "Bearer wrong"}).status_code == 401
        right = client.get(path, headers={"authorization": f"Bearer {TOKEN}"})
        assert right.text == "in"
    assert client.get("/?token=wrong").status_code == 401
    first = client.get(f"//evil.example/?token={TOKEN}&a=b")
    assert (first.status_code, first.headers["location"]) == (303, "/?a=b")
    assert "HttpOnly" in first.headers["set-cookie"]
    assert client.get("/").text == "in"  # the cookie is kept


def test_on_loopback_foreign_names_and_origins_are_refused(client: TestClient) -> None:
    assert client.get("/api/health", headers={"host": "evil.example"}).status_code == 403
    assert client.get("/", headers={"host": "evil.example:7860"}).status_code == 403
    assert client.get("/api/health", headers={"host": "localhost:7860"}).status_code == 200
    foreign = {"origin": "https://evil.example"}
    assert client.post("/gradio_api/upload", headers=foreign).status_code == 403
    assert client.delete("/api/jobs/none", headers=foreign).status_code == 403
    assert client.delete("/api/jobs/none").status_code == 404


# ----------------------------------------------------------------------------------------- pages


def test_the_page_names_no_foreign_address_to_fetch(client: TestClient) -> None:
    page = client.get("/").text
    fetched = re.findall(
        r"""<(?:script|link|img|iframe)[^>]*?(?:src|href)=["'](http[^"']*)""", page
    )
    assert [a for a in fetched if "127.0.0.1" not in a] == []
    assert client.get("/").headers["content-security-policy"].startswith("default-src 'self'")
    assert "fonts.googleapis" not in page + client.get("/theme.css").text


def test_no_event_of_the_page_is_a_public_endpoint(client: TestClient) -> None:
    info = client.get("/gradio_api/info").json()
    assert info == {"named_endpoints": {}, "unnamed_endpoints": {}}


def test_no_words_of_a_package_are_in_the_page_itself(client: TestClient) -> None:
    """Gradio makes templates of what it is given: words of strangers come over our routes only."""
    assert "pwned" in client.get("/api/models").text
    for path in ("/", "/config"):
        assert "pwned" not in client.get(path).text


def test_the_working_folder_goes_with_the_server(zoo: Settings) -> None:
    app = create_app(ServerSettings(zoo), pages=False)
    folder = app.state.server.folder
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/api/health").status_code == 200
        assert folder.is_dir()
    assert not folder.exists()
