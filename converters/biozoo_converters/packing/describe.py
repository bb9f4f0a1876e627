"""From what was measured and what the author said to the description, every id written out.

The description is written as a mapping and not as bioimageio.spec's objects: saving those drops
axis ids that equal their default, and other readers then refuse the package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from biozoo.errors import UsageError
from biozoo_runners.sizes import (
    AxisGeometry,
    FixedSize,
    ParameterizedSize,
    SizeReference,
    TensorGeometry,
)

from .pack_file import InputSpec, OutputSpec
from .processing_text import with_axes

if TYPE_CHECKING:
    from ..probing.probe import Probed
    from .samples import Sample

__all__ = [
    "FORMAT_VERSION",
    "Steps",
    "described_input",
    "described_output",
    "ordered",
    "tolerances",
]

FORMAT_VERSION = "0.5.12"

Steps = list[dict[str, Any]]

#: What the specification has a name for.
DTYPES = (
    "float32", "float64", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
)  # fmt: skip

_RGB = ["red", "green", "blue"]

#: Order of the top-level fields in the file.
_ORDER = (
    "format_version", "type", "id", "id_emoji", "icon", "name", "description", "version",
    "version_comment", "timestamp", "authors", "maintainers", "packaged_by", "license", "cite",
    "git_repo", "documentation", "covers", "tags", "links", "parent", "training_data", "run_mode",
    "inputs", "outputs", "weights", "attachments", "uploader", "config",
)  # fmt: skip


def ordered(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The description with its fields in one order, unknown ones last, empty ones left out."""
    known = {k: raw[k] for k in _ORDER if k in raw}
    rest = {k: v for k, v in raw.items() if k not in known}
    return {k: v for k, v in {**known, **rest}.items() if v not in (None, [], {})}


# ----------------------------------------------------------------------------------------- tensors


def input_channels(spec: InputSpec, sample: Sample, count: int) -> list[str]:
    """Names of an input's channels: given, else the sample's own, else numbered."""
    if spec.channels:
        return _given(spec.channels, count, f"input '{sample.id}'")
    own = list(sample.image.channel_names)
    if len(own) == count and any(not n.isdigit() for n in own):
        return own
    if count == 1 and sample.image.channel:
        return [sample.image.channel]
    if count == 3 and sample.image.rgb:
        return _RGB
    return numbered(count)


def _given(names: Sequence[str], count: int, what: str) -> list[str]:
    """The author's names of channels, where they are as many as these."""
    if len(names) != count:
        raise UsageError(
            f"The {what} has {count} channel{'' if count == 1 else 's'}, {len(names)} are named: "
            f"{', '.join(names)}. Name each once (--channels ID=A,B)."
        )
    return list(names)


def numbered(count: int, single: str = "channel0") -> list[str]:
    """Names for channels of which nothing is known."""
    return [single] if count == 1 else [f"channel{i}" for i in range(count)]


