"""Every model that a page offers: built-in, installed, and those of the collection."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from biozoo.errors import MissingFileError, NotFoundError
from biozoo.records import RECORD

from ..sample import SIMULATED
from .collecting import Collecting, CollectionState
from .covers import Covers
from .entries import ModelEntry, cover_of, of_collection, of_package
from .listing import Listing

if TYPE_CHECKING:
    from biozoo import ModelPackage, Settings
    from biozoo.index import Entry as IndexEntry

__all__ = ["Catalog"]

ORDER = {"runs": 0, "needs": 1, "trust": 1, "unknown": 2, "no": 3}
ORIGINS = {"built-in": 0, "installed": 1, "collection": 2}


class Catalog:
    """The models of one zoo. Ids from outside only ever select from it.

    Parameters
    ----------
    settings
        The zoo, and where its collection is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.collection = Collecting(settings)
        self.covers = Covers(settings)
        self._lock = threading.Lock()
        self._stamp: object = None
        self._listing: Listing | None = None
        self._known: dict[object, ModelEntry] = {}
        self._here: tuple[object, dict[str, ModelPackage]] = (None, {})

    def close(self) -> None:
        """Stop looking for the collection."""
        self.collection.close()

    # ------------------------------------------------------------------------------- what is here

    def packages(self) -> dict[str, ModelPackage]:
        """Every built-in and installed model by its id, in its newest version, built-in ones first.

        Read anew when something changed, since `zoo add` may run beside.
        """
        import biozoo

        stamp = self._changed()
        if (known := self._here)[0] == stamp:
            return known[1]
        newest: dict[str, ModelPackage] = {}
        for package in biozoo.list_packages(settings=self._settings):  # versions rise
            present = newest.get(package.id)
            if present is None or present.origin != "built-in":
                newest[package.id] = package
        self._here = (stamp, newest)
        return newest

    def package(self, model_id: str) -> ModelPackage:
        """The newest version of a model that is on this machine.

        Raises
        ------
        NotFoundError
            For an id that is not here. Paths and addresses are no ids.
        """
        packages = self.packages()
        if model_id in packages:
            return packages[model_id]
        if self.collection.find(model_id) is not None:
            raise NotFoundError(
                kind="model on this computer",
                got=model_id,
                known=(),
                hint="It is a model of the collection: add it first.",
            )
        known = {*packages, *(e.id for e in self.collection.now().entries)}
        raise NotFoundError(
            kind="model", got=model_id, known=known, hint="The list of models has what there is."
        )

    def described(self, model_id: str, *, fetch: bool = True) -> ModelPackage:
        """A package of any model of the list: its files where they are here, else its description.

        Parameters
        ----------
        fetch
            False: a description that was not fetched before is not asked for now.

        Raises
        ------
        NotFoundError
            As `package`.
        CollectionError
            Where the description cannot be had.
        """
        from biozoo.peek import peek

        found = self.collection.find(model_id)
        if found is None or model_id in self.packages():
            return self.package(model_id)
        settings = self._settings if fetch else replace(self._settings, offline=True)
        return peek(collection_name(found), settings=settings)

    def cover(self, model_id: str) -> Path:
        """The picture of any model of the list.

        Raises
        ------
        MissingFileError
            Where it has none that is shown.
        NotFoundError
            As `package`.
        """
        found = self.collection.find(model_id)
        if found is not None and model_id not in self.packages():
            return self.covers.get(found)
        path = cover_of(self.package(model_id))
        if path is None:
            raise MissingFileError(what="The cover of", path=model_id)
        return path

    # --------------------------------------------------------------------------------- the list

    def listing(self) -> Listing:
        """Every model: the built-in ones, the installed ones, those of the collection; within each
        those that run here first. Kept until something changes.
        """
        collection = self.collection.now()
        stamp = (self._changed(), collection.state, collection.note, collection.generation)
        with self._lock:
            if self._listing is None or stamp != self._stamp:
                self._listing = self._list(collection)
                self._stamp = stamp
            return self._listing

    def entry(self, model_id: str) -> ModelEntry:
        """The entry of one model of the list.

        Raises
        ------
        NotFoundError
            As `package`.
        """
        for entry in self.listing().entries:
            if entry.id == model_id:
                return entry
        self.package(model_id)  # which says what it is called instead
        raise NotFoundError(
            kind="model", got=model_id, known=(), hint="The list of models has what there is."
        )

    def _list(self, collection: CollectionState) -> Listing:
        made: dict[object, ModelEntry] = {}
        found: dict[str, ModelEntry] = {}
        for package in self.packages().values():
            changed = (_modified(package.rdf), package.trust)
            key: object = (package.origin, package.id, package.version, changed)
            made[key] = self._known.get(key) or of_package(package)
            found[package.id] = made[key]
        for entry in collection.entries:
            if entry.id in found:
                continue
            covers = self.covers.can_be_had(entry)
            key = ("collection", entry.id, entry.key, entry.trust, entry.note, covers)
            made[key] = self._known.get(key) or of_collection(entry, covers=covers)
            found[entry.id] = made[key]
        self._known = made
        first = {name: i for i, name in enumerate(SIMULATED)}
        ordered = sorted(
            found.values(),
            key=lambda e: (
                ORIGINS[e.origin],
                ORDER[e.badge.state],
                first.get(e.id, len(first)),
                e.name.lower(),
            ),
        )
        return Listing(tuple(ordered), (collection.state, collection.note))

    def _changed(self) -> tuple[object, ...]:
        """Another value whenever a model was added or removed, or code of one allowed or not."""
        from biozoo import Settings

        found: list[object] = []
        for model in _folders(self._settings.models):
            for version in _folders(model):
                found.append((version, _modified(version / RECORD)))
        trust = {self._settings.home / "trust", Settings.from_env().home / "trust"}
        return (*found, *(_modified(folder) for folder in sorted(trust)))


def collection_name(entry: IndexEntry) -> str:
    """What names a model of the collection and nothing else: no folder is called that."""
    return f"bioimage-io/{entry.id}"


def _folders(parent: Path) -> list[Path]:
    try:
        with os.scandir(parent) as entries:
            return sorted(Path(e) for e in entries if not e.name.startswith(".") and e.is_dir())
    except OSError:
        return []


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
