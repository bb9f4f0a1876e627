"""The collection's index: real copies of it served from this machine, cached, used offline."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import biozoo
from biozoo.collection import Collection
from biozoo.errors import CollectionError, HashMismatchError, NotFoundError
from biozoo.settings import Settings
from loopback import Loopback
from packages import make_package, read_rdf


def publish(loopback: Loopback, folder: Path, name: str, version: str = "v0") -> dict[str, Any]:
    """Serve a package as the collection does; its item in the index."""
    url = loopback.serve(folder, f"/{name}/{version}")
    sha = hashlib.sha256((folder / "rdf.yaml").read_bytes()).hexdigest()
    return {
        "id": f"bioimage-io/{name}",
        "type": "model",
        "versions": [{"version": version, "source": f"{url}?version={version}", "sha256": sha}],
    }


def lose(item: dict[str, Any]) -> dict[str, Any]:
    """An item of the index whose description is not there."""
    for version in item["versions"]:
        version["source"] = version["source"].replace("rdf.yaml", "gone.yaml")
        version["sha256"] = "0" * 64
    return item


def set_index(loopback: Loopback, *items: dict[str, Any]) -> None:
    loopback.files["/index.json"] = json.dumps({"items": list(items)}).encode()


@pytest.fixture
def one(loopback: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A collection of one model, kind-blur; its folder."""
    monkeypatch.setenv("BIOZOO_INDEX_URL", loopback.url("/index.json"))
    folder = make_package(tmp_path / "blur", id="kind-blur", version="1.2", validate=False)
    dataset = {"id": "bioimage-io/some-data", "type": "dataset", "versions": [{"source": "x"}]}
    set_index(loopback, publish(loopback, folder, "kind-blur"), dataset)
    return folder


def older(days: float) -> None:
    """Make the cached index look some days old."""
    (path,) = (Settings.from_env().cache / "collection").glob("*-index.json")
    stored = json.loads(path.read_bytes())
    stored["fetched"] = (datetime.now(UTC) - timedelta(days=days)).isoformat()
    path.write_text(json.dumps(stored))


@pytest.mark.parametrize("name", ["kind-blur", "bioimage-io/kind-blur", "kind-blur@v0"])
def test_a_model_is_fetched_by_its_id_with_every_file(
    one: Path, loopback: Loopback, name: str
) -> None:
    package = biozoo.open(name)
    assert (package.id, package.version, package.origin) == ("kind-blur", "v0", "collection")
    assert package.summary.version == "1.2"
    assert package.verify().ok
    assert package.path("weights.onnx").read_bytes() == (one / "weights.onnx").read_bytes()
    assert "/kind-blur/v0/weights.onnx?version=v0" in loopback.requests


