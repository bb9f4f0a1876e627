"""A real server in a process of its own, and a real Chromium, for the tests of the page.

    from page_server import Server, browser, visit    # `browser` is a fixture

    @pytest.fixture(scope="module")
    def server(tmp_path_factory):
        with Server(tmp_path_factory.mktemp("home")) as server:
            yield server

    def test_it(browser, server):
        with visit(browser, server) as page:   # at its end: nothing left this machine, no error
            page.goto(server.url("#/jobs"))

`BIOZOO_CHROMIUM` names the browser, else the one on the path is taken. Run by hand,
`python tests/page_server.py OUT "#/" "#/jobs"` writes a picture of each address in both sizes and
themes.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = os.environ.get("BIOZOO_CHROMIUM") or shutil.which("chromium")
#: What Playwright switches off itself, as Chromium heeds the last of several lists; and the list
#: below the address bar: it is a page in a renderer of its own, for each visitor, and nobody sees
#: it, but it took a third of what a visit computes.
SWITCHED_OFF = (
    "AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades",
    "HttpsFirstBalancedModeAutoEnable", "LensOverlay", "MediaRouter", "PaintHolding",
    "ThirdPartyStoragePartitioning", "OptimizationHints", "NetworkTimeServiceQuerying",
    "PreconnectToSearch",
    "WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "WebUIOmniboxFullPopup",
)  # fmt: skip
ARGUMENTS = [
    f"--disable-features={','.join(SWITCHED_OFF)}",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 60_000  # milliseconds: other work may share the machine
WIDE = {"width": 1280, "height": 800}
NARROW = {"width": 390, "height": 844}
READY = ".zoo-main > .zoo-view"


class Server:
    """`zoo ui` as a person starts it, on a free port.

    Parameters
    ----------
    home
        BIOZOO_HOME of it; models are added to it before.
    options
        Of `zoo ui`.
    environ
        Further variables. Without BIOZOO_INDEX_URL among them it is offline.
    """

    def __init__(
        self, home: Path, options: Sequence[str] = (), environ: Mapping[str, str] | None = None
    ) -> None:
        self.home, self._options = home, tuple(options)
        self._environ = {
            k: v for k, v in os.environ.items() if not k.startswith(("BIOZOO_", "GRADIO_"))
        }
        self._environ |= {"BIOZOO_HOME": str(home), **(environ or {})}
        if "BIOZOO_INDEX_URL" not in self._environ:
            self._environ["BIOZOO_OFFLINE"] = "1"
        self.address = ""
        self.said: list[str] = []
        self._port = 0

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, again on the same port, and wait until it answers."""
        code = "import sys; from biozoo_ui.cli import main; sys.exit(main())"
        words = ["ui", "--no-browser", "--port", str(self._port), *self._options]
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, *words],
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        found = re.search(r"(http://[^\s?]+:(\d+))", line)
        if not found:
            self._process.kill()
            raise AssertionError(f"the server said {line!r}, {self._process.communicate()[1]!r}")
        self.address, self._port = found[1], int(found[2])
        streams = (self._process.stdout, self._process.stderr)
        self._threads = [
            threading.Thread(target=self._listen, args=(stream,), daemon=True) for stream in streams
        ]
        for thread in self._threads:
            thread.start()

    def url(self, path: str = "") -> str:
        """An address of it: "#/jobs", "api/jobs"."""
        return f"{self.address}/{path}"

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()
        self._hang_up()

    def stop(self) -> int:
        """End it by Ctrl-C; its exit status."""
        self._process.send_signal(signal.SIGINT)
        status = self._process.wait(timeout=60)
        self._hang_up()
        return status

    def _listen(self, stream: Any) -> None:
        with stream:
            self.said += stream

    def _hang_up(self) -> None:
        for thread in self._threads:
            thread.join(5)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium for the tests of one module."""
    with chromium() as started:
        yield started


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A Chromium, or a skip where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextlib.contextmanager
def visit(
    browser: Any,
    server: Server,
    path: str = "",
    *,
    size: Any = None,
    expected: str = "$^",
    **more: Any,
) -> Iterator[Any]:
    """A visitor with cookies of their own, on the page at `path`.

    At its end no request has left this machine, and nothing was complained of in the console but
    what matches `expected` (a browser complains there of every answer from 400 on).
    """
    context = browser.new_context(viewport=size or WIDE, accept_downloads=True, **more)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    try:
        page.goto(server.url(path))
        page.wait_for_selector(READY)
        yield page
        own = (server.address, "data:", "blob:", "about:")
        assert [u for u in requests if not u.startswith(own)] == []
        assert [c for c in complaints if not re.search(expected, c)] == []
    finally:
        context.close()


def _pictures(folder: Path, paths: Sequence[str]) -> None:
    """Write a picture of each address, in both sizes and themes."""
    folder.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp())
    with Server(home) as server, chromium() as browser:
        for path in paths:
            for name, size in (("wide", WIDE), ("narrow", NARROW)):
                for scheme in ("light", "dark"):
                    with visit(browser, server, path, size=size, color_scheme=scheme) as page:
                        page.wait_for_timeout(1500)
                        short = re.sub(r"\W+", "-", path).strip("-") or "home"
                        page.screenshot(path=folder / f"{short}-{name}-{scheme}.png")
    shutil.rmtree(home)


if __name__ == "__main__":
    _pictures(Path(sys.argv[1]), sys.argv[2:] or [""])
