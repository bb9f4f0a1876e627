"""What a model says about the sizes of its tensors, as plain frozen values.

`geometry` reads a description once; everything that plans tiles works on these values and needs
neither bioimageio.spec nor an image. The size rules carry the names they have in the
specification:

    FixedSize           exactly `size`
    ParameterizedSize   min + n * step, n = 0, 1, 2, ...
    SizeReference       floor(size of the referenced axis * its scale / own scale) + offset
                        (rounded up below StarDist's labels)
    DataDependentSize   known only after the model ran
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor
from typing import TYPE_CHECKING, Literal

from biozoo.errors import ImageMismatchError, InvalidPackageError

if TYPE_CHECKING:
    from bioimageio.spec.model.v0_5 import ModelDescr

Kind = Literal["batch", "channel", "index", "time", "space"]
PadMode = Literal["constant", "edge", "reflect", "symmetric"]
Root = tuple[str, str]
"""An input axis whose size follows no other: (tensor id, axis id)."""


@dataclass(frozen=True, slots=True)
class FixedSize:
    """Exactly `size`."""

    size: int

    def allows(self, size: int) -> bool:
        """Whether an axis may have this size."""
        return size == self.size

    def __str__(self) -> str:
        return f"exactly {self.size}"


@dataclass(frozen=True, slots=True)
class ParameterizedSize:
    """Any of min, min + step, min + 2 * step, ..."""

    min: int
    step: int

    def allows(self, size: int) -> bool:
        """Whether an axis may have this size."""
        return size >= self.min and (size - self.min) % self.step == 0

    def __str__(self) -> str:
        return f"{self.min} + n*{self.step}"


@dataclass(frozen=True, slots=True)
class SizeReference:
    """floor(referenced size * referenced scale / own scale) + offset; ceil where `up`."""

    tensor: str
    axis: str
    offset: int = 0
    up: bool = False

    def __str__(self) -> str:
        offset = f" {self.offset:+}" if self.offset else ""
        return f"the size of '{self.axis}' of '{self.tensor}'{offset}"


@dataclass(frozen=True, slots=True)
class DataDependentSize:
    """Known only after the model ran."""

    def __str__(self) -> str:
        return "a size that depends on the data"


Size = FixedSize | ParameterizedSize | SizeReference | DataDependentSize


@dataclass(frozen=True, slots=True)
class Padding:
    """How pixels beyond the edge of an image are made up (names as in numpy.pad)."""

    mode: PadMode = "symmetric"
    value: float = 0.0

    def __str__(self) -> str:
        return f"constant {self.value:g}" if self.mode == "constant" else self.mode


#: What the reference runner does where a description says nothing.
SYMMETRIC = Padding()


@dataclass(frozen=True, slots=True)
class AxisGeometry:
    """One axis of a tensor. `halo` counts pixels to crop on each side of an output.

    `stride` is what was measured of the network along an input (see `contexts`); None: nothing was.
    """

    id: str
    kind: Kind
    size: Size
    scale: float = 1.0
    unit: str | None = None
    halo: int = 0
    concatenable: bool = False
    channels: tuple[str, ...] = ()
    stride: int | None = None

    @property
    def tile_step(self) -> int:
        """Pixels of an input by multiples of which tiles may be moved, and give the same.

        The measured strides of the network, else the step of its sizes: a network that pools by 16
        takes sizes in steps of 16. A fixed size tells nothing, so it counts as 1.
        """
        if self.stride is not None:
            return self.stride
        return self.size.step if isinstance(self.size, ParameterizedSize) else 1

    @property
    def can_tile(self) -> bool:
        """Whether this kind of axis may be cut; an index axis only where the model says so."""
        return self.kind in ("space", "time") or (self.kind == "index" and self.concatenable)


@dataclass(frozen=True, slots=True)
class TensorGeometry:
    """The axes of one input or output, slowest first."""

    id: str
    axes: tuple[AxisGeometry, ...]
    pad: Padding = SYMMETRIC
    optional: bool = False

    @property
    def dims(self) -> tuple[str, ...]:
        """Axis ids, slowest first."""
        return tuple(a.id for a in self.axes)

    def axis(self, axis: str) -> AxisGeometry:
        """The axis of this id.

        Raises
        ------
        KeyError
            If the tensor has no such axis.
        """
        for a in self.axes:
            if a.id == axis:
                return a
        raise KeyError(axis)


@dataclass(frozen=True, slots=True)
class ModelGeometry:
    """All tensors of a model: inputs, and outputs as the network makes them.

    `results` are those outputs whose axes postprocessing changes, as they leave it.
    """

    inputs: tuple[TensorGeometry, ...]
    outputs: tuple[TensorGeometry, ...]
    results: tuple[TensorGeometry, ...] = ()

    @property
    def final(self) -> ModelGeometry:
        """The same with the outputs as postprocessing leaves them."""
        changed = {t.id: t for t in self.results}
        return ModelGeometry(self.inputs, tuple(changed.get(t.id, t) for t in self.outputs))

    def tensor(self, tensor: str) -> TensorGeometry:
        """The input or output of this id.

        Raises
        ------
        KeyError
            If the model has no such tensor.
        """
        for t in (*self.inputs, *self.outputs):
            if t.id == tensor:
                return t
        raise KeyError(tensor)

    def referenced(self, tensor: str, axis: str) -> tuple[Root, Fraction]:
        """The axis that a size follows in the end, and pixels here per pixel there.

        An axis of any other rule than `SizeReference` is its own root with ratio 1.

        Raises
        ------
        InvalidPackageError
            If the reference leads nowhere, or in a circle.
        """
        ratio, seen = Fraction(1), [(tensor, axis)]
        while True:
            here = self._axis(*seen[-1])
            if not isinstance(here.size, SizeReference):
                return seen[-1], ratio
            step = (here.size.tensor, here.size.axis)
            if step in seen:
                raise InvalidPackageError(
                    source=f"axis '{axis}' of '{tensor}'", why="its size refers to itself."
                )
            ratio *= scale_ratio(self._axis(*step).scale, here.scale)
            seen.append(step)

    def size(self, tensor: str, axis: str, roots: Mapping[Root, int]) -> int | None:
        """Size of an axis, given the sizes of the axes that follow no other.

        None where it depends on the data. A batch axis counts 1 unless `roots` has it.
        """
        here = self._axis(tensor, axis)
        match here.size:
            case SizeReference(ref_tensor, ref_axis, offset, up):
                known = self.size(ref_tensor, ref_axis, roots)
                ratio = scale_ratio(self._axis(ref_tensor, ref_axis).scale, here.scale)
                whole = ceil if up else floor
                return None if known is None else whole(known * ratio) + offset
            case DataDependentSize():
                return None
            case FixedSize(size):
                return roots.get((tensor, axis), size)
            case ParameterizedSize():
                if (tensor, axis) not in roots:
                    raise ImageMismatchError(
                        f"The size of axis '{axis}' of input '{tensor}' is needed and was not "
                        f"given. Give this input too."
                    )
                return roots[tensor, axis]

    def _axis(self, tensor: str, axis: str) -> AxisGeometry:
        try:
            return self.tensor(tensor).axis(axis)
        except KeyError as exc:
            raise InvalidPackageError(
                source=f"axis '{axis}' of '{tensor}'", why="a size refers to it, it does not exist."
            ) from exc


def scale_ratio(reference: float, own: float) -> Fraction:
    """`reference` / `own` as a ratio of small integers, so that positions stay exact."""
    return Fraction(reference / own).limit_denominator(1000)


def geometry(descr: ModelDescr) -> ModelGeometry:
    """The geometry of a model, from its description (format 0.5).

    Outputs are as the network makes them, also where the description gives the axes of what
    postprocessing makes of them (see `network_outputs`).

    Many fixed-size models give their outputs as plain numbers too. An output axis of fixed size
    counts as a reference to the input axis of the same id where exactly one input has it and both
    are of one kind and one extent (size * scale). Where no scale is declared for the output, and
    it has a whole number of pixels per pixel of the input along every axis, it is the same field
    enlarged (super-resolution; a smaller output might be a part of it instead). Otherwise it is
    unrelated to the input, and such a model runs in one tile.
    """
    from bioimageio.spec.model import v0_5

    from .network_outputs import network_outputs

    def axis(a: object) -> AxisGeometry:
        size: Size
        if isinstance(a, v0_5.BatchAxis):
            return AxisGeometry("batch", "batch", FixedSize(1))
        if isinstance(a, v0_5.ChannelAxis):
            names = tuple(str(n) for n in a.channel_names)
            return AxisGeometry(str(a.id), "channel", FixedSize(len(names)), channels=names)
        assert isinstance(a, v0_5.ANY_AXIS_TYPES)
        match a.size:
            case int():
                size = FixedSize(a.size)
            case v0_5.ParameterizedSize():
                size = ParameterizedSize(a.size.min, a.size.step)
            case v0_5.SizeReference():
                size = SizeReference(str(a.size.tensor_id), str(a.size.axis_id), a.size.offset)
            case _:
                size = DataDependentSize()
        return AxisGeometry(
            str(a.id),
            a.type,
            size,
            scale=float(a.scale),
            unit=None if a.unit is None else str(a.unit),
            halo=a.halo if isinstance(a, v0_5.WithHalo) else 0,
            concatenable=bool(getattr(a, "concatenable", False)),
        )

    def padding(t: v0_5.InputTensorDescr) -> Padding:
        if t.pad is None:
            return SYMMETRIC
        value = t.pad.value if isinstance(t.pad, v0_5.ConstantPadding) else 0.0
        return Padding(t.pad.mode, float(value))

    inputs = tuple(
        TensorGeometry(str(t.id), tuple(map(axis, t.axes)), padding(t), bool(t.optional))
        for t in descr.inputs
    )
    outputs = tuple(TensorGeometry(str(t.id), tuple(map(axis, t.axes))) for t in descr.outputs)
    described = ModelGeometry(inputs, tuple(_relate_fixed(t, inputs) for t in outputs))
    return network_outputs(descr, described)


def _relate_fixed(output: TensorGeometry, inputs: tuple[TensorGeometry, ...]) -> TensorGeometry:
    """The output with fixed axes that plainly mirror an input axis made references to it."""
    mirrored: dict[str, AxisGeometry] = {}
    enlarged: dict[str, AxisGeometry | None] = {}
    for a in output.axes:
        found = [(t, b) for t in inputs for b in t.axes if (b.id, b.kind) == (a.id, a.kind)]
        if a.kind in ("batch", "channel") or not isinstance(a.size, FixedSize) or len(found) != 1:
            continue
        t, b = found[0]
        if not isinstance(b.size, FixedSize):
            continue
        if b.size.size * scale_ratio(b.scale, a.scale) == a.size.size:
            mirrored[a.id] = replace(a, size=SizeReference(t.id, b.id))
        times, rest = divmod(a.size.size, b.size.size)
        undeclared = a.scale == 1 and a.unit is None
        fits = times >= 1 and not rest and undeclared and a.kind == "space"
        scale = b.scale / max(times, 1)
        enlarged[a.id] = replace(a, size=SizeReference(t.id, b.id), scale=scale) if fits else None
    if len(mirrored) < len(enlarged) and all(enlarged.values()):
        mirrored = {i: a for i, a in enlarged.items() if a is not None}
    return replace(output, axes=tuple(mirrored.get(a.id, a) for a in output.axes))
