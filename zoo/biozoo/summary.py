"""What lists, searches and pages show of a model, from its raw description of any format version.

Nothing here judges whether a description is valid: what cannot be understood is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .axes import LETTERS

__all__ = ["TASKS", "ModelSummary", "TensorSummary", "package_id", "package_version", "slug"]

#: Task -> words that tell it. The tags are asked first (in this order of tasks), then the name,
#: then the description; the first task with a word in there is the model's. Words match at word
#: starts, "-" and "_" count as spaces.
TASKS: dict[str, tuple[str, ...]] = {
    "segmentation": (
        "instance segmentation",
        "semantic segmentation",
        "segment",
        "boundary prediction",
        "affinity prediction",
        "foreground",
        "membrane prediction",
        "stardist",
        "cellpose",
    ),
    "detection": ("object detection", "spot detection", "detect", "localization", "counting"),
    "restoration": (
        "restoration",
        "denois",
        "noise2void",
        "n2v",
        "super resolution",
        "deconvolution",
        "deblur",
        "upsampling",
        "artifact",
    ),
    "unmixing": ("unmixing", "splitting", "image dcomposition", "image decomposition"),
    "reconstruction": ("reconstruct",),
    "translation": (
        "image to image",
        "in silico label",
        "virtual stain",
        "label free",
        "pix2pix",
        "cyclegan",
        "style transfer",
    ),
    "registration": ("registration",),
    "tracking": ("tracking",),
    "classification": ("classif", "protein localization"),
}

_FORMATS = {"pytorch_script": "torchscript"}  # 0.3's name


@dataclass(frozen=True)
class TensorSummary:
    """One input or output tensor.

    Attributes
    ----------
    id
        Tensor id.
    axes
        Axis ids in order, for example ("batch", "channel", "y", "x").
    channels
        Number of channels, None where there is no channel axis or its size is not fixed.
    sizes
        Sizes in words per space or time axis, for example "y 64+n*16, x 64+n*16".
    """

    id: str
    axes: tuple[str, ...] = ()
    channels: int | None = None
    sizes: str = ""


@dataclass(frozen=True)
class ModelSummary:
    """What a list shows of a model.

    Attributes
    ----------
    id
        As `package_id` gives it.
    version
        As declared; None where the description declares none.
    weights
        Weights formats by the spec's names, for example ("onnx", "torchscript").
    task
        One of `TASKS`, or "" where nothing tells it.
    icon
        An emoji, or "".
    cover
        Relative path or URL of the first cover, None where there is none.
    aliases
        Other ids of the same model: its DOIs, its id before it was made a folder name.
    """

    id: str
    name: str = ""
    description: str = ""
    version: str | None = None
    format_version: str = ""
    tags: tuple[str, ...] = ()
    license: str = ""
    authors: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    inputs: tuple[TensorSummary, ...] = ()
    outputs: tuple[TensorSummary, ...] = ()
    task: str = ""
    icon: str = ""
    cover: str | None = None
    aliases: tuple[str, ...] = field(default=())

    @classmethod
    def from_rdf(cls, raw: Mapping[str, Any]) -> ModelSummary:
        """The summary of a raw description."""
        name, description = _text(raw.get("name")), _text(raw.get("description"))
        tags = tuple(_text(t) for t in _list(raw.get("tags")) if _text(t))
        identity = package_id(raw)
        hub = _hub(raw)
        config = _mapping(raw.get("config"))
        others = [raw.get("id")]
        if slug(_text(hub.get("nickname"))) in ("", identity):  # else copied from another model
            others += [config.get("_conceptdoi"), hub.get("doi")]
        aliases = dict.fromkeys(_text(o) for o in others if o)
        covers = _list(raw.get("covers"))
        first = covers[0] if covers else None
        cover = _text(first.get("source")) if isinstance(first, Mapping) else _text(first)
        icon = raw.get("id_emoji") or hub.get("nickname_icon") or raw.get("icon") or ""
        icon = _text(icon.get("source") if isinstance(icon, Mapping) else icon)
        return cls(
            id=identity,
            name=name,
            description=description,
            version=_text(raw["version"]) if raw.get("version") is not None else None,
            format_version=_text(raw.get("format_version")),
            tags=tags,
            license=_text(raw.get("license")),
            authors=tuple(
                _text(a.get("name")) if isinstance(a, Mapping) else _text(a)
                for a in _list(raw.get("authors"))
            ),
            weights=tuple(_FORMATS.get(str(w), str(w)) for w in _mapping(raw.get("weights"))),
            inputs=tuple(_tensor(t) for t in _list(raw.get("inputs")) if isinstance(t, Mapping)),
            outputs=tuple(_tensor(t) for t in _list(raw.get("outputs")) if isinstance(t, Mapping)),
            task=task_of(tags, name, description),
            icon="" if "." in icon else icon,
            cover=cover or None,
            aliases=tuple(a for a in aliases if a != identity),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` takes them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelSummary:
        """The summary that `to_dict` wrote; unknown keys are left out."""
        known = {k: v for k, v in values.items() if k in cls.__dataclass_fields__}
        for key in ("tags", "authors", "weights", "aliases"):
            known[key] = tuple(known.get(key, ()))
        for key in ("inputs", "outputs"):
            known[key] = tuple(
                TensorSummary(**{**t, "axes": tuple(t["axes"])}) for t in known.get(key, ())
            )
        return cls(**known)


def package_id(raw: Mapping[str, Any]) -> str:
    """The id by which a zoo keeps a model: lower case letters, digits, ".", "_" and "-".

    The description's `id` without "bioimage-io/"; its nickname where the id is a path, as Zenodo
    DOIs are; a slug of its name where it has no id.
    """
    given = _text(raw.get("id")).removeprefix("bioimage-io/")
    if "/" in given or not given:
        given = _text(_hub(raw).get("nickname")) or given
    return slug(given) or slug(_text(raw.get("name"))) or "model"


def package_version(raw: Mapping[str, Any]) -> str:
    """The version by which a zoo keeps a model: as declared, else "v0"."""
    return slug(_text(raw["version"])) or "v0" if raw.get("version") is not None else "v0"


def slug(text: str) -> str:
    """A name that is safe as a folder and in a URL: "My U-Net (2D)" -> "my-u-net-2d"."""
    return re.sub(r"[^a-z0-9._+-]+", "-", text.lower()).strip("-._+")[:100]


def task_of(tags: Iterable[str], name: str = "", description: str = "") -> str:
    """The task that tags, name or description tell, see `TASKS`."""
    for text in (" | ".join(tags), name, description):
        spaced = " " + re.sub(r"[-_\s]+", " ", text.lower())
        for task, words in TASKS.items():
            if any(re.search(rf"\b{re.escape(word)}", spaced) for word in words):
                return task
    return ""


# ---------------------------------------------------------------------------------------- tensors


def _tensor(raw: Mapping[str, Any]) -> TensorSummary:
    axes = raw.get("axes")
    name = _text(raw.get("id") or raw.get("name"))
    return _old_tensor(name, axes, raw.get("shape")) if isinstance(axes, str) else _new(name, axes)


def _new(name: str, axes: Any) -> TensorSummary:
    """0.5: a list of axis mappings; ids equal to their default may be missing."""
    ids, sizes, channels = [], [], None
    for axis in _list(axes):
        if not isinstance(axis, Mapping):
            continue
        kind = _text(axis.get("type"))
        ids.append(_text(axis.get("id")) or ("x" if kind == "space" else kind))
        if kind == "channel":
            names = axis.get("channel_names")
            size = axis.get("size")
            channels = len(names) if isinstance(names, list) else size if _count(size) else None
        elif kind in ("space", "time", "index"):
            sizes.append(f"{ids[-1]} {_size(axis.get('size'))}")
    return TensorSummary(name, tuple(ids), channels, ", ".join(sizes))


def _size(size: Any) -> str:
    if isinstance(size, Mapping):
        if "axis_id" in size:
            offset = size.get("offset")
            more = f"{offset:+}" if isinstance(offset, (int, float)) and offset else ""
            return f"as {size.get('tensor_id')}.{size['axis_id']}{more}"
        if "step" in size:
            return f"{size.get('min')}+n*{size['step']}"
        return f"{size.get('min', 1)} to {size.get('max') or 'any'}"
    return "any" if size is None else _text(size)


def _old_tensor(name: str, letters: str, shape: Any) -> TensorSummary:
    """0.4 and older: one letter per axis, and a shape."""
    ids = tuple(LETTERS.get(a, a) for a in letters)
    sizes: list[str] = []
    channels = None
    values = shape if isinstance(shape, list) else None
    parts = _mapping(shape)
    for i, axis in enumerate(ids):
        if values is not None:
            size = values[i] if i < len(values) else None
            text = _text(size)
        elif "reference_tensor" in parts:
            size, text = None, f"as {parts['reference_tensor']}.{axis}"
        else:
            low, step = (_list(parts.get(k)) for k in ("min", "step"))
            size = low[i] if i < len(low) else None
            grows = i < len(step) and step[i]
            text = f"{size}+n*{step[i]}" if grows else _text(size)
        if axis == "channel":
            channels = size if _count(size) else None
        elif axis != "batch":
            sizes.append(f"{axis} {text or 'any'}")
    return TensorSummary(name, ids, channels, ", ".join(sizes))


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _hub(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(_mapping(raw.get("config")).get("bioimageio"))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return "" if value is None else " ".join(str(value).split())
