"""Which models are compared: those that fit the image and can run here; of others, why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from biozoo.errors import (
    BiozooError,
    Cancelled,
    MissingFileError,
    NotFoundError,
    UsageError,
)

from ..images.base import Image
from .result import Skipped

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

    from ..prepare import Channel

__all__ = ["Candidate", "candidates", "packages_here"]


@dataclass(frozen=True)
class Candidate:
    """A model that fits the image.

    `name` tells it from the others; `channel` is what it needs of the caller's choice; `solid`
    says whether it takes stacks.
    """

    package: ModelPackage
    name: str
    channel: Channel | None
    solid: bool


def packages_here() -> list[ModelPackage]:
    """The built-in models, and the newest version of each installed one."""
    from biozoo import builtin_packages, list_packages

    built_in = {p.id: p for p in builtin_packages()}
    newest = {p.id: p for p in list_packages() if p.id not in built_in}  # the last is the newest
    return [*built_in.values(), *newest.values()]


def candidates(
    models: Sequence[ModelPackage | str | Path] | None,
    image: Image,
    channel: Channel | None,
    on_download: Callable[[str, int, int | None], None] | None = None,
) -> tuple[list[Candidate], list[Skipped]]:
    """Models that fit an image, and those that do not.

    Nothing is loaded: whether a model's weights can be executed is known when it is.

    Raises
    ------
    UsageError, NotFoundError, MissingFileError
        A name leads to no model: it may be misspelt. One that is there and damaged is skipped.
    """
    import biozoo

    fitting: list[Candidate] = []
    skipped: list[Skipped] = []
    opened = []
    for model in packages_here() if models is None else models:
        try:
            opened.append(biozoo.open(model, progress=on_download))
        except (Cancelled, UsageError, NotFoundError, MissingFileError):
            raise
        except BiozooError as exc:
            skipped.append(Skipped(str(model), None, exc.message))
    unique = {(p.id, p.version, p.root): p for p in opened}
    for package, name in _named(list(unique.values())):
        try:
            taken, solid = _fit(package, image, channel)
        except Cancelled:
            raise
        except BiozooError as exc:
            skipped.append(Skipped(name, package.version, exc.message))
        except Exception as exc:  # a description that breaks a reader in a new way
            skipped.append(Skipped(name, package.version, f"{type(exc).__name__}: {exc}"))
        else:
            fitting.append(Candidate(package, name, taken, solid))
    return fitting, skipped


def _named(packages: Sequence[ModelPackage]) -> list[tuple[ModelPackage, str]]:
    """Each with a name of its own: its id, with its version or folder where ids are the same."""
    ways: tuple[Callable[[ModelPackage], str], ...] = (
        lambda p: p.id,
        lambda p: f"{p.id} {p.version}",
        lambda p: f"{p.id} ({p.root.name})",
        lambda p: f"{p.id} ({p.root})",
    )
    named = []
    for package in packages:
        same = [p for p in packages if p.id == package.id]
        way = next((w for w in ways if len({w(p) for p in same}) == len(same)), ways[-1])
        named.append((package, way(package)))
    return named


def _fit(
    package: ModelPackage, image: Image, channel: Channel | None
) -> tuple[Channel | None, bool]:
    """The part of `channel` that the model needs, and whether it takes z.

    One choice is for all models: those that take every channel of the image need none.

    Raises
    ------
    BiozooError
        The model does not fit.
    """
    from ..prepare import fit
    from ..program import program_of
    from ..tiling import plan_tiles

    geometry = program_of(package).geometry
    required = [t.id for t in geometry.inputs if not t.optional]
    if len(required) > 1:
        raise UsageError(
            f"It takes {len(required)} images ({', '.join(required)}); models are compared on one."
        )
    taken = channel
    try:
        fitting = fit(geometry, image, channel)
    except UsageError as exc:
        if channel is None:
            raise
        try:
            fitting, taken = fit(geometry, image), None
        except UsageError:
            raise exc from None  # what was asked for is what the person understands
    plan_tiles(geometry, fitting.sizes)
    return taken, any("z" in f.tensor.dims for f in fitting.inputs)
