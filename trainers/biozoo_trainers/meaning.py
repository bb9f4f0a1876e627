"""What the channels of an output mean, guessed from a description."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from biozoo.errors import BiozooError

from .recipe import TargetSpec

if TYPE_CHECKING:
    from biozoo.package import ModelPackage
    from biozoo_runners.instances import InstancesConfig
    from biozoo_runners.sizes import TensorGeometry

    from .targets.base import Supplies

__all__ = ["Meaning", "Unsuited", "meaning_of"]

Where = Literal["network", "postprocessing", "none"]


class Unsuited(Exception):
    """Why a package cannot be retrained."""


@dataclass(frozen=True)
class Meaning:
    """The target of an output, what a person supplies for it, and where its activation is."""

    target: TargetSpec
    supplies: Supplies
    activation: Where
    reasons: tuple[str, ...]


#: What a channel's name says it is, by whole words.
_ROLE_WORDS = {
    "background": "background|bg",
    "distance": "distance|distances|dist|dt|dc|db|edt",
    "boundary": "boundary|boundaries|border|borders|contour|contours|outline|outlines|edge|edges|c",
    "foreground": "foreground|fg|mask|nucleus|nuclei|nucleus probability|cell|cells|object|objects|"
    "interior|inside|f|b",
}

_RESTORE = (
    "image-to-image|image to image|restoration|denois|deconvol|super-resolution|in-silico|"
    "splitting|unmixing|virtual stain|label-free|reconstruction|translation|cyclegan|pix2pix"
)
_OBJECTS = "instance|nucle|cells?\\b|object|stardist|cellpose|spot"
_LINES = "membrane|boundary-prediction|boundary prediction|boundary-detection"


def meaning_of(package: ModelPackage, given: TensorGeometry, taken: TensorGeometry) -> Meaning:
    """What the output's channels are.

    Raises
    ------
    Unsuited
        They cannot be made from what a person could supply.
    """
    from biozoo_runners.program import program_of

    program = program_of(package)
    steps = _postprocessing(package, taken.id)
    names = taken.axis("channel").channels if "channel" in taken.dims else ("0",)
    words = _words(package)
    if any(s.startswith("stardist") for s in steps) or ("stardist" in words and len(names) > 8):
        return _star_convex(package, taken, names)
    if any("cellpose" in s or s == "cellpose_flow_dynamics" for s in steps):
        target = TargetSpec(kind="flow", options={})
        return Meaning(
            target,
            "instances",
            "none",
            ("Its postprocessing is Cellpose's: the target is a flow.",),
        )
    if program.instances is not None and program.instances.output == taken.id:
        return _of_instances(package, taken, names, program.instances, steps)
    if re.search("noise2void|n2v|self-supervised", words) and _same_channels(given, names):
        return Meaning(
            TargetSpec(kind="blind-spot", options={"names": list(_unique(names))}),
            "nothing",
            "none",
            ("Its words name Noise2Void: it learns from noisy images alone, nothing is supplied.",),
        )
    if re.search(_RESTORE, words) and not re.search("segment", words):
        return Meaning(
            TargetSpec(kind="image", options={"names": list(_unique(names))}),
            "image",
            "none",
            ("Its words say image to image: a clean image is supplied for each image.",),
        )
    return _segmentation(package, taken, names, steps, words)


# ----------------------------------------------------------------------------------- segmentation


def _segmentation(
    package: ModelPackage,
    taken: TensorGeometry,
    names: Sequence[str],
    steps: Sequence[str],
    words: str,
) -> Meaning:
    activation, kind, reasons = _activation(package, taken, steps, len(names))
    if "affinit" in words:
        return _affinities(taken, names, activation, reasons)
    roles = _roles(names)
    objects = bool(re.search(_OBJECTS, words)) and not (
        re.search("semantic", words) and not re.search("instance", words)
    )
    if roles is not None and kind != "softmax":
        found = _object_target(roles, {})
        reasons.append(f"Its channels are called {', '.join(names)}: {found.kind}.")
        return Meaning(found, "instances", activation, tuple(reasons))
    if len(names) == 1 and kind != "softmax":
        if objects and not re.search(_LINES, words):
            reasons.append(
                f"One channel ('{names[0]}') and words of objects (nuclei, cells, instances): it "
                "is taken as their foreground, and numbered objects are supplied."
            )
            return Meaning(TargetSpec(kind="foreground"), "instances", activation, tuple(reasons))
        reasons.append(f"One channel ('{names[0]}'): it is taken as one class, painted as 1 on 0.")
        options = {"names": list(names), "activation": "sigmoid"}
        return Meaning(
            TargetSpec(kind="classes", options=options), "classes", activation, tuple(reasons)
        )
    if objects and kind != "softmax" and _plain_names(names) and len(names) in (2, 3):
        target, what = _usual_objects(len(names), taken)
        reasons.append(
            f"{len(names)} channels without telling names and words of instances: taken as {what}. "
            "Check this: another order teaches the wrong thing."
        )
        return Meaning(target, "instances", activation, tuple(reasons))
    softmax = kind != "sigmoid" and len(names) > 1
    options = {"names": list(_unique(names)), "activation": "softmax" if softmax else "sigmoid"}
    first = "the first being the background, 0" if softmax else "each on its own, from 1"
    reasons.append(f"{len(names)} channels are taken as classes, {first}; classes are painted.")
    return Meaning(
        TargetSpec(kind="classes", options=options), "classes", activation, tuple(reasons)
    )


def _of_instances(
    package: ModelPackage,
    taken: TensorGeometry,
    names: Sequence[str],
    rule: InstancesConfig,
    steps: Sequence[str],
) -> Meaning:
    """The package says which channel is what; the others by their names."""
    activation, _, reasons = _activation(package, taken, steps, len(names))
    roles: list[str | None] = list(_named(names))
    for role in ("foreground", "distance", "boundary"):
        ref = getattr(rule, role)
        if ref is not None and not (role == "distance" and ref == rule.foreground):
            roles[int(ref)] = role
    unknown = [n for n, r in enumerate(roles) if r is None]
    if len(unknown) == 1 and len(names) > 1 and "background" not in roles:
        roles[unknown[0]] = "background"
        reasons.append(
            f"Channel '{names[unknown[0]]}' is taken as what is no object, the opposite of "
            f"'{names[int(rule.foreground)]}'."
        )
    if None in roles or len(set(roles)) < len(roles):
        raise Unsuited(
            f"what its channels {', '.join(names)} are is said for some only "
            "(config.biozoo.instances); declare a recipe (config.biozoo.training)"
        )
    decoding = {
        k: v
        for k, v in rule.model_dump(exclude_defaults=True).items()
        if k not in ("output", "foreground", "distance", "boundary")
    }
    found = _object_target([r for r in roles if r], decoding)
    told = ", ".join(f"{n} is {r}" for n, r in zip(names, roles, strict=True))
    reasons.insert(0, f"The package says how objects are made of its channels: {told}.")
    return Meaning(found, "instances", activation, tuple(reasons))


def _object_target(roles: Sequence[str], decoding: Mapping[str, Any]) -> TargetSpec:
    """The kind that has these channels, and their order where it is not the kind's own."""
    usual = {
        ("foreground",): "foreground",
        ("foreground", "boundary"): "foreground-boundary",
        ("foreground", "distance"): "foreground-distance",
        ("foreground", "distance", "boundary"): "foreground-distance-boundary",
    }
    options: dict[str, Any] = {}
    kind = usual.get(tuple(roles))
    if kind is None:
        options["channels"] = list(roles)
        kind = (
            "foreground-distance-boundary"
            if {"distance", "boundary"} <= set(roles)
            else "foreground-distance"
            if "distance" in roles
            else "foreground-boundary"
            if "boundary" in roles
            else "foreground"
        )
    if decoding:
        options["decoding"] = dict(decoding)
    return TargetSpec(kind=kind, options=options)


