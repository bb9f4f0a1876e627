"""Whether pairs can be trained on: every fault of every pair at once, each as a sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import BiozooError, IncompleteError, UsageError
from biozoo_runners.images.base import Image
from biozoo_runners.prepare import fit

from .faults import grouped, notes_of, some
from .label_checks import Fault, Labels, check_sizes, checked_labels
from .pairs import Pair, content_digest, pieces

if TYPE_CHECKING:
    from biozoo.package import ModelPackage
    from biozoo_runners.prepare import Channel

    from .recipe import Recipe
    from .targets.base import Supplies

__all__ = ["check_pairs", "without_copies"]

#: What a person supplies -> how it is called.
_WHAT: dict[Supplies, str] = {
    "instances": "numbered objects",
    "classes": "classes",
    "image": "clean images",
}

#: Bytes of an image up to which it is compared with those that were saved in another way.
_MOST = 2**28


def check_pairs(
    package: ModelPackage,
    pairs: Sequence[Pair],
    recipe: Recipe,
    *,
    channel: Channel | None = None,
    scribbles: bool = False,
    split_masks: bool = False,
    least: int = 2,
) -> tuple[list[Pair], tuple[str, ...]]:
    """The pairs as they are to be trained on, and notes.

    Parameters
    ----------
    channel
        Which channel(s) of the images are taken, as for a run.
    scribbles
        Whether labels are scribbles: 0 unpainted, 1 background, 2, 3, ... classes (2: the object).
    split_masks
        Whether labels that are a mask (one value for several objects) are cut into objects.
    least
        Fewest different images.

    Raises
    ------
    IncompleteError
        One sentence per fault with the images that have it, and what to do.
    UsageError
        No image has labels where they are needed.
    """
    from biozoo_runners.program import program_of

    from .targets.base import make_target

    assert recipe.target is not None
    target = make_target(recipe.target.kind, recipe.target.options)
    supplies = target.supplies
    if supplies != "nothing" and pairs and all(p.labels is None for p in pairs):
        raise UsageError(
            f"Model '{package.id}' is taught with labels ({_WHAT[supplies]}), and none were given. "
            "Name their folder after that of the images: zoo train MODEL IMAGES LABELS."
        )
    model = program_of(package).geometry
    dims = model.tensor(recipe.input).dims
    spatial = tuple(a for a in dims if a not in ("batch", "channel"))
    how = Labels(target, spatial, scribbles, split_masks)
    faults: list[tuple[str, str]] = []
    notes: list[tuple[str, str]] = []
    unique, copies = _unique(pairs)
    notes += copies
    kept: list[Pair] = []
    anything = False
    for pair in unique:

        def note(text: str, stem: str = pair.stem) -> None:
            notes.append((stem, text))

        try:
            fit(model, {recipe.input: pair.image}, channel)
            _check_pixels(pair.image, note)
            made, something = _checked(pair, how, note)
        except Fault as exc:
            faults.append((pair.stem, str(exc)))
        except BiozooError as exc:
            faults.append((pair.stem, exc.message))
        else:
            kept.append(made)
            anything = anything or something
    if not faults and len(unique) < least:
        faults += _too_few(unique, [s for s, _ in copies], least)
    if not faults and not anything and supplies in ("instances", "classes"):
        what = f"its labels hold nothing but background; {_WHAT[supplies]} are needed in some image"
        faults += [(p.stem, what) for p in kept]
    if faults:
        raise IncompleteError(
            what=f"{len(faults)} of {len(pairs)} images cannot be trained on:",
            faults=grouped(faults),
        )
    return kept, notes_of(notes)


def _checked(pair: Pair, how: Labels, note: Callable[[str], None]) -> tuple[Pair, bool]:
    """The pair as it can be used, and whether there is something to learn from."""
    supplies = how.target.supplies
    if supplies == "nothing":
        if pair.labels is not None:
            note("the model learns from images alone: the labels are not looked at")
        return replace(pair, labels=None), True
    if pair.labels is None:
        raise Fault("it has no labels")
    if supplies == "image":
        check_sizes(pair.image, pair.labels, ("channel",), "The clean image")
        return pair, True
    return checked_labels(pair, how, note)


def _check_pixels(image: Image, note: Callable[[str], None]) -> None:
    """Tell of pixels that are no number; raise a `Fault` where there is no other."""
    if image.dtype.kind != "f":
        return
    total = odd = 0
    for piece in pieces(image):
        values = image.read(piece).values
        total += values.size
        odd += values.size - int(np.isfinite(values).sum())
    if odd == total:
        raise Fault("all its pixels are NaN or infinite. Check how it was saved")
    if odd:
        note(f"{odd} of {total} pixels are NaN or infinite: they are replaced as in a run")


def _too_few(unique: Sequence[Pair], copies: Sequence[str], least: int) -> list[tuple[str, str]]:
    if not unique:
        return [("images", "there are none")]
    if len(unique) > 1:
        return [("images", f"there are {len(unique)} different ones, {least} are needed")]
    same = f" ({some(copies)} shows the same pixels)" if copies else ""
    return [
        (
            unique[0].stem,
            f"it is the only image{same}: {least} are needed, so that what was learned can be "
            "measured on another. Add images, or cut this one into several files",
        )
    ]


# ---------------------------------------------------------------------------------------- copies


def _unique(pairs: Sequence[Pair]) -> tuple[list[Pair], list[tuple[str, str]]]:
    """Each picture once: a copy among the held-out ones would be measured as if it were new."""
    first: dict[str, Pair] = {}
    notes = []
    for pair, shown in zip(pairs, _shown(pairs), strict=True):
        if shown not in first:
            first[shown] = pair
            continue
        kept = first[shown]
        other = _other_labels(kept, pair)
        notes.append(
            (pair.stem, f"it has the same pixels as '{kept.stem}'{other} and was left out")
        )
    return list(first.values()), notes


def without_copies(pairs: Sequence[Pair], of: Sequence[Pair]) -> list[Pair]:
    """Those of `pairs` whose picture is not among `of`, whatever it is called or saved as."""
    shown = _shown([*of, *pairs])
    known = set(shown[: len(of)])
    return [p for p, own in zip(pairs, shown[len(of) :], strict=True) if own not in known]


def _other_labels(one: Pair, two: Pair) -> str:
    if one.labels is None or two.labels is None:
        return ""
    return "" if _shown_by(one.labels) == _shown_by(two.labels) else " (but other labels)"


def _shown(pairs: Sequence[Pair]) -> list[str]:
    """By image what tells it from the others, however it was saved.

    A digest is of the type and axes too, so that a TIFF and a PNG of one picture may differ. Only
    where images are stored in several ways are they looked at again.
    """
    stored = {(str(p.image.dtype), p.image.axes, p.image.sizes.get("channel", 1)) for p in pairs}
    return [p.digest if len(stored) < 2 else _shown_by(p.image) for p in pairs]


def _shown_by(image: Image) -> str:
    """sha256 of an image's values without axes of one position, in one order and of one type.

    Of a colour picture a fourth channel (opacity) does not count, and equal channels are one.
    """
    if image.nbytes > _MOST:
        return content_digest(image)
    data = image.read()
    if image.sizes.get("channel", 1) in (3, 4):
        data = data.isel(channel=slice(0, 3))
        if bool((data == data.isel(channel=0)).all()):
            data = data.isel(channel=0)
    data = data.squeeze()
    axes = sorted(str(d) for d in data.dims)
    values: Any = np.ascontiguousarray(data.transpose(*axes).values, np.float64)
    made = hashlib.sha256(f"{axes} {values.shape}\n".encode())
    made.update(values.data)
    return made.hexdigest()
