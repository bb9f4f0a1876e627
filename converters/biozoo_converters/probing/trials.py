"""Running a network at many sizes: inputs grown from the sample, refusals kept, answers counted.

Input axes that have to change together (one axis id in several inputs) form a `Group`, which is
what has a size here. Everything is decided by shapes and pixels, never by a clock, so that probing
twice gives the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.axes import SPACE
from biozoo.errors import AxesError, NetworkError
from biozoo_runners.sizes import Kind

from ..networks.network import Network
from ..proof.growing import mirrored

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["Group", "Member", "Sample", "Shapes", "Trials", "groups_of", "kind_of", "samples_of"]

Shapes = tuple[tuple[int, ...], ...]
Progress = Callable[[str, int, int | None], None]


def kind_of(axis: str) -> Kind:
    """The kind of axis that bioimageio.spec gives to an axis id; unknown ids are an index."""
    match axis:
        case "batch" | "channel" | "time":
            return axis
        case _:
            return "space" if axis in SPACE else "index"


@dataclass(frozen=True)
class Sample:
    """One network-ready input: an array and the ids of its axes."""

    id: str
    array: NDArray[Any]
    dims: tuple[str, ...]

    def number(self, axis: str) -> int | None:
        """Position of an axis, None where there is none."""
        return self.dims.index(axis) if axis in self.dims else None


@dataclass(frozen=True)
class Member:
    """One input axis of a group: ``floor(size of the group * ratio) + offset`` pixels."""

    tensor: str
    axis: str
    ratio: Fraction = Fraction(1)
    offset: int = 0

    def size(self, lead: int) -> int:
        """Its pixels where the group's leading axis has `lead`."""
        return floor(lead * self.ratio) + self.offset


@dataclass(frozen=True)
class Group:
    """Input axes whose sizes go together; `sample` is what the leading one has in the sample."""

    id: str
    axis: str
    kind: Kind
    members: tuple[Member, ...]
    sample: int

    @property
    def lead(self) -> Member:
        """The axis that the others refer to."""
        return self.members[0]


def samples_of(inputs: Mapping[str, xr.DataArray]) -> tuple[Sample, ...]:
    """The inputs as plain arrays; one sample of the batch each.

    Raises
    ------
    AxesError
        An axis without pixels, or more than one image in the batch of one input only.
    """
    made = []
    for tensor, given in inputs.items():
        array, dims = np.asarray(given.data), tuple(map(str, given.dims))
        if empty := [d for d, n in zip(dims, array.shape, strict=True) if n < 1]:
            raise AxesError(f"Input '{tensor}': axis '{empty[0]}' of the sample has no pixels.")
        if "batch" in dims:
            array = array.take([0], axis=dims.index("batch"))
        made.append(Sample(tensor, array, dims))
    return tuple(made)


def groups_of(samples: Sequence[Sample]) -> tuple[Group, ...]:
    """Space and time axes by id; the first input that has one leads."""
    found: dict[str, list[tuple[str, int]]] = {}
    for s in samples:
        for axis, size in zip(s.dims, s.array.shape, strict=True):
            if kind_of(axis) in ("space", "time"):
                found.setdefault(axis, []).append((s.id, size))
    groups = []
    for axis, places in found.items():
        (tensor, lead), *rest = places
        members = [Member(tensor, axis), *(_member(t, axis, n, lead) for t, n in rest)]
        groups.append(Group(axis, axis, kind_of(axis), tuple(members), lead))
    return tuple(groups)


def _member(tensor: str, axis: str, size: int, lead: int) -> Member:
    """How a follower's size comes from the leading one: a simple ratio, else a difference."""
    ratio = Fraction(size, lead)
    if min(ratio.numerator, ratio.denominator) == 1 and max(ratio.as_integer_ratio()) <= 64:
        return Member(tensor, axis, ratio)
    return Member(tensor, axis, Fraction(1), size - lead)


