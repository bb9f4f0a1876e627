"""What every test shares: a zoo of its own, no network, the shared material where there is one."""

from __future__ import annotations

import gc
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loopback import Loopback

# Before anything imports bioimageio.spec: it reads the variable once, when it is imported.
os.environ.setdefault("BIOIMAGEIO_CACHE_PATH", str(Path(".pytest_cache", "spec").absolute()))

# Two processes share the cores. Where each has threads for all of them, these wait for one another
# by computing. Tests of threads ask for their number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Importing makes objects that stay: looking through them again and again took a third of the
# collection. It is enabled when all is collected.
gc.disable()

SHARED = Path(__file__).resolve().parents[2] / "shared"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skips = {}
    if not SHARED.is_dir():
        skips["shared"] = pytest.mark.skip(reason="../shared is not here")
    if not any(shutil.which(name) for name in BROWSERS):
        skips["browser"] = pytest.mark.skip(reason="no Chromium is installed")
    if not shutil.which("nvidia-smi"):
        skips["cuda"] = pytest.mark.skip(reason="no NVIDIA card")
    for item in items:
        for marker, skip in skips.items():
            if item.get_closest_marker(marker):
                item.add_marker(skip)


def pytest_collection_finish() -> None:
    """Nothing that the test modules imported is garbage. A backend that closes collects what is,
    and looking through all of bioimageio.spec each time took a third of the comparisons with core.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real models, images and descriptions; use with the marker `shared`."""
    if not SHARED.is_dir():
        pytest.skip("../shared is not here")
    return SHARED


@pytest.fixture(autouse=True)
def biozoo_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty zoo for this test alone; the index address leads nowhere."""
    home = tmp_path / "biozoo-home"
    for name in [n for n in os.environ if n.startswith("BIOZOO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BIOZOO_HOME", str(home))
    monkeypatch.setenv("BIOZOO_INDEX_URL", "http://127.0.0.1:9/index.json")
    return home


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections leave this machine for no test; loopback and local sockets work."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple):
            host = str(address[0])
            if not (host.startswith("127.") or host in ("::1", "localhost")):
                raise OSError(f"a test tried to reach {host}: tests stay on this machine")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    """A web server on this machine that answers what the test puts in it."""
    with Loopback() as server:
        yield server