def test_it_is_installed_and_then_needs_no_network(
    one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = biozoo.Zoo().add("kind-blur")
    assert (package.version, package.source) == ("v0", "kind-blur")
    monkeypatch.setenv("BIOZOO_OFFLINE", "1")
    assert biozoo.open("kind-blur") == package
    assert biozoo.open("bioimage-io/kind-blur") == package
    assert package.descr.name == "Tiny blur"


def test_what_the_cache_holds_is_not_downloaded_again_to_be_installed(
    one: Path, loopback: Loopback
) -> None:
    root = biozoo.open("kind-blur").root
    asked = len(loopback.requests)
    package = biozoo.Zoo().add("kind-blur")
    assert package.verify().ok
    assert package.origin == "installed"
    assert len(loopback.requests) == asked
    biozoo.Zoo().remove("kind-blur")
    content = (root / "weights.onnx").read_bytes()
    (root / "weights.onnx").write_bytes(b"\0" + content[1:])  # the cache is damaged
    assert biozoo.Zoo().add("kind-blur").verify().ok
    assert len(loopback.requests) > asked


@pytest.mark.parametrize(
    "page",
    [
        "https://bioimage.io/#/?tags=nuclei&id=kind-blur",
        "https://bioimage.io/#/?id=bioimage-io%2Fkind-blur",
        "https://bioimage.io/#/artifacts/kind-blur",
    ],
)
def test_the_address_of_a_models_page_names_the_model(one: Path, page: str) -> None:
    assert biozoo.open(page).id == "kind-blur"


def test_what_was_opened_once_opens_offline(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = biozoo.open("kind-blur").root
    monkeypatch.setenv("BIOZOO_OFFLINE", "1")
    assert biozoo.open("kind-blur").root == root


def test_versions_are_chosen_with_at_and_the_newest_is_meant(
    one: Path, loopback: Loopback, tmp_path: Path
) -> None:
    item = publish(loopback, one, "kind-blur")
    for version in ("v2", "v10"):
        folder = make_package(
            tmp_path / version, id="kind-blur", fields={"description": version}, validate=False
        )
        item["versions"] += publish(loopback, folder, "kind-blur", version)["versions"]
    set_index(loopback, item)
    assert biozoo.open("kind-blur").version == "v10"
    zoo = biozoo.Zoo()
    assert zoo.add("kind-blur@v2").summary.description == "v2"
    assert zoo.add("kind-blur@v0").version == "v0"
    assert [p.version for p in zoo.packages()] == ["v0", "v2"]
    with pytest.raises(NotFoundError, match="There is v0, v2, v10"):
        biozoo.open("kind-blur@v3")


def test_an_unknown_id_offers_the_closest_of_all_that_are_known(one: Path) -> None:
    with pytest.raises(NotFoundError, match="Did you mean kind-blur") as caught:
        biozoo.open("kind-blurr")
    assert (caught.value.exit_code, caught.value.http_status) == (2, 404)


def test_a_description_that_is_not_the_indexed_one_is_refused(
    one: Path, loopback: Loopback, biozoo_home: Path
) -> None:
    loopback.files["/kind-blur/v0/rdf.yaml"] += b"\n# changed\n"
    for act in (biozoo.open, biozoo.Zoo().add):
        with pytest.raises(HashMismatchError, match="not the one in the collection's index"):
            act("kind-blur")
    assert not list(biozoo_home.glob("models/.*")) + list(biozoo_home.glob("cache/packages/*"))


def test_a_file_that_is_not_the_described_one_is_refused(one: Path, loopback: Loopback) -> None:
    loopback.files["/kind-blur/v0/weights.onnx"] = b"x"
    with pytest.raises(HashMismatchError, match=r"weights\.onnx"):
        biozoo.open("kind-blur")


def test_the_index_is_fetched_once_and_again_when_it_is_old(one: Path, loopback: Loopback) -> None:
    assert Collection().note == ""
    assert [s.name for s in Collection().entries()] == ["Tiny blur"]
    assert Collection().index().fetched <= datetime.now(UTC)
    Collection().index()
    assert loopback.requests.count("/index.json") == 1
    assert loopback.requests.count("/kind-blur/v0/rdf.yaml?version=v0") == 1
    older(8)
    collection = Collection()
    collection.index()
    assert loopback.requests.count("/index.json") == 2
    assert loopback.requests.count("/kind-blur/v0/rdf.yaml?version=v0") == 1
    assert collection.note == ""
    Collection().index(refresh=True)
    assert loopback.requests.count("/index.json") == 3


@pytest.mark.parametrize("fault", ["gone", "offline", "nonsense"])
def test_an_old_index_serves_with_its_date_where_no_new_one_can_be_had(
    one: Path, loopback: Loopback, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    Collection().index()
    older(30)
    if fault == "gone":
        del loopback.files["/index.json"]
    elif fault == "nonsense":
        loopback.files["/index.json"] = b"<html>"
    else:
        monkeypatch.setenv("BIOZOO_OFFLINE", "1")
    collection = Collection()
    assert [e.id for e in collection.latest()] == ["kind-blur"]
    day = (datetime.now(UTC) - timedelta(days=30)).strftime("%Y-%m-%d")
    assert f"The index is of {day}" in collection.note
    asked = len(loopback.requests)
    again = Collection()
    again.index()
    assert len(loopback.requests) == asked  # not asked for again within minutes
    assert again.note == collection.note


def test_no_index_at_all_is_an_error_that_names_the_address(one: Path, loopback: Loopback) -> None:
    del loopback.files["/index.json"]
    with pytest.raises(CollectionError, match=r"index\.json: the server answered 404"):
        Collection().index()
    with pytest.raises(NotFoundError, match="Only the built-in and installed models are known"):
        biozoo.open("kind-blur")
    loopback.files["/index.json"] = b'{"other": 1}'
    with pytest.raises(CollectionError, match="no index of models"):
        Collection().index()


def test_a_damaged_cache_is_fetched_anew(one: Path) -> None:
    Collection().index()
    for path in (Settings.from_env().cache / "collection").iterdir():
        path.write_text("{")
    assert [s.name for s in Collection().entries()] == ["Tiny blur"]


def test_a_model_whose_description_cannot_be_had_stays_with_its_id(
    one: Path, loopback: Loopback
) -> None:
    lost = lose(publish(loopback, one, "lost-model"))
    set_index(loopback, publish(loopback, one, "kind-blur"), lost)
    collection = Collection()
    assert [s.id for s in collection.entries()] == ["kind-blur", "lost-model"]
    (entry,) = [e for e in collection.latest() if e.id == "lost-model"]
    assert "404" in entry.note
    assert entry.trust is None
    assert "Of 1 of 2 models only the id is known" in collection.note
    asked = len(loopback.requests)
    Collection().index()  # not asked for again within hours
    assert len(loopback.requests) == asked


def test_a_description_that_was_changed_is_not_shown(one: Path, loopback: Loopback) -> None:
    loopback.files["/kind-blur/v0/rdf.yaml"] += b"\n# changed\n"
    (entry,) = Collection().latest()
    assert "is not the one described" in entry.note
    assert entry.summary.name == ""


def test_a_description_at_two_addresses_is_taken_from_the_one_that_answers(
    one: Path, loopback: Loopback
) -> None:
    item = publish(loopback, one, "kind-blur")
    moved = dict(item["versions"][0], version="v1", source=loopback.url("/gone.yaml"))
    item["versions"].append(moved)
    set_index(loopback, item)
    assert [e.note for e in Collection().index().entries] == ["", ""]


def test_a_server_that_is_gone_is_not_asked_for_every_description(
    one: Path, loopback: Loopback
) -> None:
    items = []
    for i in range(60):
        version = {
            "version": "v0",
            "source": f"http://127.0.0.1:9/{i}/rdf.yaml",
            "sha256": f"{i:064}",
        }
        items.append({"id": f"m{i}", "type": "model", "versions": [version]})
    set_index(loopback, *items)
    notes = [e.note for e in Collection().latest()]
    assert sum("Cannot get" in n for n in notes) < 30
    assert sum("not asked for" in n for n in notes) > 30


def test_a_zenodo_doi_finds_the_model_that_names_it(one: Path, loopback: Loopback) -> None:
    rdf = read_rdf(one)
    rdf["config"]["_conceptdoi"] = "10.5281/zenodo.5764892"
    (one / "rdf.yaml").write_text(json.dumps(rdf))
    set_index(loopback, publish(loopback, one, "kind-blur"))
    derived = dict(publish(loopback, one, "blurred-again"))
    derived["versions"][0]["created_at"] = "2026-01-01"
    set_index(loopback, derived, publish(loopback, one, "kind-blur"))
    for name in ("10.5281/zenodo.5764892", "https://doi.org/10.5281/zenodo.5764892"):
        assert biozoo.open(name).id == "kind-blur"
    with pytest.raises(NotFoundError):
        biozoo.open("10.5281/zenodo.99")


def test_an_index_of_another_address_has_a_cache_of_its_own(
    one: Path, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    Collection().index()
    loopback.files["/other.json"] = b'{"items": []}'
    monkeypatch.setenv("BIOZOO_INDEX_URL", loopback.url("/other.json"))
    assert Collection().entries() == []


def test_an_index_may_not_send_us_elsewhere_than_https(one: Path, loopback: Loopback) -> None:
    item = publish(loopback, one, "kind-blur")
    item["versions"][0]["source"] = "http://example.com/rdf.yaml"
    set_index(loopback, item)
    (entry,) = Collection().latest()
    assert "only https" in entry.note


# ------------------------------------------------------------------------------------ real copies


def serve_real(loopback: Loopback, shared: Path) -> None:
    """The real index of May 2026, its addresses led to this machine, and the 101 descriptions."""
    index = json.loads((shared / "corpus/index/collection-2026-05__index.json").read_bytes())
    for item in index["items"]:
        for version in item["versions"]:
            name = f"{item['id'].rpartition('/')[2]}__{version['version']}.yaml"
            path = f"/rdfs/{name}"
            version["source"] = loopback.url(path)
            file = shared / "corpus" / "rdfs" / name
            if file.is_file():
                loopback.files[path] = file.read_bytes()
                version["sha256"] = hashlib.sha256(loopback.files[path]).hexdigest()
    loopback.files["/index.json"] = json.dumps(index).encode()


@pytest.mark.shared
def test_the_real_index_with_its_descriptions(
    shared: Path, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_real(loopback, shared)
    monkeypatch.setenv("BIOZOO_INDEX_URL", loopback.url("/index.json"))
    collection = Collection()
    assert len(collection.index().entries) == 138
    assert len(collection.latest()) == 137
    assert sum(1 for e in collection.latest() if not e.note) == 99
    assert "Of 38 of 137 models only the id is known" in collection.note
    newest = collection.find("romantic-shark")
    assert newest is not None
    assert newest.version == "v1"
    doi = collection.find("10.5281/zenodo.5764892")
    assert doi is not None
    assert doi.id == "affable-shark"
    monkeypatch.setenv("BIOZOO_OFFLINE", "1")
    assert len(Collection().entries()) == 137


@pytest.mark.shared
@pytest.mark.parametrize(("year", "count"), [("2022-05", 46), ("2023-10", 45), ("2024-06", 44)])
def test_the_older_layout_is_understood_without_its_descriptions(
    shared: Path, loopback: Loopback, monkeypatch: pytest.MonkeyPatch, year: str, count: int
) -> None:
    path = shared / f"corpus/index/collection-bioimage-io-{year}__collection.json"
    index = json.loads(path.read_bytes())
    for item in index["collection"]:
        if "rdf_source" in item:
            item["rdf_source"] = loopback.url("/gone.yaml")
    loopback.files["/index.json"] = json.dumps(index).encode()
    monkeypatch.setenv("BIOZOO_INDEX_URL", loopback.url("/index.json"))
    collection = Collection()
    entries = {e.id: e for e in collection.latest()}
    assert len(entries) == len([i for i in index["collection"] if i.get("type") == "model"])
    assert len(entries) == count
    seashell = entries["kind-seashell"]
    assert seashell.is_called("10.5281/zenodo.5874841")
    assert seashell.summary.name.startswith("Mitochondria")
    assert seashell.summary.task == "segmentation"
    assert "mitochondria" in seashell.summary.tags