@dataclass
class Trials:
    """A network, its samples, and what it answered so far."""

    network: Network
    samples: tuple[Sample, ...]
    progress: Progress | None = None
    doing: str = "sizes"
    runs: int = 0
    real: list[tuple[float, float]] = field(default_factory=list)
    """Smallest and largest value of each output, over the runs on the sample itself."""
    refusals: dict[Shapes, str] = field(default_factory=dict)
    _known: dict[Shapes, Shapes | None] = field(default_factory=dict)

    def lengths(self, groups: Sequence[Group], sizes: Mapping[str, int]) -> Shapes:
        """The shape of every input where the groups have these sizes."""
        shapes = {s.id: list(s.array.shape) for s in self.samples}
        numbers = {s.id: s for s in self.samples}
        for g in groups:
            for m in g.members:
                number = numbers[m.tensor].number(m.axis)
                assert number is not None
                shapes[m.tensor][number] = m.size(sizes[g.id])
        return tuple(tuple(shapes[s.id]) for s in self.samples)

    def grown(self, shapes: Shapes) -> list[NDArray[Any]]:
        """The samples at these shapes."""
        return [_grown(s.array, shape) for s, shape in zip(self.samples, shapes, strict=True)]

    def run(self, arrays: Sequence[NDArray[Any]], *, real: bool = False) -> list[NDArray[Any]]:
        """Call the network once.

        Raises
        ------
        NetworkError
            It refuses.
        """
        self.runs += 1
        if self.progress is not None:
            self.progress(self.doing, self.runs, None)
        made = [np.asarray(o) for o in self.network.run(arrays)]
        if real:
            self._widen(made)
        return made

    def shapes(self, groups: Sequence[Group], sizes: Mapping[str, int]) -> Shapes | None:
        """The shapes of the outputs at these sizes, None where the network refuses them."""
        wanted = self.lengths(groups, sizes)
        if wanted not in self._known:
            self._known[wanted] = self._try(wanted)
        return self._known[wanted]

    def _try(self, wanted: Shapes) -> Shapes | None:
        if any(n < 1 for shape in wanted for n in shape):
            return None
        try:
            made = self.run(self.grown(wanted), real=True)
        except NetworkError as exc:
            self.refusals[wanted] = exc.message
            return None
        shapes = tuple(o.shape for o in made)
        if any(n < 1 for shape in shapes for n in shape):
            self.refusals[wanted] = (
                f"{self.network.name} gives an output without values. If its size depends on the "
                "data, as a mask or nonzero makes it, return the map that it is made from."
            )
            return None
        return shapes

    def numbers(self) -> list[int]:
        """Sizes that the refusals speak of: 'expected 224, got 64' names the one that works."""
        words = (w for text in self.refusals.values() for w in re.findall(r"\d+", text))
        return list(dict.fromkeys(n for n in map(int, words) if 32 <= n <= 2048))

    def declared(self) -> list[tuple[int, ...]]:
        """Shapes that the refusals speak of: 'the graph declares (1, 1, 300, 200)'."""
        found = (w for text in self.refusals.values() for w in re.findall(r"[(\[]([\d, ]+)", text))
        return list(dict.fromkeys(tuple(map(int, re.findall(r"\d+", w))) for w in found))

    def _widen(self, made: Sequence[NDArray[Any]]) -> None:
        for i, o in enumerate(made):
            finite = o[np.isfinite(o)] if o.dtype.kind == "f" else o
            if not finite.size or o.dtype.kind not in "biuf":
                finite = np.zeros(1)
            low, high = float(finite.min()), float(finite.max())
            if i == len(self.real):
                self.real.append((low, high))
            else:
                self.real[i] = (min(low, self.real[i][0]), max(high, self.real[i][1]))


def _grown(array: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    for axis, size in enumerate(shape):
        if size != array.shape[axis]:
            array = array.take(mirrored(size, array.shape[axis]), axis=axis)
    return np.ascontiguousarray(array)
