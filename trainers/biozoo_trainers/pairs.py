"""Images and what a person says of them, paired by name.

    pairs = find_pairs("images/", "labels/")          # cells.ome.tif with cells_mask.png

A label file belongs to the image with its name, endings aside, and aside from a word that says what
it is: `cells.ome.tif` takes `cells.tif`, `cells.labels.ome.tif` or `cells_mask.png`. What is in the
files is looked at by `checks.check_pairs`.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from biozoo.errors import (
    AxesError,
    BiozooError,
    IncompleteError,
    MissingFileError,
    UsageError,
)
from biozoo_runners.images.base import Image

from .faults import grouped, some

if TYPE_CHECKING:
    from biozoo.package import ModelPackage
    from biozoo_runners.prepare import Channel, ImageLike

    from .recipe import Recipe

__all__ = ["Pair", "check_pairs", "content_digest", "find_pairs", "stem_of"]


@dataclass(frozen=True, eq=False)
class Pair:
    """One image and its annotation.

    Attributes
    ----------
    stem
        By which it is called in messages.
    image
        Pixels read on demand.
    labels
        Same spatial size: numbered objects, classes, or the clean image; None where nothing is
        supplied (self-supervised).
    digest
        sha256 of the image's pixels, shape and type: no matter what it is called or where it is.
    scribbles
        Whether the labels are scribbles: 0 unpainted, 1 background, 2, 3, ... classes.
    """

    stem: str
    image: Image
    labels: Image | None
    digest: str
    scribbles: bool = False


if TYPE_CHECKING:
    Source = str | Path | Sequence[ImageLike]

#: Words in a name that say what a file is, not of what.
_LABEL_WORDS = (
    "labels?|masks?|cp_masks|seg|segmentation|gt|ground_?truth|truth|annotations?|annotated|"
    "instances?|objects|classes|scribbles|target|clean|high"
)
_IMAGE_WORDS = "images?|img|raw|input|noisy|low"


def find_pairs(
    images: Source,
    labels: Source | None,
    *,
    axes: str | Sequence[str] | None = None,
) -> list[Pair]:
    """Pair images with labels, sorted by stem.

    Parameters
    ----------
    images, labels
        A folder, a list of paths, or a list of arrays, `DataArray`s and `Image`s (then paired by
        their place). `labels` None: images alone.
    axes
        Axes of the images where they do not say, slowest first.

    Raises
    ------
    IncompleteError
        An image without labels, labels without an image, or several for one: all at once.
    MissingFileError, UsageError
        A folder does not exist, or holds no image.
    """
    listed = _listed(images, "images")
    if labels is None:
        return _opened([(_name(i, n), i, None) for n, i in enumerate(listed)], axes)
    others = _listed(labels, "labels")
    if not (_are_paths(listed) and _are_paths(others)):
        if len(listed) != len(others):
            raise UsageError(
                f"{len(listed)} images and {len(others)} labels were given. Give one label image "
                "for each image, in the same order."
            )
        triples = [(_name(i, n), i, o) for n, (i, o) in enumerate(zip(listed, others, strict=True))]
        return _opened(triples, axes)
    matched = _matched(cast("list[Path]", listed), cast("list[Path]", others))
    return _opened([(stem, i, o) for stem, (i, o) in sorted(matched.items())], axes)


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
    """The pairs as they are to be trained on, and notes; see `checks.check_pairs`."""
    from . import checks

    return checks.check_pairs(
        package,
        pairs,
        recipe,
        channel=channel,
        scribbles=scribbles,
        split_masks=split_masks,
        least=least,
    )


def stem_of(path: Path) -> str:
    """A file's name without the endings of images: "cells" of "cells.ome.tif"."""
    from biozoo_runners.images.readers import suffixes

    name = path.name
    for suffix in (*suffixes(), ".ome"):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            name = name[: -len(suffix)]
    return name


def content_digest(image: Image) -> str:
    """sha256 over type, axes, shape and pixels; read in pieces of the slowest axis."""
    found = hashlib.sha256(f"{image.dtype} {image.axes} {image.shape}\n".encode())
    for piece in pieces(image):
        found.update(np.ascontiguousarray(image.read(piece).values).data)
    return found.hexdigest()