def described_input(
    tensor: TensorGeometry,
    spec: InputSpec,
    sample: Sample,
    steps: Steps,
    *,
    tiles: bool,
    before: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """An input of the description, without its test tensor.

    Parameters
    ----------
    tensor
        Its measured axes.
    steps
        Preprocessing, checked; axes are filled in here.
    tiles
        Whether the network may see an image piece by piece (its receptive field is limited).
    before
        The inputs described so far: an axis that follows one of theirs has its pixel size, because
        the specification computes the axis' size from both.
    """
    sizes = {**sample.image.pixel_size, **spec.pixel_size}
    units = {a: spec.unit for a in spec.pixel_size if spec.unit} or dict(sample.image.unit)
    axes = []
    for axis in tensor.axes:
        made: dict[str, Any] = {"id": axis.id, "type": axis.kind}
        if axis.kind == "batch":
            pass
        elif axis.kind == "channel":
            count = _fixed(axis)
            made["channel_names"] = input_channels(spec, sample, count)
        else:
            made["size"] = _size(axis)
            if reference := _referenced(axis, before):
                made |= _spacing(axis, reference)
            elif axis.kind in ("space", "time") and axis.id in sizes:
                made["scale"] = float(sizes[axis.id])
                if units.get(axis.id):
                    made["unit"] = units[axis.id]
            if tiles and axis.kind == "space" and not isinstance(axis.size, FixedSize):
                made["concatenable"] = True
        axes.append(made)
    data = dict(spec.data or {})
    dtype = str(data.setdefault("type", "float32"))
    made = {
        "id": tensor.id,
        "description": spec.description,
        "axes": axes,
        "data": data,
        "preprocessing": framed(steps, tensor.dims, dtype),
    }
    if spec.pad:
        made["pad"] = {"mode": spec.pad}
    return {k: v for k, v in made.items() if v != ""}


def described_output(
    tensor: TensorGeometry,
    spec: OutputSpec,
    inputs: Sequence[Mapping[str, Any]],
    probed: Probed,
    steps: Steps,
) -> dict[str, Any]:
    """An output of the description, without its test tensor.

    Parameters
    ----------
    tensor
        Its measured axes.
    inputs
        The described inputs: an output has their pixel size.
    probed
        Its type and range.
    steps
        Postprocessing, checked.
    """
    axes = []
    for axis in tensor.axes:
        made: dict[str, Any] = {"id": axis.id, "type": axis.kind}
        if axis.kind == "batch":
            pass
        elif axis.kind == "channel":
            count, what = _fixed(axis), f"output '{tensor.id}'"
            given = _given(spec.channels, count, what) if spec.channels else []
            made["channel_names"] = given or numbered(count, tensor.id)
        else:
            made["size"] = _size(axis)
            made |= _spacing(axis, _referenced(axis, inputs))
            if axis.halo:
                made["halo"] = axis.halo
        axes.append(made)
    data, steps = described_values(tensor, spec, probed, steps)
    made = {
        "id": tensor.id,
        "description": spec.description,
        "axes": axes,
        "data": data,
        "postprocessing": [with_axes(s, tensor.dims) for s in steps],
    }
    return {k: v for k, v in made.items() if v not in ("", [])}


def described_values(
    tensor: TensorGeometry, spec: OutputSpec, probed: Probed, steps: Steps
) -> tuple[Any, Steps]:
    """The specification's `data` of an output, and its steps with the cast that they need."""
    if spec.data is not None:
        return spec.data, steps
    last = steps[-1]["id"] if steps else ""
    steps = list(steps)
    if last == "binarize":  # as numbers: not every reader has booleans
        steps.append({"id": "ensure_dtype", "kwargs": {"dtype": "uint8"}})
        return {"type": "uint8", "values": [0, 1]}, steps
    if last == "ensure_dtype":
        return {"type": str(steps[-1]["kwargs"]["dtype"])}, steps
    if last in ("stardist_postprocessing", "cellpose_flow_dynamics"):
        dtype = str(steps[-1]["kwargs"].get("output_dtype", "int32"))
        steps.append({"id": "ensure_dtype", "kwargs": {"dtype": dtype}})
        return {"type": dtype}, steps
    if steps:
        steps.append({"id": "ensure_dtype", "kwargs": {"dtype": "float32"}})
        unit = last in ("sigmoid", "softmax")
        return {"type": "float32", **({"range": [0.0, 1.0]} if unit else {})}, steps
    dtype = probed.dtypes.get(tensor.id, "float32")
    if dtype == "bool":
        steps.append({"id": "ensure_dtype", "kwargs": {"dtype": "uint8"}})
        return {"type": "uint8", "values": [0, 1]}, steps
    if dtype not in DTYPES:
        dtype = "float32"
    data: dict[str, Any] = {"type": dtype}
    if dtype.startswith("float") and tensor.id in probed.proven:  # what was seen promises nothing
        data["range"] = [float(v) for v in probed.ranges[tensor.id]]
    return data, steps


def framed(steps: Steps, axes: Sequence[str], dtype: str) -> Steps:
    """Preprocessing between two casts, as the specification has it: written out, they are no
    surprise. The first is to real numbers, so that an image of any type keeps its values.
    """
    cast = {"id": "ensure_dtype", "kwargs": {"dtype": dtype}}
    made = [with_axes(s, axes) for s in steps]
    if not made or made[0]["id"] != "ensure_dtype":
        first = dtype if dtype.startswith("float") or not made else "float32"
        made.insert(0, {"id": "ensure_dtype", "kwargs": {"dtype": first}})
    if made[-1]["id"] not in ("ensure_dtype", "binarize"):
        made.append(cast)
    return made


def _fixed(axis: AxisGeometry) -> int:
    if axis.channels:
        return len(axis.channels)
    assert isinstance(axis.size, FixedSize)
    return axis.size.size


def _size(axis: AxisGeometry) -> Any:
    """A size rule as the specification writes it."""
    match axis.size:
        case FixedSize(size):
            return size
        case ParameterizedSize(least, step):
            return {"min": least, "step": step}
        case SizeReference(tensor, other, offset):
            made: dict[str, Any] = {"tensor_id": tensor, "axis_id": other}
            return {**made, "offset": offset} if offset else made
        case _:
            return {}  # data-dependent: an index axis of an output


def _spacing(axis: AxisGeometry, reference: Mapping[str, Any]) -> dict[str, Any]:
    """Pixel size and unit of an axis that follows a described one."""
    made: dict[str, Any] = {}
    scale = axis.scale * float(reference.get("scale", 1.0))
    if axis.kind in ("space", "time") and scale != 1:
        made["scale"] = scale
    if reference.get("unit"):
        made["unit"] = reference["unit"]
    return made


def _referenced(axis: AxisGeometry, inputs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The described input axis that an axis refers to, {} where there is none."""
    if not isinstance(axis.size, SizeReference):
        return {}
    for tensor in inputs:
        if tensor["id"] == axis.size.tensor:
            for other in tensor["axes"]:
                if other["id"] == axis.size.axis:
                    return dict(other)
    return {}


# ---------------------------------------------------------------------------------------- tolerance


def tolerances(
    largest: Mapping[str, float], *, relative: float, absolute: float | None, per_million: int
) -> list[dict[str, Any]]:
    """`config.bioimageio.reproducibility_tolerance`, one entry per output where they differ.

    The specification wants the absolute tolerance of an output to be at most 1 % of its largest
    test value; where that is not positive there can be none.

    Parameters
    ----------
    largest
        Per output tensor id, the largest value of its test tensor.
    absolute
        The author's; None takes 1e-3, or less where the values are small.
    """
    entries = []
    for output, value in largest.items():
        if absolute is not None:
            allowed = absolute
        elif value > 0:
            allowed = min(1e-3, float(f"{value * 0.005:.0e}"))
        else:
            allowed = 0.0
        entry: dict[str, Any] = {
            "relative_tolerance": relative if allowed else max(relative, 1e-2),
            "absolute_tolerance": allowed,
            "mismatched_elements_per_million": per_million if allowed else max(per_million, 1000),
        }
        entries.append((output, entry))
    if all(e == entries[0][1] for _, e in entries):
        return [entries[0][1]]
    return [{**e, "output_ids": [o]} for o, e in entries]
