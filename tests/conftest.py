"""What every test shares: a zoo of its own, no network, the shared material where there is one."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

# Before anything imports bioimageio.spec: it makes its cache folder while it is imported.
os.environ.setdefault("BIOIMAGEIO_CACHE_PATH", os.path.join(os.getcwd(), ".pytest_cache", "spec"))

sys.path.insert(0, str(Path(__file__).parent))  # tests import `packages` by name

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "shared: needs the real models and images in ../shared")
    config.addinivalue_line("markers", "browser: drives a real browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SHARED.is_dir():
        return
    skip = pytest.mark.skip(reason="../shared is not here")
    for item in items:
        if "shared" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def shared() -> Path:
    """The folder of real models, images and descriptions; use with the marker `shared`."""
    if not SHARED.is_dir():
        pytest.skip("../shared is not here")
    return SHARED


@pytest.fixture(autouse=True)
def biozoo_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty zoo for this test alone; the index address leads nowhere."""
    home = tmp_path / "biozoo-home"
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
