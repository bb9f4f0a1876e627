"""What live mode deals in, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from biozoo.errors import NotFoundError

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from numpy.typing import NDArray

    from biozoo_trainers.live import Features, Head

    from ..jobs.region import Range


@dataclass(frozen=True, eq=False)
class Painted:
    """What a person has painted on a region of an image.

    Attributes
    ----------
    values
        As it is stored: 0 unpainted, 1 background, 2 and on classes; dims are the region's space
        axes, in the order z, y, x.
    version
        Of the annotation when this was read.
    strokes
        How many edits it holds, None where nobody counts.
    """

    values: NDArray[np.unsignedinteger]
    version: int
    strokes: int | None = None


ReadPainted = Callable[[str, str, Mapping[str, "Range"]], Painted]
"""Reads a region of an annotation: its id, the owner, first and last position by image axis.

Raises NotFoundError where the owner has none of this id, UsageError where it holds no scribbles.
"""


@dataclass(frozen=True, eq=False)
class Refit:
    """What the refitted layer says of the region that is seen.

    Attributes
    ----------
    number
        Counts what a session has shown, refits and other places; 1 is the model as it was.
    place
        Counts the places that it has shown.
    features, whole
        Of this place, and whether they are of the whole image.
    version
        Of the annotation that it was fitted to.
    head
        The refitted layer.
    tensors
        Maps and labels of the region, by id, labels first.
    pixels
        Painted pixels by value: 0 background, 1 object or the first class, ...
    objects
        How many there are, None where the package makes none.
    seconds
        By stage: "paint" (reading what was painted), "fit", "apply", "objects".
    notes
        What a person should know of the fit.
    """

    number: int
    place: int
    features: Features
    whole: bool
    version: int
    head: Head
    tensors: Mapping[str, xr.DataArray]
    pixels: Mapping[int, int]
    objects: int | None
    seconds: Mapping[str, float]
    notes: tuple[str, ...] = ()
    strokes: int | None = None


@dataclass(frozen=True)
class Keeping:
    """A refitted layer on its way into the zoo.

    Attributes
    ----------
    state
        Of the way.
    words
        What is being done, for a reader.
    model
        Id of the new model, empty until it is there.
    error
        Why it failed and what to do.
    """

    state: Literal["running", "done", "failed"]
    words: str = ""
    model: str = ""
    error: str = ""


def gone(session_id: str) -> NotFoundError:
    """The error of a live session that is not there, not any more, or another's."""
    return NotFoundError(
        kind="live session",
        got=session_id,
        known=(),
        hint="Live mode goes with the server and ends when it is not used. Start it again.",
    )
