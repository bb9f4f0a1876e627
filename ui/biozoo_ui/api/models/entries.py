"""One model as the list of models shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

from biozoo.errors import BiozooError
from biozoo.files import size_text

from .badges import Badge, badge, badge_unseen
from .words import MODALITIES, STRUCTURES, TASK_LABELS, modalities, plain, structures

if TYPE_CHECKING:
    from biozoo import ModelPackage, ModelSummary
    from biozoo.index import Entry as IndexEntry

__all__ = ["COVER_TYPES", "ModelEntry", "cover_of", "of_collection", "of_package"]

COVER_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}
"""Suffixes that are shown, with their media types. No SVG: it can hold a script."""

MOST_WORDS = 600  # characters of a description that a list carries
SPACE = ("z", "y", "x")

_LABELS = {kind.value: kind.label for kind in (*MODALITIES, *STRUCTURES)}


@dataclass(frozen=True)
class ModelEntry:
    """One card of the list.

    Attributes
    ----------
    id, version, name, description
        As the zoo or the collection has it.
    task, task_label
        One of `biozoo.summary.TASKS`, or "", and what people call it.
    dimensions
        "2D", "3D", of its inputs.
    takes
        Dimensions and channels in a few words.
    modality, structure
        Values of `words.MODALITIES` and `words.STRUCTURES`.
    size
        Bytes of its files; None of a model that is not on this machine.
    origin
        Where it is.
    cover
        Address of its picture below the server's root, None where it has none that is shown.
    badge
        Whether it runs here.
    sample
        Whether it can be tried on a sample image as it is.
    search
        Lower-case words for search as one types.
    """

    id: str
    version: str
    name: str
    description: str
    task: str
    task_label: str
    dimensions: tuple[str, ...]
    takes: str
    modality: tuple[str, ...]
    structure: tuple[str, ...]
    license: str
    size: int | None
    size_text: str
    origin: Literal["built-in", "installed", "collection"]
    cover: str | None
    badge: Badge
    sample: bool
    search: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def with_size(self, size: int | None) -> ModelEntry:
        """The same with a size that became known."""
        return replace(self, size=size, size_text="" if size is None else size_text(size))


def of_package(package: ModelPackage) -> ModelEntry:
    """The entry of a built-in or installed model."""
    judged = badge(package)
    told = package.raw.get("config")
    return _entry(
        package.summary,
        id=package.id,
        version=package.version or "",
        size=package.size,
        origin="built-in" if package.origin == "built-in" else "installed",
        cover=cover_of(package) is not None,
        judged=judged,
        told=_fields(told),
    )


def of_collection(entry: IndexEntry, *, covers: bool) -> ModelEntry:
    """The entry of a model of the collection that is not on this machine.

    Parameters
    ----------
    covers
        Whether its cover can be had.
    """
    return _entry(
        entry.summary,
        id=entry.id,
        version=entry.version,
        size=None,
        origin="collection",
        cover=covers and _is_picture(entry.summary.cover or ""),
        judged=badge_unseen(entry.summary, entry.trust, entry.note),
        told=(),
    )


def cover_of(package: ModelPackage) -> Path | None:
    """The picture of a model on this machine, None where it has none that a browser shows."""
    source = package.summary.cover
    if not source or not _is_picture(source):
        return None
    try:
        return package.path(source)
    except BiozooError:  # not on this machine
        return None


def _entry(
    summary: ModelSummary,
    *,
    id: str,
    version: str,
    size: int | None,
    origin: Literal["built-in", "installed", "collection"],
    cover: bool,
    judged: Badge,
    told: tuple[str, ...],
) -> ModelEntry:
    description = summary.description
    if len(description) > MOST_WORDS:
        description = f"{description[:MOST_WORDS].rsplit(' ', 1)[0]} ..."
    modality, structure = modalities(summary, told), structures(summary, told)
    label = TASK_LABELS.get(summary.task, summary.task)
    kinds = [_LABELS[value] for value in (*modality, *structure)]
    many = _dimensions(summary)
    said = (id, summary.name, label, *kinds, *many, *summary.tags, *summary.authors[:20],
            *summary.weights, summary.license, *told, description)  # fmt: skip
    return ModelEntry(
        id=id,
        version=version,
        name=summary.name or id,
        description=description,
        task=summary.task,
        task_label=label,
        dimensions=many,
        takes=_takes(summary, many),
        modality=modality,
        structure=structure,
        license=summary.license,
        size=size,
        size_text="" if size is None else size_text(size),
        origin=origin,
        cover=f"api/models/{quote(id, safe='')}/cover?v={quote(version)}" if cover else None,
        badge=judged,
        sample=origin != "collection" and judged.state == "runs",
        search=plain(" ".join(said)),
    )


def _dimensions(summary: ModelSummary) -> tuple[str, ...]:
    counts = {sum(axis in SPACE for axis in tensor.axes) for tensor in summary.inputs}
    return tuple(f"{n}D" for n in sorted(counts) if n in (2, 3))


def _takes(summary: ModelSummary, many: tuple[str, ...]) -> str:
    """What goes in: "2D, 1 channel"; "2D, 2 images" where the model has several inputs."""
    if not summary.inputs:
        return ""
    shape = " and ".join(many)
    if len(summary.inputs) > 1:
        return ", ".join(filter(None, (shape, f"{len(summary.inputs)} images")))
    tensor = summary.inputs[0]
    if "channel" in tensor.axes:
        n = tensor.channels
        channels = "channels" if n is None else f"{n} channel{'' if n == 1 else 's'}"
    else:
        channels = "1 channel" if many else ""
    if "time" in tensor.axes and shape:
        shape = f"{shape} over time"
    return ", ".join(filter(None, (shape, channels)))


def _is_picture(source: str) -> bool:
    return Path(urlsplit(source).path).suffix.lower() in COVER_TYPES


def _fields(config: Any) -> tuple[str, ...]:
    """Modality and structure where the description has fields of its own for them."""
    hub = config.get("bioimageio") if isinstance(config, Mapping) else None
    if not isinstance(hub, Mapping):
        return ()
    found: list[str] = []
    for key in ("modality", "target_structure"):
        value = hub.get(key)
        listed = value if isinstance(value, list) else [value]
        found += [one[:100] for one in listed if isinstance(one, str)]
    return tuple(found)
