"""The public collection: its static index, cached with its date, and a summary of every model.

Two files below cache/collection, named by the index's address: the index as it was fetched, and the
summaries of the descriptions it points to, which are fetched once each (by their sha256). Both are
used as they are while younger than `settings.index_days`; older ones are asked for anew, and kept
with a note where that fails.

A model in the index whose description cannot be had stays in the list with what the index says.
Drafts are never looked at: anyone may stage one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from . import rdf as rdfs
from .download import Client, Progress
from .errors import (
    BiozooError,
    CollectionError,
    HashMismatchError,
    InvalidPackageError,
    StorageError,
)
from .files import write_atomic
from .index import Entry, entries_of, is_doi, is_layout
from .package import version_key
from .settings import Settings
from .summary import ModelSummary
from .trust import trust_of

__all__ = ["Collection", "Entry", "Index"]

MAX_INDEX_BYTES = 64 * 2**20
INDEX_TIMEOUT = 5.0  # seconds without an answer, then the cached index serves
THREADS = 8
RETRY = timedelta(hours=6)  # before a description that could not be had is asked for again
INDEX_RETRY = timedelta(minutes=10)  # the same of an index, while an old one serves


@dataclass(frozen=True)
class Index:
    """The index as it is known here.

    Attributes
    ----------
    url
        Where it is from.
    fetched
        When.
    entries
        Models only, all versions.
    note
        What a reader should know: that it is old, and why. "" where it is fresh.
    """

    url: str
    fetched: datetime
    entries: tuple[Entry, ...]
    note: str = ""


class Collection:
    """The collection of one index address.

    Parameters
    ----------
    settings
        Default: those of the environment.
    progress
        Called with (what, done, total) while descriptions are fetched.
    """

    def __init__(
        self, settings: Settings | None = None, *, progress: Progress | None = None
    ) -> None:
        self.settings = settings or Settings.from_env()
        self.progress = progress
        self._index: Index | None = None
        self._raw: tuple[datetime, Mapping[str, Any], str] | None = None

    @property
    def note(self) -> str:
        """What to tell about the index and the descriptions, "" where all is fresh and complete."""
        notes = []
        if self._index is not None:
            notes.append(self._index.note)
            unknown = sum(1 for e in self.latest() if e.note)
            if unknown:
                notes.append(
                    f"Of {unknown} of {len(self.latest())} models only the id is known: "
                    "their descriptions could not be fetched."
                )
        return " ".join(n for n in notes if n)

    def index(self, *, refresh: bool = False) -> Index:
        """The index with the summaries that are known, from the cache where that is fresh.

        Raises
        ------
        CollectionError
            Where it cannot be had and none is cached.
        """
        if self._index is None or refresh:
            fetched, layout, note = self._layout(refresh)
            self._index = Index(self.settings.index_url, fetched, self._summarised(layout), note)
        return self._index

    def ids(self) -> dict[str, list[str]]:
        """The versions of each model by its id; no description is fetched. Raises as `index`."""
        found: dict[str, list[str]] = {}
        for entry in entries_of(self._layout(False)[1]):
            found.setdefault(entry.id, []).append(entry.version)
        return found

    def entries(self) -> list[ModelSummary]:
        """A summary of the newest version of each model. Raises as `index`."""
        return [entry.summary for entry in self.latest()]

    def latest(self) -> list[Entry]:
        """The newest version of each model, by id. Raises as `index`."""
        newest: dict[str, Entry] = {}
        for entry in sorted(self.index().entries, key=lambda e: version_key(e.version)):
            newest[entry.id] = entry
        return sorted(newest.values(), key=lambda e: e.id)

    def find(self, name: str, version: str | None = None) -> Entry | None:
        """The entry of an id, nickname or DOI, the newest where no version is given.

        Descriptions are fetched only where the index itself does not know the name (in the present
        layout, DOIs stand in the descriptions). Who derives a model may leave its DOI in the
        description; so of several models with one DOI the first published is meant. Raises as
        `index`.
        """
        entries = [e for e in entries_of(self._layout(False)[1]) if e.is_called(name)]
        if not entries and is_doi(name):
            entries = [e for e in self.index().entries if e.is_called(name)]
            first = min(entries, key=lambda e: e.created, default=None)
            entries = [e for e in entries if first is not None and e.id == first.id]
        found = [e for e in entries if version in (None, e.version)]
        return max(found, key=lambda e: version_key(e.version), default=None)

    # ------------------------------------------------------------------------------------ index

    @cached_property
    def _files(self) -> tuple[Path, Path]:
        key = hashlib.sha256(self.settings.index_url.encode()).hexdigest()[:16]
        folder = self.settings.cache / "collection"
        return folder / f"{key}-index.json", folder / f"{key}-summaries.json"

    def _layout(self, refresh: bool) -> tuple[datetime, Mapping[str, Any], str]:
        """When the index was fetched, the index itself, and a note; asked for once."""
        if self._raw is None or refresh:
            self._raw = self._asked(refresh)
        return self._raw

    def _asked(self, refresh: bool) -> tuple[datetime, Mapping[str, Any], str]:
        stored = self._stored_index()
        now = datetime.now(UTC)
        cached = (_date(stored["fetched"]), stored["index"]) if stored else None
        if cached is not None and not refresh:
            if now - cached[0] < timedelta(days=self.settings.index_days):
                return (*cached, "")
            if self.settings.offline:
                return (*cached, f"The index is of {cached[0]:%Y-%m-%d}; the network is off.")
            if now - _date(stored.get("tried")) < INDEX_RETRY:
                return (*cached, f"The index is of {cached[0]:%Y-%m-%d}: {stored.get('why', '')}")
        try:
            with Client(self.settings, timeout=INDEX_TIMEOUT) as client:
                content = client.get(self.settings.index_url, max_bytes=MAX_INDEX_BYTES)
            layout = json.loads(content)
            if not is_layout(layout):
                raise ValueError("it holds no list 'items' or 'collection'")
        except (ValueError, RecursionError) as exc:
            failure: BiozooError = CollectionError(
                url=self.settings.index_url,
                why=f"it is no index of models ({exc})",
                hint="Correct BIOZOO_INDEX_URL.",
            )
        except CollectionError as exc:
            failure = exc
        else:
            self._store_index({"fetched": now.isoformat(timespec="seconds"), "index": layout})
            return now, layout, ""
        if cached is not None:
            tried = {"tried": now.isoformat(timespec="seconds"), "why": failure.message}
            self._store_index({**stored, **tried})
            return (*cached, f"The index is of {cached[0]:%Y-%m-%d}: {failure.message}")
        raise failure

    def _stored_index(self) -> dict[str, Any]:
        """The cached index with its dates, empty where there is none that can be read."""
        try:
            stored = json.loads(self._files[0].read_bytes())
        except (OSError, ValueError):
            return {}
        good = isinstance(stored, dict) and is_layout(stored.get("index"))
        return stored if good and "fetched" in stored else {}

    def _store_index(self, stored: Mapping[str, Any]) -> None:
        with contextlib.suppress(StorageError):  # a home that cannot be written is no reason
            write_atomic(self._files[0], json.dumps(stored).encode())

    # -------------------------------------------------------------------------------- summaries

    def _summarised(self, layout: Mapping[str, Any]) -> tuple[Entry, ...]:
        """The entries with their summaries; those not known yet are fetched and cached."""
        entries = list(entries_of(layout))
        known = self._cached_summaries()
        now = datetime.now(UTC)
        wanted: dict[str, list[Entry]] = {}  # one description may stand at several addresses
        for entry in entries:
            if _is_due(known.get(entry.key), now):
                wanted.setdefault(entry.key, []).append(entry)
        if wanted and not self.settings.offline:
            known |= self._fetch(wanted, now)
            kept = {e.key for e in entries}
            content = json.dumps({k: v for k, v in known.items() if k in kept})
            with contextlib.suppress(StorageError):
                write_atomic(self._files[1], content.encode())
        return tuple(_with_summary(e, known.get(e.key)) for e in entries)

    def _cached_summaries(self) -> dict[str, dict[str, Any]]:
        try:
            stored = json.loads(self._files[1].read_bytes())
        except (OSError, ValueError):
            return {}
        return stored if isinstance(stored, dict) else {}

    def _fetch(self, wanted: Mapping[str, list[Entry]], now: datetime) -> dict[str, dict[str, Any]]:
        """Summaries by key, a few at a time; where none of the first can be had, no more are asked
        for.
        """
        found: dict[str, dict[str, Any]] = {}
        gone: list[Entry] = []
        answered: list[Entry] = []
        tried = now.isoformat(timespec="seconds")
        with (
            Client(self.settings, timeout=INDEX_TIMEOUT) as client,
            ThreadPoolExecutor(THREADS) as pool,
        ):

            def one(entries: list[Entry]) -> dict[str, Any]:
                if len(gone) >= THREADS and not answered:
                    return {"note": "not asked for, as others could not be had", "tried": tried}
                told: dict[str, Any] = {}
                for entry in entries:
                    try:
                        raw = _description(client, entry, self.settings.index_url)
                    except CollectionError as exc:
                        told = {"note": exc.message, "tried": tried}
                        (gone if exc.status is None else answered).append(entry)
                    except (InvalidPackageError, HashMismatchError) as exc:
                        told = {"note": exc.message, "tried": tried}
                        answered.append(entry)
                    else:
                        answered.append(entry)
                        summary = ModelSummary.from_rdf(raw).to_dict()
                        return {"summary": summary, "trust": trust_of(raw)}
                return told

            futures = {key: pool.submit(one, entries) for key, entries in wanted.items()}
            try:
                for done, (key, future) in enumerate(futures.items(), start=1):
                    found[key] = future.result()
                    if self.progress is not None:
                        self.progress("descriptions", done, len(wanted))
            except BaseException:  # Ctrl-C: do not wait for those that have not begun
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return found


def _description(client: Client, entry: Entry, via: str) -> rdfs.Raw:
    content = client.get(entry.url, max_bytes=rdfs.MAX_RDF_BYTES, via=via)
    got = hashlib.sha256(content).hexdigest()
    if entry.sha256 and got != entry.sha256:
        raise HashMismatchError(file=entry.url, expected=entry.sha256, got=got)
    return rdfs.parse(content, source=entry.url)


def _is_due(stored: Mapping[str, Any] | None, now: datetime) -> bool:
    """Whether a description should be asked for: never had, or not had some hours ago."""
    if stored is None:
        return True
    if "summary" in stored:
        return False
    return now - _date(stored.get("tried")) > RETRY


def _date(text: Any) -> datetime:
    """A stored date; one long ago where it cannot be read."""
    try:
        made = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return datetime(2000, 1, 1, tzinfo=UTC)
    return made if made.tzinfo else made.replace(tzinfo=UTC)


def _with_summary(entry: Entry, stored: Mapping[str, Any] | None) -> Entry:
    if stored is None:
        return replace(entry, note="its description has not been fetched yet")
    if "summary" not in stored:
        return replace(entry, note=str(stored.get("note", "")) or "unknown")
    summary = ModelSummary.from_dict(stored["summary"])
    # the index's id is what people type, whatever the description calls itself
    summary = replace(
        summary,
        id=entry.id,
        aliases=tuple(dict.fromkeys((*entry.aliases, *summary.aliases))),
    )
    return replace(entry, summary=summary, trust=stored.get("trust"))
