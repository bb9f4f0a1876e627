"""Several people on one server: who comes in, what each of them sees, and how one is kept out."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import stat
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from biozoo import Settings
from biozoo.errors import MissingFileError, UsageError
from command import run_zoo
from page_server import chromium

pytest.importorskip("fastapi")
pytest.importorskip("argon2")

import argon2
from fastapi import FastAPI
from fastapi.testclient import TestClient

from biozoo_ui.api import ServerSettings, create_app, serving, users
from biozoo_ui.api.logins import IDLE_SECONDS, LONGEST_SECONDS, Logins
from biozoo_ui.api.patience import FORGET_SECONDS, Patience, TooManyAttemptsError
from biozoo_ui.cli.page_verbs import parse_size
from biozoo_ui.web.login import leads_inside

BASE = "http://lab.example:7860"
TOKEN = "a-token-of-some-length"
MARIA, JORG = ("maria", "correct horse"), ("Jörg", "battery staple")


@pytest.fixture(scope="module", autouse=True)
def _cheap_hashes() -> Iterator[None]:
    """A hash costs a tenth of a second on purpose; not here."""
    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users, "hasher", lambda: cheap)
        yield


def _list_of_users(path: Path) -> Path:
    for name, password in (MARIA, JORG):
        users.add_user(path, name, password)
    return path


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _list_of_users(tmp_path_factory.mktemp("people") / "users.txt")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("home")
    return Settings(home=home, index_url="http://127.0.0.1:9/index.json", offline=True)


@pytest.fixture(scope="module")
def app(zoo: Settings, people: Path) -> Iterator[FastAPI]:
    settings = ServerSettings(zoo, host="0.0.0.0", users=people, token=TOKEN)
    app = create_app(settings, pages=False)
    with TestClient(app):
        yield app


def _browser(app: Any, base: str = BASE) -> TestClient:
    page = {"accept": "text/html,*/*", "sec-fetch-mode": "navigate"}
    return TestClient(app, base_url=base, follow_redirects=False, headers=page)


def _program(app: Any, who: tuple[str, str] = MARIA) -> TestClient:
    client = TestClient(app, base_url=BASE)
    client.auth = who
    return client


def _signed_in(app: Any, who: tuple[str, str] = MARIA, base: str = BASE) -> TestClient:
    browser = _browser(app, base)
    answer = browser.post("login", data={"name": who[0], "password": who[1]})
    assert answer.status_code == 303, answer.text
    return browser


# ------------------------------------------------------------------------------------ the file


def test_users_are_added_listed_and_removed_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "lab" / "users.txt"
    add = ("user", "add", "maria", "--file", file, "--password-stdin")
    assert "maria is added" in run_zoo(*add, text="correct horse\n").output
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text(f"# our lab\n\n{file.read_text()}")
    first = users.read_users(file)["maria"]
    assert "new password" in run_zoo(*add, text="another one\n").output
    run_zoo("user", "add", "Jörg", "--file", file, "--password-stdin", text="battery staple")
    assert run_zoo("user", "list", "--file", file).output.split() == ["Jörg", "maria"]
    assert file.read_text().startswith("# our lab\n\nmaria:$argon2id$")
    hashed = users.read_users(file)["maria"]
    assert hashed != first
    assert users.fits("another one", hashed)
    assert not users.fits("correct horse", hashed)
    run_zoo("user", "remove", "maria", "--file", file)
    assert list(users.read_users(file)) == ["Jörg"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [p.name for p in file.parent.iterdir()] == ["users.txt"]
    assert "Nobody in" in run_zoo("user", "remove", "maria", "--file", file, code=2).stderr


@pytest.mark.parametrize(
    ("name", "password", "says"),
    [("a:b", "long enough", "cannot be called"), ("", "long enough", "cannot be called"),
     ("maria", "short", "5 characters"), ("maria", "", "0 characters")],
)  # fmt: skip
def test_a_name_or_password_that_cannot_be_is_refused(
    tmp_path: Path, name: str, password: str, says: str
) -> None:
    add = ("user", "add", name, "--file", tmp_path / "u.txt", "--password-stdin")
    assert says in run_zoo(*add, code=2, text=password).stderr
    assert not list(tmp_path.iterdir())


def test_without_a_terminal_the_password_is_not_asked_for(tmp_path: Path) -> None:
    said = run_zoo("user", "add", "maria", "--file", tmp_path / "u.txt", code=2).stderr
    assert "--password-stdin" in said


@pytest.mark.parametrize(
    ("line", "says"),
    [("maria", "colon"), ("maria:secret", "no argon2 hash"), ("a b:$argon2id$", "colon"),
     ("maria:$argon2id$v=19$m=1", "no argon2 hash"), ("eve:HASH\neve:HASH", "there twice")],
)  # fmt: skip
def test_a_faulty_line_is_named(zoo: Settings, tmp_path: Path, line: str, says: str) -> None:
    file = _list_of_users(tmp_path / "users.txt")
    hashed = users.read_users(file)["maria"]
    file.write_text("# a comment\n" + line.replace("HASH", hashed))
    with pytest.raises(UsageError, match=says) as caught:
        users.UserFile(file)
    number = 3 if "twice" in says else 2
    assert f"Line {number} of {file}" in caught.value.message
    run_zoo("ui", "--users", file, "--host", "0.0.0.0", "--no-browser", "--port", "0", code=2)


def test_a_server_for_others_needs_users_or_a_token(zoo: Settings, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--users"):
        ServerSettings(zoo, host="0.0.0.0")
    assert "--users" in run_zoo("ui", "--host", "0.0.0.0", "--no-browser", code=2).stderr
    missing = tmp_path / "none.txt"
    with pytest.raises(MissingFileError, match="zoo user add"):
        users.UserFile(missing)
    missing.write_text("# nobody yet\n")
    with pytest.raises(UsageError, match="nobody in"):
        users.UserFile(missing)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GB", 8 * 10**9),
        ("1.5 MiB", 3 * 2**19),
        ("300", 300),
        ("20k", 20_000),
        ("2tb", 2 * 10**12),
    ],
)
def test_sizes_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [("--max-upload", "much", "no size"), ("--max-upload", "0", "no size"),
     ("--max-upload", "-3GB", "no size"), ("--keep-uploads", "0", "0 hours")],
)  # fmt: skip
def test_limits_that_cannot_be_are_refused(option: str, value: str, says: str) -> None:
    told = run_zoo("ui", "--no-browser", "--port", "0", f"{option}={value}", code=2).stderr
    assert says in told


def test_a_removed_user_is_out_at_once(zoo: Settings, tmp_path: Path) -> None:
    file = _list_of_users(tmp_path / "users.txt")
    app = create_app(ServerSettings(zoo, host="0.0.0.0", users=file), pages=False)
    with TestClient(app):
        maria, jorg = _signed_in(app), _signed_in(app, JORG)
        program = _program(app)
        assert program.get("/api/me").json()["name"] == "maria"
        users.remove_user(file, "maria")
        for client in (maria, program):
            assert client.get("/api/me").status_code == 401
        assert _browser(app).post("login", data={"name": "maria"}).status_code == 401
        assert jorg.get("/api/me").status_code == 200
        users.add_user(file, JORG[0], "a new password")  # signs out what came with the old one
        assert jorg.get("/api/me").status_code == 401
        _signed_in(app, (JORG[0], "a new password"))
        # A typing error locks out one user, not all, and no server goes without a list.
        file.write_text(f"{file.read_text()}\noh no\n")
        _signed_in(app, (JORG[0], "a new password"))
        file.unlink()
        answer = _browser(app).post("login", data={"name": JORG[0], "password": "a new password"})
        assert answer.status_code == 401


# ------------------------------------------------------------------------------------- the door


@pytest.fixture
def guarded(zoo: Settings, people: Path) -> Any:
    """The guard around something that answers everything, as Gradio's routes would."""
    from biozoo_ui.api.guard import Guard

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"in"})

    settings = ServerSettings(zoo, host="0.0.0.0", users=people, token=TOKEN)
    return Guard(inner, settings=settings, logins=Logins(users.UserFile(people)))


