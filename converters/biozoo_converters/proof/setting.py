"""What all comparisons of one package share: its geometry, its real input, the inputs to try."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from biozoo.errors import BiozooError
from biozoo_runners.sizes import FixedSize, ModelGeometry

from .cases import free_axes, plan_trials, shapes_for
from .growing import grow
from .inputs import Draw, Trial, digest, draws_of, make
from .tiled import Cut, plan_cuts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biozoo.package import ModelPackage

    from ..networks.network import Reference

__all__ = ["Remembered", "Setting", "network_inputs", "remembered"]

Arrays = Mapping[str, "NDArray[Any]"]

#: Sides of an input that is made up where there is no real one, by number of axes.
SIDE = {1: 256, 2: 64, 3: 32}


@dataclass(frozen=True)
class Setting:
    """A package as the comparisons see it.

    Attributes
    ----------
    real
        The real inputs as the network takes them, by tensor id; made up where there are none.
    trials
        What is tried, in order.
    notes
        What was not possible.
    """

    model: ModelGeometry
    real: Arrays
    draws: Mapping[str, Draw]
    trials: tuple[Trial, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, package: ModelPackage, real: Arrays | None = None) -> Setting:
        """The setting of a package.

        Parameters
        ----------
        real
            As the network takes them; None takes the package's test inputs, preprocessed.

        Raises
        ------
        InvalidPackageError
            The description is not valid.
        """
        from biozoo_runners.program import program_of

        model = program_of(package).geometry
        notes: tuple[str, ...] = ()
        invented = False
        if real is None:
            try:
                real = network_inputs(package)
            except BiozooError:
                real, invented = _invented(model), True
                notes = ("there is no real input: random ones only",)
        shapes = {i: a.shape for i, a in real.items()}
        trials = plan_trials(model, shapes, batch=_batch_is_free(package))
        if invented:
            trials = tuple(
                replace(t, kind="random", draw="like") if t.kind == "real" else t for t in trials
            )
        return cls(model, real, draws_of(model, real), trials, notes)

    @cached_property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """Axis ids of each output."""
        return {t.id: t.dims for t in self.model.outputs}

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """How tiles are compared with the whole."""
        return plan_cuts(self.model, {i: a.shape for i, a in self.real.items()})

    @property
    def why_uncut(self) -> str:
        """Why there are no cuts."""
        free = free_axes(self.model, {i: a.shape for i, a in self.real.items()})
        if not free:
            return "the sizes are fixed, so there is no larger whole"
        return "the outputs do not follow the inputs' axes, or a tile with its halo is too large"

    def inputs(self, trial: Trial) -> dict[str, NDArray[Any]]:
        """The arrays of a trial."""
        return make(trial, self.draws, self.real)

    def grown(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, NDArray[Any]]:
        """The real inputs in other sizes."""
        return {i: grow(self.real[i], dict(enumerate(s))) for i, s in shapes.items()}

    def batch_axis(self, tensor: str) -> int | None:
        """Number of a tensor's batch axis; an output's, where an input has the same id."""
        for t in (*self.model.outputs, *self.model.inputs):
            if t.id == tensor:
                return next((n for n, a in enumerate(t.axes) if a.kind == "batch"), None)
        return None

    def _input_batch(self, tensor: str) -> int | None:
        t = next(t for t in self.model.inputs if t.id == tensor)
        return next((n for n, a in enumerate(t.axes) if a.kind == "batch"), None)

    def images(self, trial: Trial) -> int:
        """Images in a trial's batch."""
        counts = [
            shape[axis]
            for i, shape in trial.shapes.items()
            if (axis := self._input_batch(i)) is not None
        ]
        return max(counts, default=1)

    def image(self, inputs: Arrays, number: int) -> dict[str, NDArray[Any]]:
        """One image of a batch, as a batch of one."""
        found = {}
        for i, array in inputs.items():
            axis = self._input_batch(i)
            found[i] = array if axis is None else array.take([number], axis=axis)
        return found

    def misdescribed(self, shapes: Mapping[str, Sequence[int]], outputs: Arrays) -> list[str]:
        """Where the original's outputs are not of the sizes that the description says."""
        roots = {
            (t.id, a.id): size
            for t in self.model.inputs
            if t.id in shapes
            for a, size in zip(t.axes, shapes[t.id], strict=True)
        }
        told = []
        for t in self.model.outputs:
            if t.id not in outputs:
                told.append(f"the original gives no output '{t.id}'")
                continue
            batch = max((roots[r] for r in roots if self._is_batch(*r)), default=1)
            expected = [
                batch if a.kind == "batch" else self.model.size(t.id, a.id, roots) for a in t.axes
            ]
            got = outputs[t.id].shape
            same = len(got) == len(expected) and all(
                e in (None, g) for e, g in zip(expected, got, strict=True)
            )
            if not same:
                sizes = " x ".join("?" if e is None else str(e) for e in expected)
                text = ", ".join(f"{i} {' x '.join(map(str, s))}" for i, s in shapes.items())
                told.append(
                    f"with {text} the original's '{t.id}' is {' x '.join(map(str, got))}, the "
                    f"description says {sizes}"
                )
        return told

    def _is_batch(self, tensor: str, axis: str) -> bool:
        return next(t for t in self.model.inputs if t.id == tensor).axis(axis).kind == "batch"