def _usual_objects(count: int, taken: TensorGeometry) -> tuple[TargetSpec, str]:
    """What most published networks with so many channels give."""
    if count == 2:
        return TargetSpec(kind="foreground-boundary"), "foreground and the outline of objects"
    roles = ["foreground", "boundary", "distance"]
    target = TargetSpec(
        kind="foreground-distance-boundary", options={"channels": roles, "boundary": "outline"}
    )
    return target, "foreground, outline and distance"


def _affinities(
    taken: TensorGeometry, names: Sequence[str], activation: Where, reasons: list[str]
) -> Meaning:
    ndim = sum(a.kind == "space" for a in taken.axes)
    if len(names) != ndim:
        raise Unsuited(
            f"its {len(names)} channels are affinities at distances that the description does not "
            "say; declare a recipe (config.biozoo.training) with the offsets"
        )
    offsets = [[-int(n == axis) for n in range(ndim)] for axis in range(ndim)]
    reasons.append(
        f"Its words say affinities and there are {ndim} channels: taken as those to the pixel "
        "before along each axis."
    )
    return Meaning(
        TargetSpec(kind="affinities", options={"offsets": offsets}),
        "instances",
        activation,
        tuple(reasons),
    )


def _star_convex(package: ModelPackage, taken: TensorGeometry, names: Sequence[str]) -> Meaning:
    ndim = sum(a.kind == "space" for a in taken.axes)
    if ndim != 2:
        raise Unsuited("star-convex polyhedra are not supported, only polygons")
    rays = len(names) - 1
    reasons = (f"It is a StarDist network: object probability and {rays} distances.",)
    return Meaning(
        TargetSpec(kind="star-convex", options={"rays": rays}), "instances", "network", reasons
    )