def pieces(image: Image, limit: int = 2**26) -> list[Mapping[str, slice]]:
    """Selections along the slowest axis that cover an image, of about `limit` bytes each."""
    axis, size = image.axes[0], image.shape[0]
    step = max(1, min(size, limit * size // max(image.nbytes, 1)))
    return [{axis: slice(n, min(n + step, size))} for n in range(0, size, step)]


# ----------------------------------------------------------------------------------------- files


def _listed(source: Source, what: str) -> list[ImageLike]:
    """The files of a folder or pattern, or what was listed.

    Raises
    ------
    MissingFileError
        The folder does not exist, or holds no image.
    """
    from biozoo_runners.images import find_images
    from biozoo_runners.images.readers import similar

    if isinstance(source, str | Path):
        try:
            return list(find_images([source]))
        except MissingFileError as exc:
            if Path(source).expanduser().is_dir():
                raise UsageError(
                    f"The folder of {what}, {source}, holds no image. Folders in it are not "
                    "searched."
                ) from exc
            raise MissingFileError(
                what=f"The folder of {what}", path=source, hint=similar(Path(source))
            ) from exc
    return [Path(s) if isinstance(s, str) else s for s in source]


def _are_paths(sources: Sequence[ImageLike]) -> bool:
    return all(isinstance(s, Path) for s in sources)


def _name(source: ImageLike, number: int) -> str:
    if isinstance(source, Path):
        return stem_of(source)
    return str(getattr(source, "name", None) or "") or f"image {number + 1}"


def _matched(images: list[Path], labels: list[Path]) -> dict[str, tuple[Path, Path]]:
    """Stem -> image and label file."""
    both = {p.resolve() for p in images} & {p.resolve() for p in labels}
    if both:  # one folder for both: the word in the name tells
        images = [p for p in images if p.resolve() not in both or _bare(p, _LABEL_WORDS) is None]
        labels = [p for p in labels if p.resolve() not in both or _bare(p, _LABEL_WORDS)]
    stems: dict[str, list[Path]] = {}
    for path in images:
        stems.setdefault(stem_of(path), []).append(path)
    faults = {
        stem: f"{len(found)} images have this name: {', '.join(p.name for p in found)}"
        for stem, found in stems.items()
        if len(found) > 1
    }
    plain = {_bare(p[0], _IMAGE_WORDS) or stem: stem for stem, p in stems.items()}
    found: dict[str, list[Path]] = {}
    spare = []
    for path in labels:
        stem = stem_of(path)
        bare = _bare(path, _LABEL_WORDS) or stem
        match = next((s for s in (stem, bare) if s in stems), None) or plain.get(bare)
        if match is None:
            spare.append(path.name)
        else:
            found.setdefault(match, []).append(path)
    for stem, paths in found.items():
        if len(paths) > 1:
            exact = [p for p in paths if stem_of(p) == stem]
            if len(exact) == 1:
                found[stem] = exact
            else:
                names = ", ".join(p.name for p in paths)
                faults[stem] = f"several label files fit: {names}. Keep one"
    if not found:
        raise IncompleteError(
            what=f"No image has labels: none of {len(images)} images and {len(labels)} label files "
            "share a name.",
            faults={"images": some(sorted(stems)), "labels": some([p.name for p in labels])},
            hint="Call them alike: cells.tif with cells.tif, cells_mask.png or "
            "cells.labels.ome.tif.",
        )
    missing = [s for s in stems if s not in found]
    if missing or spare or faults:
        if missing:
            faults["without labels"] = some(sorted(missing))
        if spare:
            faults["labels without an image"] = some(sorted(spare))
        raise IncompleteError(
            what=f"{len(found)} of {len(images)} images have labels.",
            faults=faults,
            hint="Give labels for every image, or take the others out of the folder.",
        )
    return {stem: (stems[stem][0], paths[0]) for stem, paths in found.items()}


def _bare(path: Path, words: str) -> str | None:
    """A stem without a word of `words` at its end or beginning, None where there is none."""
    stem = stem_of(path)
    for pattern in (rf"(.+?)[._\- ](?:{words})$", rf"(?:{words})[._\- ](.+)$"):
        found = re.fullmatch(pattern, stem, flags=re.IGNORECASE)
        if found:
            return found.group(1)
    return None


def _opened(
    triples: Sequence[tuple[str, ImageLike, ImageLike | None]], axes: str | Sequence[str] | None
) -> list[Pair]:
    """Every file opened; all that cannot be are told at once."""
    from biozoo_runners.prepare import as_image

    pairs, faults = [], []
    for stem, given, labels in triples:
        try:
            image = as_image(given, None if isinstance(given, Image) else axes)
            opened = None if labels is None else _open_labels(labels, image)
            pairs.append(Pair(stem, image, opened, content_digest(image)))
        except BiozooError as exc:
            faults.append((stem, exc.message))
    if faults:
        raise IncompleteError(
            what=f"{len(faults)} of {len(triples)} images cannot be read, or their labels:",
            faults=grouped(faults),
        )
    return pairs


def _open_labels(source: ImageLike, image: Image) -> Image:
    """A label image; where its axes are not said, or not those of its image, the image's.

    A stack of labels is often saved without axes, and a program then takes it for time or channels.
    """
    from biozoo_runners.prepare import as_image

    plain = {a: n for a, n in image.sizes.items() if a != "channel"}
    try:
        found = as_image(source)
    except AxesError:
        for axes in (list(plain), image.axes):
            with contextlib.suppress(AxesError):
                return as_image(source, axes)
        raise
    if set(found.axes) != set(plain) and found.shape == tuple(plain.values()):
        if isinstance(source, Path):
            return as_image(source, list(plain))
        return Image.from_array(found.read().values, list(plain), name=found.name)
    return found
