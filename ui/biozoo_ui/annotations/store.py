"""The annotations of one zoo: found by whose they are, of which image, and of which kind."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from biozoo.errors import NotFoundError
from biozoo.files import Staging

from ..jobs.trash import clean_trash, throw_away
from .annotation import Annotation
from .blocks import Key, Pixels
from .facts import FACTS, check_classes, gone
from .model import Facts, Kind

_OPEN = 16  # annotations whose blocks stay in memory
_ID = re.compile(r"[0-9a-f]{32}")

First = Callable[[Annotation], Iterator[tuple[Key, Pixels]]]
"""The first pixels of a new annotation, block by block."""


class Annotations:
    """All annotations below a folder; they stay until somebody deletes them.

    An owner is known by a hash only, so that no secret of a session lies on the disk.

    Parameters
    ----------
    folder
        `<zoo home>/annotations`; made with the first annotation.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._open: OrderedDict[tuple[str, str], Annotation] = OrderedDict()

    def start(
        self,
        owner: str,
        image_key: str,
        facts: Facts,
        *,
        first: First | None = None,
        again: bool = False,
    ) -> Annotation:
        """The annotation of this image and kind: the one that is there, else a new one.

        Parameters
        ----------
        image_key
            The same for the same image, also after a restart.
        first
            The pixels of a new one; None: empty.
        again
            Begin anew where there is one; that is a step of its own, and can be undone.

        Raises
        ------
        UsageError
            For classes that cannot be told apart.
        StorageError
            It cannot be written; nothing half-made stays.
        """
        if facts.kind == "classes":
            check_classes(facts.classes)
        annotation_id = _hash(owner, image_key, facts.kind)[:32]
        with self._making:
            try:
                found = self.get(annotation_id, owner)
            except NotFoundError:
                self._make(annotation_id, owner, facts, first)
                return self.get(annotation_id, owner)
        if again:
            found.write(_anew(found, first))
        return found

    def _make(self, annotation_id: str, owner: str, facts: Facts, first: First | None) -> None:
        place = self._place(annotation_id, owner)
        clean_trash(place.parent)
        with Staging(place.parent) as staging:
            made = Annotation.create(annotation_id, staging.path, facts)
            if first is not None:
                made.fill(first(made))
            staging.place(place)

    def get(self, annotation_id: str, owner: str) -> Annotation:
        """The annotation of this id, of this owner.

        Raises
        ------
        NotFoundError
            There is none, or it is another's: nobody learns which.
        """
        if not _ID.fullmatch(annotation_id):
            raise gone(annotation_id)
        place = self._place(annotation_id, owner)
        if not (place / FACTS).is_file():
            self._forget(annotation_id, owner)
            raise gone(annotation_id)
        key = (annotation_id, owner)
        with self._lock:
            found = self._open.get(key)
            if found is None:
                found = self._open[key] = Annotation(annotation_id, place)
            self._open.move_to_end(key)
            while len(self._open) > _OPEN:
                self._open.popitem(last=False)
        return found

    def of(self, owner: str, image_key: str) -> list[Annotation]:
        """The annotations of an image that there are, scribbles first."""
        kinds: tuple[Kind, ...] = ("classes", "instances")
        found = []
        for kind in kinds:
            try:
                found.append(self.get(_hash(owner, image_key, kind)[:32], owner))
            except NotFoundError:
                continue
        return found

    def remove(self, annotation_id: str, owner: str) -> None:
        """Delete an annotation with its history.

        Raises
        ------
        NotFoundError
            As `get`.
        """
        self.get(annotation_id, owner)
        self._forget(annotation_id, owner)
        throw_away(self._place(annotation_id, owner))

    def _place(self, annotation_id: str, owner: str) -> Path:
        return self._folder / _hash("owner", owner)[:32] / annotation_id

    def _forget(self, annotation_id: str, owner: str) -> None:
        with self._lock:
            self._open.pop((annotation_id, owner), None)


def _anew(found: Annotation, first: First | None) -> Iterator[tuple[Key, Pixels]]:
    """Every block as it would be in a new annotation."""
    given = set()
    for key, pixels in first(found) if first is not None else ():
        given.add(key)
        yield key, pixels
    for key, pixels in found.filled():
        if key not in given:
            yield key, np.zeros_like(pixels)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()
