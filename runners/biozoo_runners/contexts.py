"""The context of networks whose packages declare no halo: measured once, remembered, used by runs.

How far a network looks is measured by `zoo check --seams` (`biozoo_converters.seams`) and kept
below the zoo's home in a file named by the digest of what the model loads, so that it is never that
of other weights. A run looks for it only where tiles would meet without context. An image that fits
one tile is run as ever: there the package's author has the last word.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biozoo.errors import BiozooError

from .kept_tiles import model_digest
from .sizes import AxisGeometry, ModelGeometry
from .tiling import TilePlan, plan_tiles

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

__all__ = [
    "KnownContext",
    "bare_axes",
    "is_costly",
    "plan_with",
    "recall",
    "remember",
    "with_context",
]

#: A run may become slower by this factor for the sake of measured context. A network of 64 pixels
#: in 3D that looks at 24 would keep 16 of each side of a tile, and take 64 times as long.
DEARER = 4.0
#: Of the file: another way of measuring makes it another number.
VERSION = 1


@dataclass(frozen=True)
class KnownContext:
    """How far a network looks, as measured.

    Attributes
    ----------
    halo
        Per axis id, pixels of the input that a tile needs on each side.
    unit
        Per axis id, input pixels by which tiles may be moved and give the same (its strides).
    local
        Whether tiles with that halo give what the whole gives; False: they never do.
    error
        Largest difference left between tiles with that halo and the whole, in parts of the output's
        spread, as measured on the package's own test image.
    field
        Per output axis, "tensor.axis", input pixels to one side that matter; None: all of them.
    notes
        What else was found.
    """

    halo: Mapping[str, int]
    unit: Mapping[str, int]
    local: bool
    error: float = 0.0
    field: Mapping[str, int | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def recall(package: ModelPackage) -> KnownContext | None:
    """What was measured of these weights; None where nothing was, or it cannot be read."""
    if not _folder().is_dir():  # spares reading the weights
        return None
    try:
        found = json.loads(_path(package).read_bytes())
        if found.pop("version") != VERSION:
            return None
        return KnownContext(**{**found, "notes": tuple(found["notes"])})
    except (BiozooError, OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def remember(package: ModelPackage, context: KnownContext) -> None:
    """Keep what was measured.

    Raises
    ------
    StorageError
        It cannot be written.
    MissingFileError
        A file of the package is not there.
    """
    from biozoo.files import write_atomic

    kept = {"version": VERSION, **context.to_dict()}
    write_atomic(_path(package), json.dumps(kept).encode())


def _folder() -> Path:
    from biozoo import Settings

    return Settings.from_env().home / "contexts"


def _path(package: ModelPackage) -> Path:
    return _folder() / f"{model_digest(package)}.json"


# ------------------------------------------------------------------------------------------- plans


def bare_axes(plan: TilePlan) -> tuple[str, ...]:
    """Axes along which tiles meet without context."""
    return tuple(g.id for g in plan.grid if len(g.starts) > 1 and not g.halo and g.overlap <= 0)


def plan_with(
    model: ModelGeometry,
    sizes: Mapping[str, Mapping[str, int]],
    tile: Mapping[str, int] | None,
    context: Callable[[], KnownContext | None],
) -> tuple[ModelGeometry, TilePlan, str]:
    """Lay tiles, with measured context where a package declares none and the image is cut.

    Parameters
    ----------
    model, sizes, tile
        As for `plan_tiles`.
    context
        Asked for only where it is needed.

    Returns
    -------
    tuple
        The model as it was planned for, the plan, and a note for the user ("" where the package's
        own description was enough).

    Raises
    ------
    UsageError, ImageMismatchError, InvalidPackageError
        As `plan_tiles` does.
    """
    plan = plan_tiles(model, sizes, tile=tile)
    bare = bare_axes(plan)
    known = context() if bare else None
    if known is None or not known.local or not any(known.halo.get(a) for a in bare):
        return model, plan, ""
    wider = with_context(model, plan, known)
    try:
        made = plan_tiles(wider, sizes, tile=tile)
    except BiozooError:  # the asked or the fixed tile has no room for it: as declared, with seams
        return model, plan, ""
    halo = ", ".join(f"{a} {known.halo[a]}" for a in bare if known.halo.get(a))
    if is_costly(made, plan):
        note = (
            f"the context that was measured ({halo} pixels on each side) is not used, as the run "
            f"would take {made.overhead / plan.overhead:.0f} times as long"
        )
        return model, plan, note
    note = (
        f"the model declares no halo: the context that was measured ({halo} pixels on each side) "
        "is used"
    )
    return wider, made, note


def is_costly(made: TilePlan, plan: TilePlan) -> bool:
    """Whether a plan with context computes too much more than the one without."""
    return made.overhead > DEARER * plan.overhead


def with_context(model: ModelGeometry, plan: TilePlan, known: KnownContext) -> ModelGeometry:
    """The model with the measured halo and strides on axes that are cut and have no halo."""
    bare = {i for i, g in enumerate(plan.grid) if g.id in bare_axes(plan)}
    follows = {
        (side, t.id, a.id): (plan.grid[a.grid].id, a.ratio)
        for side, tensors in (("in", plan.inputs), ("out", plan.outputs))
        for t in tensors
        for a in t.axes
        if a.grid in bare and a.grid is not None
    }

    def output(tensor: str, a: AxisGeometry) -> AxisGeometry:
        grid, ratio = follows.get(("out", tensor, a.id), ("", 1))
        return replace(a, halo=ceil(known.halo.get(grid, 0) * ratio)) if grid else a

    def source(tensor: str, a: AxisGeometry) -> AxisGeometry:
        grid, ratio = follows.get(("in", tensor, a.id), ("", 1))
        return replace(a, stride=ceil(known.unit.get(grid, 1) * ratio)) if grid else a

    return replace(
        model,
        inputs=tuple(replace(t, axes=tuple(source(t.id, a) for a in t.axes)) for t in model.inputs),
        outputs=tuple(
            replace(t, axes=tuple(output(t.id, a) for a in t.axes)) for t in model.outputs
        ),
    )
