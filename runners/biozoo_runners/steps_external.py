"""Postprocessing that other libraries do: StarDist's and Cellpose's, and the author's own code.

These steps work on the stitched whole of one item, never on a tile: an object that two tiles share
must be found once. `Stardist` and `Cellpose` call bioimageio.core's operators, which call the
libraries; all of that is imported when a step runs. A `Custom` step is a plain value that says what
to call; it runs only where `custom.bind` has put a confined process in its place.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from biozoo.errors import BackendError, MissingDependencyError, UntrustedCodeError

from .steps import Array, Block, Step

if TYPE_CHECKING:
    import xarray as xr
    from bioimageio.core import Sample
    from bioimageio.spec.model.v0_5 import ModelDescr

    Operator = Callable[[Sample], None]

__all__ = [
    "Cellpose",
    "Custom",
    "Stardist",
    "check_holds",
    "count_objects",
    "is_installed",
    "missing_library",
    "require_libraries",
    "required_libraries",
]

#: What a step of the specification needs: an extra of biozoo, named as the library is.
LIBRARIES: Mapping[str, str] = {
    "stardist_postprocessing": "stardist",
    "cellpose_flow_dynamics": "cellpose",
}

#: The member of core's sample that an operator reads and writes.
_MEMBER = "output"


def required_libraries(descr: ModelDescr) -> dict[str, str]:
    """Libraries that the postprocessing needs, installed or not; imports none of them.

    Returns
    -------
    dict
        Extra of biozoo (it has the name of the library) -> why, as in "output 'cells' is made by
        stardist_postprocessing".
    """
    found: dict[str, str] = {}
    for tensor in descr.outputs:
        for step in tensor.postprocessing:
            if (extra := LIBRARIES.get(step.id)) is not None:
                found.setdefault(extra, f"output '{tensor.id}' is made by {step.id}")
    return found


def is_installed(library: str) -> bool:
    """Whether a library can be found; it is not imported."""
    try:
        return find_spec(library) is not None
    except (ImportError, ValueError):
        return False


def missing_library(extra: str, what: str) -> MissingDependencyError:
    """The error for a library that is not there, with the line that installs it."""
    from biozoo.install import install_line

    return MissingDependencyError(what=what, library=extra, install=install_line(extra))


def require_libraries(model: str, chains: Mapping[str, Sequence[Step]]) -> None:
    """Refuse steps whose library is absent, before anything is loaded or computed.

    Parameters
    ----------
    model
        Its id, for the message.
    chains
        The steps of each output.

    Raises
    ------
    MissingDependencyError
        With the line that installs the library.
    """
    for tensor, steps in chains.items():
        for step in steps:
            if isinstance(step, Stardist | Cellpose) and not is_installed(step.library):
                what = f"Model '{model}': step {step.id} of output '{tensor}'"
                raise missing_library(step.library, what)


# ------------------------------------------------------------------------------------------ steps


@dataclass(frozen=True, slots=True)
class Stardist(Step):
    """``stardist_postprocessing``: objects from probability and distances along rays.

    Takes a probability and `n_rays` distances as channels, gives one channel of labels (int32),
    `grid` times as large. The names are those of the specification, `border` is its ``b``.
    """

    tensor: str
    grid: tuple[int, ...]
    prob_threshold: float
    nms_threshold: float
    n_rays: int
    border: int | tuple[tuple[int, int], ...]
    anisotropy: tuple[float, ...] | None = None
    overlap_label: int | None = None

    id: ClassVar[str] = "stardist_postprocessing"
    library: ClassVar[str] = "stardist"
    whole: ClassVar[bool] = True
    makes_labels: ClassVar[bool] = True

    @property
    def spatial(self) -> tuple[str, ...]:
        """The spatial axes it works on, those of `grid`."""
        return ("z", "y", "x")[-len(self.grid) :]

    @property
    def channels(self) -> int:
        """Channels that it takes."""
        return self.n_rays + 1

    def apply(self, x: Array, block: Block, *, own: bool) -> Array:
        def operator() -> Operator:
            from bioimageio.core import MemberId
            from bioimageio.core.proc_ops import StardistPostprocessing2D, StardistPostprocessing3D

            common: dict[str, Any] = {
                "prob_dist_input_id": MemberId(_MEMBER),
                "instance_labels_output_id": MemberId(_MEMBER),
                "grid": self.grid,
                "prob_threshold": self.prob_threshold,
                "nms_threshold": self.nms_threshold,
                "b": self.border,
                "n_rays": self.n_rays,
            }
            if len(self.grid) == 2:
                return StardistPostprocessing2D(**common)
            assert self.anisotropy is not None
            anisotropy: Any = self.anisotropy
            return StardistPostprocessing3D(
                **common, anisotropy=anisotropy, overlap_label=self.overlap_label
            )

        order = ("batch", *self.spatial, "channel")
        return _operate(self, operator, x, block.axes, order)


@dataclass(frozen=True, slots=True)
class Cellpose(Step):
    """``cellpose_flow_dynamics``: objects from flows.

    Takes the channels flow_y, flow_x and cellprob, gives one channel of labels (`output_dtype`).
    The names are those of the specification.
    """

    tensor: str
    cellprob_threshold: float
    flow_threshold: float
    do_3D: bool
    min_size: int
    output_dtype: Literal["uint16", "uint32"]

    id: ClassVar[str] = "cellpose_flow_dynamics"
    library: ClassVar[str] = "cellpose"
    whole: ClassVar[bool] = True
    makes_labels: ClassVar[bool] = True
    spatial: ClassVar[tuple[str, ...]] = ("y", "x")
    channels: ClassVar[int] = 3

    def apply(self, x: Array, block: Block, *, own: bool) -> Array:
        def operator() -> Operator:
            from bioimageio.core import MemberId, proc_ops

            return proc_ops.CellposeFlowDynamics(  # type: ignore[attr-defined]
                cellprob_threshold=self.cellprob_threshold,
                flow_threshold=self.flow_threshold,
                do_3D=self.do_3D,
                min_size=self.min_size,
                labels_id=MemberId(_MEMBER),
                output_dtype="uint32",  # of the operator; cut to the described one below
            )

        labels = _operate(self, operator, x, block.axes, ("batch", "channel", *self.spatial))
        check_holds(labels, self.output_dtype, self.tensor)
        return labels.astype(self.output_dtype)


@dataclass(frozen=True, slots=True)
class Custom(Step):
    """``custom``: the author's Python code, as the description names it."""

    tensor: str
    callable: str
    source: str

    whole: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"custom step {self.callable} from {self.source}"

    def apply(self, x: Array, block: Block, *, own: bool) -> Array:
        raise UntrustedCodeError(
            f"Output '{self.tensor}' is made by {self}, Python code of the package's author. It "
            "runs in a Runner only: load the model after `zoo trust`."
        )