@pytest.mark.parametrize(
    "path",
    ["/", "/config", "/gradio_api/info", "/gradio_api/heartbeat/x", "/gradio_api/file=/etc/passwd",
     "/upload", "/gradio_api/upload", "/assets/x.js", "/theme.css", "/static/app/index.js",
     "/static/viewer/index.js", "/view?image=x", "/openapi.json", "/api/me", "/api/images",
     "/login/", "/Login"],
)  # fmt: skip
def test_nothing_answers_who_is_not_signed_in(guarded: Any, path: str) -> None:
    """Own routes and Gradio's alike."""
    program = TestClient(guarded, base_url=BASE, follow_redirects=False)
    for method in ("GET", "POST", "HEAD", "DELETE"):
        answer = program.request(method, path)
        assert answer.status_code == 401, method
        assert answer.headers["cache-control"] == "no-store"
    assert "Sign in first" in program.get(path).json()["error"]
    assert program.get(path, headers={"cookie": "biozoo_login=forged"}).status_code == 401
    assert program.get(path, headers={"authorization": "Bearer wrong"}).status_code == 401
    assert program.get(path, params={"token": TOKEN}).status_code == 401  # in no address
    assert program.get(path, auth=("maria", "wrong")).status_code == 401
    assert program.get(path, auth=MARIA).text == "in"
    assert program.get(path, auth=JORG).text == "in"
    assert program.get(path, headers={"authorization": f"Bearer {TOKEN}"}).text == "in"


