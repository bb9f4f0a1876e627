"""The overlays of live sessions: those of the last refits of each."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from biozoo.errors import NotFoundError

from ...jobs.results import label_of
from ...live import LiveSession, Refit
from .pictures import Picture

KEPT = 3
"""Refits of a session whose overlays can be had: a viewer may still ask for the one before."""

PLANE = {"y", "x"}


@dataclass(frozen=True)
class _Shown:
    """The overlays of one refit, by tensor id, and the place that they show."""

    place: int
    pictures: dict[str, Picture]


class LiveShelf:
    """Overlays by session, refit and tensor; all in memory, and gone with their session."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: WeakKeyDictionary[LiveSession, OrderedDict[int, _Shown]] = WeakKeyDictionary()

    def put(self, session: LiveSession, refit: Refit) -> dict[str, Picture]:
        """The overlays of a refit by tensor id, labels first; made when first asked for."""
        with self._lock:
            mine = self._of.setdefault(session, OrderedDict())
            if refit.number not in mine:
                mine[refit.number] = _Shown(
                    refit.place,
                    {
                        tensor: Picture(
                            data,
                            image_id=f"{session.id}-{tensor}",
                            name=label_of(tensor),
                            version=refit.number,
                            labels=tensor == "labels",
                        )
                        for tensor, data in refit.tensors.items()
                        if set(map(str, data.dims)) >= PLANE
                    },
                )
            while len(mine) > KEPT:
                mine.popitem(last=False)
            return mine[refit.number].pictures

    def get(self, session: LiveSession, place: int, tensor: str, version: int) -> Picture:
        """One overlay.

        Raises
        ------
        NotFoundError
            There is none, or not any more.
        """
        with self._lock:
            mine = self._of.get(session)
            shown = mine.get(version) if mine is not None else None
        found = shown.pictures.get(tensor) if shown and shown.place == place else None
        if found is None:
            raise NotFoundError(
                kind="overlay", got=f"{tensor} {version}", known=(), hint="A newer one is there."
            )
        return found