def check_holds(labels: Array, dtype: str, tensor: str) -> None:
    """Refuse to cast labels to a type in which two objects would get one number.

    Raises
    ------
    BackendError
        Naming the number of objects and the type.
    """
    kind = np.dtype(dtype)
    most = np.iinfo(kind).max if kind.kind in "ui" else 2 ** (np.finfo(kind).nmant + 1)
    if labels.size and (found := int(labels.max())) > most:
        raise BackendError(
            f"Output '{tensor}': {found} objects were found, its description keeps their numbers "
            f"as {kind}, up to {most}. Run parts of the image, or ask the package's author for "
            "a larger type."
        )


def count_objects(labels: xr.DataArray, loops: Collection[str]) -> int:
    """How many numbers above 0 an image of labels holds, counted anew at each position.

    Parameters
    ----------
    labels
        Numbers of any real dtype; those of objects are small, as steps count from 1.
    loops
        Axes along which the model ran once per position.
    """
    over = [d for d in labels.dims if d in loops]
    found = 0
    for at in np.ndindex(*(labels.sizes[d] for d in over)):
        values = labels.isel(dict(zip(over, at, strict=True))).values.reshape(-1)
        most = max(int(values.max(initial=0)), 0)
        seen = np.zeros(most + 1, bool)
        for start in range(0, values.size, 2**22):  # an index takes 8 bytes per pixel
            seen[np.maximum(values[start : start + 2**22], 0).astype(np.intp)] = True
        found += int(np.count_nonzero(seen[1:]))
    return found


# --------------------------------------------------------------------------------- core's operators


def _operate(
    step: Stardist | Cellpose,
    operator: Callable[[], Operator],
    x: Array,
    axes: tuple[str, ...],
    order: tuple[str, ...],
) -> Array:
    """Run one of core's operators on a whole tensor.

    Parameters
    ----------
    x, axes
        The tensor and its axes; "batch" may be absent.
    order
        The axes as the operator wants them.

    Returns
    -------
    numpy.ndarray
        Labels with the axes `axes`, one channel.
    """
    given = tuple(a for a in order if a in axes)
    sizes = dict(zip(axes, x.shape, strict=True))
    if set(axes) != set(given) or {*order} - {"batch", *given}:
        raise BackendError(
            f"Output '{step.tensor}': {step.id} needs the axes {', '.join(order)}, the output has "
            f"{', '.join(axes)}. Its description must be corrected by the package's author."
        )
    if sizes["channel"] != step.channels:
        raise BackendError(
            f"Output '{step.tensor}': {step.id} takes {step.channels} channels, the network made "
            f"{sizes['channel']}. Its description must be corrected by the package's author."
        )
    data = x.transpose([axes.index(a) for a in given])
    labels = _call(step, operator, data if "batch" in axes else data[None], order)
    labels = labels if "batch" in axes else labels[0]
    return np.ascontiguousarray(labels.transpose([given.index(a) for a in axes]))


def _call(
    step: Stardist | Cellpose, operator: Callable[[], Operator], x: Array, order: tuple[str, ...]
) -> Array:
    """Labels of `x`, axes `order` in and out."""
    try:
        with _own_warnings():
            from bioimageio.core import MemberId, Sample, Tensor
            from bioimageio.core.axis import AxisId

            dims = tuple(map(AxisId, order))
            sample = Sample(members={MemberId(_MEMBER): Tensor(x, dims=dims)}, stat={}, id=None)
            operator()(sample)
            made = sample.members[MemberId(_MEMBER)]
            return np.asarray(made.transpose(dims).to_numpy())
    except ImportError as exc:
        if not is_installed(step.library):
            what = f"Step {step.id} of output '{step.tensor}'"
            raise missing_library(step.library, what) from exc
        raise BackendError(
            f"Output '{step.tensor}': {step.library} is installed and cannot be imported: {exc}. "
            "Install it again."
        ) from exc
    except MemoryError:
        raise
    except Exception as exc:
        raise BackendError(
            f"Output '{step.tensor}': {step.id} failed on a network output of shape {x.shape} "
            f"({', '.join(order)}): {type(exc).__name__}: {exc}. Check that the network's channels "
            "are what this step takes; else it is a fault of the library."
        ) from exc


@contextmanager
def _own_warnings() -> Iterator[None]:
    """What the program prints stays its own.

    Importing stardist replaces the way in which the whole program prints warnings, and cellpose
    makes torch warn of its sparse tensors.
    """
    kept = warnings.formatwarning
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse invariant checks", UserWarning)
            yield
    finally:
        warnings.formatwarning = kept