@pytest.mark.parametrize(
    "path", ["//login", "/api/../login", "/login/../api/me", "/login\x00", "/login;x", "login", ""]
)
def test_an_address_is_taken_as_it_is(guarded: Any, path: str) -> None:
    """What is tidied by nobody on its way here must not pass for the open page."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "scheme": "http",
        "query_string": b"", "root_path": "", "headers": [(b"host", b"lab.example")],
        "server": ("lab.example", 80), "client": ("10.0.0.9", 1),
    }  # fmt: skip
    asyncio.run(guarded(scope, None, send))
    assert sent[0]["status"] == 401


def test_pages_lead_to_the_login_page_and_back(app: Any) -> None:
    browser = _browser(app)
    sent = browser.get("/view?image=a b")
    assert sent.status_code == 303
    assert sent.headers["location"] == "/login?next=%2Fview%3Fimage%3Da%2520b"
    page = browser.get(sent.headers["location"])
    assert page.status_code == 200
    assert '<form method="post">' in page.text
    assert "<script" not in page.text
    assert page.headers["referrer-policy"] == "same-origin"  # else browsers hide the form's origin
    assert "http://" not in page.text.replace("http-equiv", "")
    form = {"name": " maria ", "password": MARIA[1]}
    back = browser.post(sent.headers["location"], data=form)
    assert (back.status_code, back.headers["location"]) == (303, "/view?image=a%20b")
    assert browser.get("/view?image=a").status_code == 200
    assert browser.get("/login").headers["location"] == "/"  # no need to do it twice
    # What a script asks for is told in words, also in a browser: no page where JSON is expected.
    for path, headers in (("/api/me", {}), ("/static/app/index.js", {"accept": "*/*"})):
        answer = _browser(app).get(path, headers=headers)
        assert (answer.status_code, list(answer.json())) == (401, ["error"])
        assert "www-authenticate" not in answer.headers  # no window of the browser's own
    assert "Basic" in TestClient(app, base_url=BASE).get("/api/me").headers["www-authenticate"]


def test_a_wrong_password_is_told_in_place(app: Any) -> None:
    browser = _browser(app)
    for name in ("maria", "nobody", "<b>x"):
        answer = browser.post("/login?next=/view", data={"name": name, "password": "wrong"})
        assert answer.status_code == 401
        assert "do not belong together" in answer.text
        assert "<b>x" not in answer.text
        assert "biozoo_login" not in answer.headers.get("set-cookie", "")
    assert 'value="maria"' in browser.post("/login", data={"name": "maria"}).text
    for body in (b"", b"\xff\xfe", b"name=maria&password=" + b"x" * 10**5):
        assert browser.post("/login", content=body).status_code == 401


def test_the_cookie_is_kept_from_scripts_and_other_sites(app: Any) -> None:
    cookie = _browser(app).post("/login", data=dict(zip(("name", "password"), MARIA, strict=True)))
    told = cookie.headers["set-cookie"]
    assert "HttpOnly" in told
    assert "SameSite=lax" in told
    assert "Secure" not in told
    assert MARIA[1] not in told
    secure = _browser(app, BASE.replace("http:", "https:"))
    answer = secure.post("/login", data={"name": MARIA[0], "password": MARIA[1]})
    assert "Secure" in answer.headers["set-cookie"]


def test_who_signs_out_is_out(app: Any) -> None:
    browser = _signed_in(app)
    kept = browser.cookies["biozoo_login"]
    answer = browser.post("/logout")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert "biozoo_login" not in browser.cookies
    assert browser.get("/api/me").status_code == 401
    old = {"cookie": f"biozoo_login={kept}"}
    assert _browser(app).get("/api/me", headers=old).status_code == 401
    again = _signed_in(app)
    assert again.post("/logout", headers={"accept": "application/json"}).status_code == 204


def test_a_page_of_another_server_can_neither_sign_in_nor_out(app: Any) -> None:
    browser = _signed_in(app)
    form = {"name": MARIA[0], "password": MARIA[1]}
    for foreign in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://lab.example:1"},
        {"sec-fetch-site": "cross-site"},
    ):
        assert browser.post("/logout", headers=foreign).status_code == 403
        assert browser.post("/login", data=form, headers=foreign).status_code == 403
        assert browser.post("/api/images/samples", headers=foreign).status_code == 403
    own = {"origin": BASE, "sec-fetch-site": "same-origin"}
    assert browser.post("/api/images/samples", json={"kind": "em"}, headers=own).status_code == 201


@pytest.mark.parametrize(
    "wanted",
    ["//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example", "evil", "",
     "javascript:alert(1)", "/\n//evil.example", "///evil.example", "/login", "/logout?x"],
)  # fmt: skip
def test_the_way_back_stays_on_this_server(app: Any, wanted: str) -> None:
    assert not leads_inside(wanted)
    form = {"name": MARIA[0], "password": MARIA[1]}
    answer = _browser(app).post("/login", params={"next": wanted}, data=form)
    assert answer.headers["location"] == "/"


def test_ways_back_that_are_kept() -> None:
    for wanted in ("/", "/view?image=x&over=y", "/?a=//b", "/#/jobs"):
        assert leads_inside(wanted)
    assert leads_inside("/zoo/view", "/zoo")
    assert not leads_inside("/zoology", "/zoo")
    assert not leads_inside("/zoo/login", "/zoo")


# ----------------------------------------------------------------------------------- guessing


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_guessing_gets_slower_and_then_stops_for_a_while() -> None:
    clock = _Clock()
    patience = Patience(clock)
    delays = [patience.begin("maria", "10.0.0.1") for _ in range(10)]
    assert delays == [0, 0, 0, 1, 2, 4, 8, 8, 8, 8]
    with pytest.raises(TooManyAttemptsError, match="15 minutes") as caught:
        patience.begin("maria", "10.0.0.1")
    assert (caught.value.http_status, caught.value.seconds) == (429, FORGET_SECONDS)
    patience.begin("maria", "10.0.0.2")  # a stranger's guesses lock nobody else out
    patience.begin("jo", "10.0.0.1")
    clock.now += FORGET_SECONDS + 1
    assert patience.begin("maria", "10.0.0.1") == 0


def test_many_names_from_one_address_and_one_name_from_many_are_noticed() -> None:
    for attempts in (
        [(f"name{n}", "10.0.0.1") for n in range(61)],
        [("maria", f"10.0.1.{n}") for n in range(101)],
    ):
        patience = Patience(_Clock())
        for name, address in attempts[:-1]:
            patience.begin(name, address)
        with pytest.raises(TooManyAttemptsError):
            patience.begin(*attempts[-1])
    right = Patience(_Clock())
    for _ in range(300):  # the right password, again and again
        right.begin("maria", "10.0.0.1")
        right.forgive("maria", "10.0.0.1")


def test_too_many_guesses_are_refused_without_checking(
    zoo: Settings, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    app = create_app(ServerSettings(zoo, host="0.0.0.0", users=people), pages=False)
    with TestClient(app):
        monkeypatch.setattr(asyncio, "sleep", sleep)
        browser, form = _browser(app), {"name": "maria", "password": "wrong"}
        answers = [browser.post("/login", data=form) for _ in range(12)]
        assert [a.status_code for a in answers] == [401] * 10 + [429] * 2
        assert sum(waited) == 39
        assert "Try again in" in answers[-1].text
        assert int(answers[-1].headers["retry-after"]) > 800
        right = browser.post("/login", data={"name": MARIA[0], "password": MARIA[1]})
        assert right.status_code == 429  # not even whether it would have been right
        told = _program(app).get("/api/me")
        assert (told.status_code, list(told.json())) == (429, ["error"])
        _signed_in(app, JORG)


def test_an_unknown_name_costs_as_much_as_a_wrong_password(
    people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    monkeypatch.setattr("biozoo_ui.api.logins.fits", lambda _, hashed: bool(checked.append(hashed)))
    logins = Logins(users.UserFile(people))
    for name in ("maria", "nobody", "nobody at all"):
        assert asyncio.run(logins.check(name, "x", "a")) is None
    wrong, *unknown = map(argon2.extract_parameters, checked)
    assert unknown == [wrong, wrong]


def test_signed_in_for_a_while_and_never_for_ever(people: Path) -> None:
    clock = _Clock()
    logins = Logins(users.UserFile(people), clock=clock)
    idle, used = logins.open("maria"), logins.open("maria")
    end = clock.now + LONGEST_SECONDS
    while clock.now < end:
        assert logins.user(used) == "maria"
        clock.now += IDLE_SECONDS - 1
    assert logins.user(used) is None
    assert logins.user(idle) is None
    many = [logins.open("maria") for _ in range(60)]
    assert [bool(logins.user(secret)) for secret in many] == [False] * 10 + [True] * 50


def test_a_program_proves_its_password_once(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logins, count = Logins(users.UserFile(people)), 0
    real = users.fits

    def fits(password: str, hashed: str) -> bool:
        nonlocal count
        count += 1
        return real(password, hashed)

    monkeypatch.setattr("biozoo_ui.api.logins.fits", fits)
    for _ in range(3):
        assert asyncio.run(logins.check(*MARIA, "a")) == "maria"
    assert count == 1
    assert asyncio.run(logins.check("maria", "wrong", "a")) is None
    assert count == 2


# ---------------------------------------------------------------------------------- whose is it


def test_what_is_opened_follows_the_person_and_nobody_else(app: Any, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.arange(81, dtype=np.uint16).reshape(9, 9))
    maria, jorg = _signed_in(app), _signed_in(app, JORG)
    content = (tmp_path / "a.tif").read_bytes()
    image = maria.post("/api/images/uploads?name=a.tif", content=content).json()
    job = maria.post("/api/jobs", json={"model": "nuclei-fluo", "image": image["id"]}).json()
    tile = f"/api/images/{image['id']}/tiles/0/0/0/0/0/0"
    elsewhere = _signed_in(app)
    program = _program(app)
    for own in (maria, elsewhere, program):
        assert [i["id"] for i in own.get("/api/images").json()][-1] == image["id"]
        assert len(own.get(tile).content) == 162
        assert job["id"] in [j["id"] for j in own.get("/api/jobs").json()["jobs"]]
    token = TestClient(app, base_url=BASE, headers={"authorization": f"Bearer {TOKEN}"})
    # Nobody becomes another one by a cookie that says so.
    jorg.cookies.set("biozoo_session", "user:maria")
    for other in (jorg, token):
        assert image["id"] not in other.get("/api/images").text
        assert job["id"] not in other.get("/api/jobs").text
        for method, path in (
            ("GET", f"/api/images/{image['id']}"),
            ("GET", tile),
            ("DELETE", f"/api/images/{image['id']}"),
            ("GET", f"/api/jobs/{job['id']}"),
            ("GET", f"/api/jobs/{job['id']}/events"),
            ("GET", f"/api/jobs/{job['id']}/files/a.labels.ome.tif"),
            ("POST", f"/api/jobs/{job['id']}/cancel"),
            ("DELETE", f"/api/jobs/{job['id']}"),
        ):
            answer = other.request(method, path)
            assert (answer.status_code, list(answer.json())) == (404, ["error"]), path
        mine = {"model": "nuclei-fluo", "image": image["id"]}
        assert other.post("/api/jobs", json=mine).status_code == 404
    assert maria.get(tile).status_code == 200


def test_who_one_is_and_what_one_may(app: Any, zoo: Settings, tmp_path: Path) -> None:
    me = _signed_in(app, JORG).get("/api/me").json()
    assert me == {
        "name": "Jörg", "users": True, "max_upload": 8 * 10**9, "keep_hours": 24.0,
        "image_folders": False, "version": me["version"],
    }  # fmt: skip
    token = TestClient(app, base_url=BASE, headers={"authorization": f"Bearer {TOKEN}"})
    assert token.get("/api/me").json()["name"] is None
    settings = ServerSettings(zoo, image_folders=(tmp_path,), max_upload=5, keep_hours=0.5)
    with TestClient(create_app(settings, pages=False), base_url="http://localhost") as alone:
        told = alone.get("/api/me").json()
        assert (told["name"], told["users"], told["max_upload"]) == (None, False, 5)
        assert (told["keep_hours"], told["image_folders"]) == (0.5, True)
        assert alone.post("/login").status_code in (404, 405)


# -------------------------------------------------------------------------- in another program


def test_in_another_program_all_of_it_works_below_a_prefix(zoo: Settings, people: Path) -> None:
    from contextlib import asynccontextmanager

    inner = create_app(ServerSettings(zoo, users=people), pages=False)
    folder = inner.state.server.folder

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        async with serving(inner):
            yield

    outer = FastAPI(lifespan=lifespan)

    @outer.get("/mine")
    def mine() -> str:
        return "mine"

    outer.mount("/zoo", inner)
    with TestClient(outer):
        stranger = _browser(outer)
        assert stranger.get("/mine").status_code == 200  # the guard is around its own part only
        sent = stranger.get("/zoo/view?image=x").headers["location"]
        assert sent == "/zoo/login?next=%2Fzoo%2Fview%3Fimage%3Dx"
        assert stranger.get("/zoo/api/me").status_code == 401
        back = stranger.post(sent, data={"name": MARIA[0], "password": MARIA[1]})
        assert back.headers["location"] == "/zoo/view?image=x"
        assert "Path=/zoo;" in back.headers["set-cookie"]
        assert stranger.get("/zoo/view?image=x").status_code == 200
        image = stranger.post("/zoo/api/images/samples", json={"kind": "em"}).json()
        tile = f"/zoo/api/images/{image['id']}/tiles/0/0/0/0/0/0"
        assert len(stranger.get(tile).content) == 256 * 256
        assert stranger.post("/zoo/logout").headers["location"] == "/zoo/login"
        assert folder.is_dir()
    assert not folder.exists()


def test_the_program_of_the_documentation_works(
    zoo: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parent.parent / "docs" / "embedding.md").read_text()
    [program] = [b for b in re.findall(r"```python\n(.*?)```", text, re.S) if "app.mount" in b]
    monkeypatch.setenv("BIOZOO_HOME", str(zoo.home))
    monkeypatch.setattr("biozoo_ui.api.app.create_app", partial(create_app, pages=False))
    made: dict[str, Any] = {}
    exec(program, made)
    folder = made["zoo"].state.server.folder
    with TestClient(made["app"], base_url="http://localhost") as client:
        assert client.get("/zoo/api/me").json()["users"] is False
        assert folder.is_dir()
    assert not folder.exists()


def test_without_users_the_session_counts_below_the_prefix(zoo: Settings) -> None:
    inner = create_app(ServerSettings(zoo), pages=False)
    outer = FastAPI()
    outer.mount("/zoo", inner)
    with TestClient(inner), TestClient(outer, base_url="http://localhost") as client:
        first = client.post("/zoo/api/images/samples", json={"kind": "em"})
        assert "Path=/zoo;" in first.headers["set-cookie"]
        assert len(client.get("/zoo/api/images").json()) == 1


# ---------------------------------------------------------------------------- in a real browser


@pytest.fixture
def address(zoo: Settings, people: Path) -> Iterator[str]:
    """A server of this process that others could reach."""
    uvicorn = pytest.importorskip("uvicorn")
    listening = socket.create_server(("127.0.0.1", 0))
    app = create_app(ServerSettings(zoo, host="0.0.0.0", users=people), pages=False)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(60)
    listening.close()


@pytest.fixture
def chrome() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.mark.browser
def test_two_people_in_two_browsers(chrome: Any, address: str) -> None:
    def come(who: tuple[str, str], path: str) -> Any:
        context = chrome.new_context(java_script_enabled=path == "/openapi.json")
        page = context.new_page()
        page.goto(f"{address}{path}#part")
        for password in ("wrong", who[1]):
            page.get_by_label("Name").fill(who[0])
            page.get_by_label("Password").fill(password)
            page.get_by_role("button", name="Sign in").click()
            if password == "wrong":
                assert "do not belong together" in page.get_by_role("alert").inner_text()
        page.wait_for_url(f"{address}{path}#part")  # where it was to go, to the same part of it
        return context

    maria = come(MARIA, "/openapi.json")
    ask = "async ([m, p, b]) => { const r = await fetch(p, {method: m, body: b,"
    ask += "headers: {'content-type': 'application/json'}}); return [r.status, await r.text()] }"
    page = maria.pages[0]
    status, image = page.evaluate(ask, ["POST", "/api/images/samples", '{"kind": "em"}'])
    tile = f"/api/images/{json.loads(image)['id']}/tiles/0/0/0/0/0/0"
    assert (status, page.evaluate(ask, ["GET", tile, None])[0]) == (201, 200)
    jorg = come(JORG, "/openapi.json")
    assert jorg.pages[0].evaluate(ask, ["GET", tile, None])[0] == 404
    stranger = chrome.new_context().new_page()
    answer = stranger.goto(f"{address}{tile}")
    assert (answer.status, answer.json()["error"][:13]) == (401, "Sign in first")
    come(JORG, "/view?image=x")  # without JavaScript, too
    assert page.evaluate(ask, ["POST", "/logout", None])[0] == 204
    assert page.evaluate(ask, ["GET", tile, None])[0] == 401
