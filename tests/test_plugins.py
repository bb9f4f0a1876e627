"""Plug-ins: names without an import, loading on demand, a failing one told by name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from biozoo import plugins
from biozoo.errors import BackendError, NotFoundError

GROUP = "biozoo.backends"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution with one working plug-in and three broken ones, as pip would install it."""
    site = tmp_path / "site"
    info = site / "zoo_plug-2.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo-plug\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text(
        f"[{GROUP}.tests]\n"
        "works = zoo_plug_good:Plugin\n"
        "raises = zoo_plug_bad:Plugin\n"
        "absent = zoo_plug_none:Plugin\n"
        "no_such_name = zoo_plug_good:Nothing\n"
    )
    (site / "zoo_plug_good.py").write_text("class Plugin: pass\n")
    (site / "zoo_plug_bad.py").write_text("raise RuntimeError('built for another version')\n")
    monkeypatch.syspath_prepend(site)
    plugins.load_group.cache_clear()
    yield
    plugins.load_group.cache_clear()
    sys.modules.pop("zoo_plug_good", None)


@pytest.mark.usefixtures("installed")
def test_names_are_known_without_an_import() -> None:
    assert plugins.names(f"{GROUP}.tests") == ("absent", "no_such_name", "raises", "works")
    assert "zoo_plug_good" not in sys.modules


@pytest.mark.usefixtures("installed")
def test_a_plug_in_that_fails_is_named_and_the_others_load() -> None:
    found = plugins.load_group(f"{GROUP}.tests")
    assert list(found.loaded) == ["works"]
    assert set(found.failed) == {"absent", "no_such_name", "raises"}
    assert found.failed["raises"] == (
        "zoo_plug_bad:Plugin of zoo-plug 2.1: RuntimeError: built for another version"
    )
    assert "zoo_plug_none" in found.failed["absent"]
    assert plugins.load_group(f"{GROUP}.tests") is found


@pytest.mark.usefixtures("installed")
def test_one_plug_in_is_loaded_by_name() -> None:
    assert getattr(plugins.load_one(f"{GROUP}.tests", "works"), "__name__", "") == "Plugin"
    assert "zoo_plug_bad" not in sys.modules
    with pytest.raises(BackendError, match=r"'raises' .* of zoo-plug 2\.1.*another version"):
        plugins.load_one(f"{GROUP}.tests", "raises")
    with pytest.raises(NotFoundError, match="Did you mean works"):
        plugins.load_one(f"{GROUP}.tests", "wroks")


def test_a_group_without_plug_ins_is_empty() -> None:
    assert plugins.load_group("biozoo.nothing") == plugins.Plugins({}, {})
    assert plugins.names("biozoo.nothing") == ()