def network_inputs(package: ModelPackage) -> dict[str, NDArray[Any]]:
    """A package's test inputs as its network gets them: preprocessed.

    Raises
    ------
    BiozooError
        They are not there, or a step cannot be executed here.
    """
    from biozoo_runners.program import program_of
    from biozoo_runners.testing import read_test_tensors

    steps = program_of(package).preprocessing
    inputs, _ = read_test_tensors(package)
    stats = steps.collect(inputs)
    return {
        i: steps.apply(i, data.values, [str(d) for d in data.dims], stats)
        for i, data in inputs.items()
    }


def _batch_is_free(package: ModelPackage) -> bool:
    """Whether the description takes several images at once."""
    batches = [a for t in package.descr.inputs for a in t.axes if a.type == "batch"]
    return bool(batches) and all(a.size is None for a in batches)


def _invented(model: ModelGeometry) -> dict[str, NDArray[Any]]:
    """Inputs of a middle size, where the package has no real ones."""
    given = [t for t in model.inputs if not t.optional] or list(model.inputs[:1])
    rough = {
        t.id: [
            a.size.size if isinstance(a.size, FixedSize) else getattr(a.size, "min", 1)
            for a in t.axes
        ]
        for t in given
    }
    axes = free_axes(model, rough)
    places = sum(a.kind not in ("batch", "channel") for a in given[0].axes)
    sizes = tuple(a.at_least(SIDE[min(max(places, 1), 3)]) for a in axes)
    shapes = shapes_for(model, rough, axes, sizes, 1)
    draws = {t.id: _standard(t.id, model) for t in given}
    trial = Trial(shapes, "random", 9999, "like")
    return make(trial, draws, {})


def _standard(tensor: str, model: ModelGeometry) -> Draw:
    kinds = [a.kind for a in next(t for t in model.inputs if t.id == tensor).axes]
    return Draw(places=tuple(n for n, k in enumerate(kinds) if k in ("space", "time")))


# --------------------------------------------------------------------------------------- memory


class Remembered:
    """A network that keeps what it once computed, up to a limit of bytes; oldest goes first."""

    def __init__(self, network: Reference, limit: int = 2**29) -> None:
        self.network = network
        self._limit = limit
        self._kept: OrderedDict[str, dict[str, NDArray[Any]]] = OrderedDict()

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """As the network's own; the arrays are not to be changed."""
        key = repr(sorted(digest(inputs).items()))
        if key not in self._kept:
            made = self.network.run(inputs)
            self._kept[key] = made
            while len(self._kept) > 1 and self._bytes() > self._limit:
                self._kept.popitem(last=False)
            return dict(made)
        return dict(self._kept[key])

    def _bytes(self) -> int:
        return sum(a.nbytes for made in self._kept.values() for a in made.values())


def remembered(network: Reference) -> Remembered:
    """`network` with a memory; the same object where it has one."""
    return network if isinstance(network, Remembered) else Remembered(network)
