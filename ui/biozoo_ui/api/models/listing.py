"""The list of models as it is sent: made once, kept as bytes until something changes."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .entries import ModelEntry
from .words import MODALITIES, STRUCTURES, TASK_LABELS

__all__ = ["Listing", "facets"]

COMPRESSED_FROM = 20_000  # bytes


@dataclass(frozen=True)
class Listing:
    """Every entry, in the order in which they are shown, with what is known of the collection."""

    entries: tuple[ModelEntry, ...]
    collection: tuple[str, str]

    @cached_property
    def body(self) -> bytes:
        """As JSON."""
        state, note = self.collection
        value = {
            "models": [entry.to_dict() for entry in self.entries],
            "facets": facets(self.entries),
            "collection": {"state": state, "note": note},
        }
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

    @cached_property
    def packed(self) -> bytes | None:
        """The same compressed; None where that is not worth it."""
        if len(self.body) < COMPRESSED_FROM:
            return None
        return gzip.compress(self.body, 5, mtime=0)

    @cached_property
    def etag(self) -> str:
        """Names the content, so that a browser which has it is told so."""
        return f'W/"{hashlib.sha256(self.body).hexdigest()[:24]}"'


def facets(entries: Sequence[ModelEntry]) -> dict[str, list[dict[str, Any]]]:
    """What the entries can be filtered by, with counts: the tables' order, licences by count."""
    tasks = {task: label for task, label in TASK_LABELS.items() if task} | {"": TASK_LABELS[""]}
    return {
        "task": _counted(tasks, entries, lambda e: (e.task,)),
        "modality": _counted({k.value: k.label for k in MODALITIES}, entries, lambda e: e.modality),
        "structure": _counted(
            {k.value: k.label for k in STRUCTURES}, entries, lambda e: e.structure
        ),
        "dimensions": _counted({"2D": "2D", "3D": "3D"}, entries, lambda e: e.dimensions),
        "license": _licences(entries),
    }


def _counted(
    labels: dict[str, str],
    entries: Iterable[ModelEntry],
    values: Callable[[ModelEntry], Iterable[str]],
) -> list[dict[str, Any]]:
    counts = Counter(value for entry in entries for value in values(entry))
    return [
        {"value": value or "other", "label": label, "count": counts[value]}
        for value, label in labels.items()
        if counts[value]
    ]


def _licences(entries: Iterable[ModelEntry]) -> list[dict[str, Any]]:
    counts = Counter(entry.license for entry in entries if entry.license)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0].lower()))
    return [{"value": name, "label": name, "count": n} for name, n in ordered]