# ------------------------------------------------------------------------------------- activation


def _activation(
    package: ModelPackage, taken: TensorGeometry, steps: Sequence[str], count: int
) -> tuple[Where, str, list[str]]:
    """Where probabilities are made, by what ("" unknown), and why that is thought."""
    for step in ("sigmoid", "softmax"):
        if step in steps:
            return "postprocessing", step, [f"Its postprocessing applies the {step}."]
    values = _test_output(package, taken)
    if values is not None:
        low, high = float(values.min()), float(values.max())
        if low < -1e-4 or high > 1 + 1e-4:
            why = f"Its test output runs from {low:.3g} to {high:.3g}: taken as logits."
            return "none", "", [why]
        total = values.sum(axis=0)
        if count > 1 and float(np.abs(total - 1).max()) < 1e-3:
            why = "In its test output the channels of a pixel add up to 1: the network's softmax."
            return "network", "softmax", [why]
        why = "Its test output lies within 0 to 1: the network's own sigmoid."
        return "network", "sigmoid", [why]
    low_high = _range(package, taken.id)
    if low_high == (0.0, 1.0):
        return "network", "", ["Its output is declared to lie within 0 to 1."]
    return "network", "", [
        "It is not known whether its output are probabilities or logits (there is no test output): "
        "taken as probabilities. Check this."
    ]  # fmt: skip


def _test_output(package: ModelPackage, taken: TensorGeometry) -> np.ndarray | None:
    """The network's test output (c, everything else), None where it is not to be had."""
    for tensor in package.raw.get("outputs", ()):
        if str(tensor.get("id", tensor.get("name"))) != taken.id or tensor.get("postprocessing"):
            continue
        try:
            source = (tensor.get("test_tensor") or {}).get("source")
            array = np.load(package.path(source), allow_pickle=False) if source else None
        except (BiozooError, OSError, ValueError, TypeError):
            return None
        if array is None or array.ndim != len(taken.dims) or not array.size:
            return None
        axis = taken.dims.index("channel") if "channel" in taken.dims else None
        moved = array[None] if axis is None else np.moveaxis(array, axis, 0)
        values: np.ndarray = np.nan_to_num(moved.reshape(len(moved), -1).astype(np.float32))
        return values
    return None


def _range(package: ModelPackage, output: str) -> tuple[Any, ...] | None:
    for tensor in package.raw.get("outputs", ()):
        if str(tensor.get("id", tensor.get("name"))) == output:
            data = tensor.get("data")
            found = data.get("range") if isinstance(data, Mapping) else tensor.get("data_range")
            return tuple(found) if isinstance(found, list | tuple) else None
    return None


# ------------------------------------------------------------------------------------------ words


def _postprocessing(package: ModelPackage, output: str) -> list[str]:
    for tensor in package.raw.get("outputs", ()):
        if str(tensor.get("id", tensor.get("name"))) == output:
            steps = tensor.get("postprocessing") or ()
            return [str(s.get("id", s.get("name", ""))) for s in steps]
    return []


def _words(package: ModelPackage) -> str:
    raw = package.raw
    outputs = [str(t.get("description") or "") for t in raw.get("outputs", ())]
    parts = [*map(str, raw.get("tags") or ()), str(raw.get("name", "")), *outputs]
    return " ".join([*parts, str(raw.get("description", ""))[:300]]).lower()


def _named(names: Sequence[str]) -> list[str | None]:
    """What each name says its channel is."""
    found: list[str | None] = []
    for name in names:
        word = re.sub(r"[_\-]+", " ", str(name)).strip().lower()
        fits = [r for r, words in _ROLE_WORDS.items() if re.fullmatch(words, word)]
        found.append(fits[0] if fits else None)
    return found


def _roles(names: Sequence[str]) -> list[str] | None:
    """The roles of all channels where every name tells one, each once, and objects can be made."""
    if len(names) < 2:
        return None
    found = _named(names)
    roles = [r for r in found if r]
    if len(roles) < len(found) or len(set(roles)) < len(roles):
        return None
    if set(roles) == {"foreground", "background"}:  # two classes of a softmax
        return None
    return roles if "foreground" in roles else None


def _plain_names(names: Sequence[str]) -> bool:
    """Whether the names are numbers only: channel0, ch_1, 2."""
    return all(re.fullmatch(r"[a-z_ ]*\d+", str(n).lower()) for n in names)


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    if len(set(names)) == len(names):
        return tuple(names)
    return tuple(f"{n} {i}" for i, n in enumerate(names))


def _same_channels(given: TensorGeometry, names: Sequence[str]) -> bool:
    mine = given.axis("channel").channels if "channel" in given.dims else ("0",)
    return len(mine) == len(names)
