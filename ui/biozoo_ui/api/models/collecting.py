"""The public collection as this server knows it: looked for in the background, never waited for.

First what is cached is shown, then the index is asked for where it is old. Nobody's request waits
for the network.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from biozoo.collection import Collection
from biozoo.errors import BiozooError
from biozoo.settings import INDEX_URL

if TYPE_CHECKING:
    from biozoo import Settings
    from biozoo.index import Entry

__all__ = ["Collecting", "CollectionState"]

State = Literal["ready", "loading", "unavailable", "off"]

PATIENCE = 0.4  # seconds that the first request waits for what is cached
AGAIN = 6 * 3600.0  # seconds before an index that was had is looked after
AGAIN_MISSING = 600.0  # the same of one that could not be had

ONLY_HERE = "Shown are the models on this computer."


@dataclass(frozen=True)
class CollectionState:
    """What is known of the collection.

    Attributes
    ----------
    state
        "ready": its models are in the list; "loading": they are being fetched; "unavailable": they
        cannot be had; "off": the network is switched off and nothing is cached.
    note
        One or two sentences for a reader.
    entries
        The newest version of each model.
    generation
        Another number whenever `entries` are others.
    """

    state: State
    note: str
    entries: tuple[Entry, ...] = ()
    generation: int = 0


class Collecting:
    """The collection of one zoo, kept up to date by a thread of its own.

    Parameters
    ----------
    settings
        Where the index is, and whether the network may be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._cached = threading.Event()  # what is cached has been looked at
        self._next = 0.0
        self._told = CollectionState("loading", "Looking for models of the collection.")
        self._closed = False
        host = urlsplit(settings.index_url).hostname or "it"
        of = "the bioimage.io collection" if settings.index_url == INDEX_URL else f"{host}"
        self._name = of

    def now(self) -> CollectionState:
        """What is known now; looks anew where that is due, and waits only for what is cached."""
        with self._lock:
            due = time.monotonic() >= self._next and not self._closed
            if due and (self._thread is None or not self._thread.is_alive()):
                self._next = time.monotonic() + AGAIN_MISSING
                self._thread = threading.Thread(
                    target=self._look, name="biozoo-collection", daemon=True
                )
                self._thread.start()
        self._cached.wait(PATIENCE)
        return self._told

    def find(self, model_id: str) -> Entry | None:
        """The entry of a model of the collection as it is known now."""
        return next((e for e in self.now().entries if e.id == model_id), None)

    def close(self) -> None:
        """Look no more; a look under way ends by itself."""
        self._closed = True

    def _look(self) -> None:
        try:
            known = self._read(offline=True)
            if known is not None:
                self._tell(known)
            elif self._settings.offline:
                text = f"The network is switched off (BIOZOO_OFFLINE). {ONLY_HERE}"
                self._tell(CollectionState("off", text))
            self._cached.set()
            if self._settings.offline:
                self._next = time.monotonic() + AGAIN_MISSING
                return
            fresh = self._read(offline=False)
            if fresh is not None:
                self._tell(fresh)
                self._next = time.monotonic() + AGAIN
        except Exception as exc:  # a thread must not end without telling the reader
            text = f"The collection cannot be read ({type(exc).__name__}: {exc}). {ONLY_HERE}"
            self._tell(CollectionState("unavailable", text))
        finally:
            self._cached.set()

    def _read(self, *, offline: bool) -> CollectionState | None:
        """What the cache, or the network, gives; None where the cache has nothing."""
        settings = replace(self._settings, offline=True) if offline else self._settings
        collection = Collection(settings, progress=None if offline else self._progress)
        try:
            entries = tuple(collection.latest())
        except BiozooError as exc:
            if offline:
                return None
            if self._told.entries:  # what was known stays
                return None
            text = f"The collection cannot be reached: {exc.message} {ONLY_HERE}"
            return CollectionState("unavailable", text)
        if offline and not self._settings.offline and any(e.note for e in entries):
            return None  # not all was fetched last time: the list would show bare ids
        note = self._counted(len(entries))
        more = collection.note
        return CollectionState("ready", f"{note} {more}".strip(), entries)

    def _counted(self, n: int) -> str:
        return f"{n:,} model{'' if n == 1 else 's'} of {self._name}."

    def _progress(self, what: str, done: int, total: int | None) -> None:
        told = self._told
        if told.state == "loading":
            text = f"Looking for models of {self._name}: {done} of {total} {what}."
            self._told = replace(told, note=text)

    def _tell(self, state: CollectionState) -> None:
        told = self._told
        changed = state.entries != told.entries
        self._told = replace(state, generation=told.generation + (1 if changed else 0))
