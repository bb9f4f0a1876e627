"""Find out by running a network what its description has to say: sizes, axes, types, context.

Nothing of the network's code is read, but for the last operation of an output (`ranges`). The same
network and sample give the same result: sizes and draws are fixed, and no clock decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import UsageError
from biozoo_runners.sizes import (
    AxisGeometry,
    FixedSize,
    ModelGeometry,
    SizeReference,
    TensorGeometry,
)

from ..networks.network import Network
from .behaviour import batches, check_steady
from .halos import Halos, choose_halos
from .output_axes import OutputAxis, name_outputs, names_of
from .ranges import bounds
from .scenes import Lab
from .size_rules import Found, find_rules
from .trials import Group, Trials, groups_of, kind_of, samples_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Probed", "probe"]


@dataclass(frozen=True)
class Probed:
    """What a network was found to take and give.

    Attributes
    ----------
    geometry
        Axes, sizes, scales and halos of all inputs and outputs. Scales are relative to the first
        input that has the axis, which counts 1; halos are in output pixels.
    dtypes
        Per output, its numpy dtype.
    ranges
        Per output, its smallest and largest value: what it cannot leave where `proven` names it,
        else what was seen on the sample at several sizes.
    proven
        Outputs whose range follows from their last operation (a sigmoid, a clamp).
    receptive_field
        Per space or time axis of an output, "tensor.axis": input pixels to one side that change it
        by more than the tolerance; None: all, however far.
    batch
        Whether it takes more than one image at a time and computes each by itself.
    notes
        Sentences for the author.
    sizes
        Per input, a shape by axis id that it was run at, small.
    """

    geometry: ModelGeometry
    dtypes: Mapping[str, str]
    ranges: Mapping[str, tuple[float, float]]
    receptive_field: Mapping[str, int | None]
    batch: bool
    notes: tuple[str, ...]
    proven: frozenset[str] = frozenset()
    sizes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def probe(
    network: Network,
    inputs: Mapping[str, xr.DataArray],
    *,
    output_ids: Sequence[str] | None = None,
    output_axes: Mapping[str, str | Sequence[str]] | None = None,
    fixed: Collection[str] = (),
    halo: int | Mapping[str, int] | None = None,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> Probed:
    """Run a network at many sizes and say what it takes and gives.

    Parameters
    ----------
    network
        What to run.
    inputs
        Per input tensor id, in the network's order, a preprocessed sample with axis ids as dims
        (batch and channel included). Any size: it is cropped and mirrored to what is needed.
    output_ids
        Of the outputs, in order; default the network's own names.
    output_axes
        Axes of outputs by id, ``"bcyx"`` say, where they cannot be found out.
    fixed
        Axes that are to keep the sample's size, ``"z"`` or ``"raw.z"``.
    halo
        Instead of the measured one, in output pixels: for all axes, or by axis id.
    progress
        Called with what is being done, the number of runs so far, and None.

    Raises
    ------
    NetworkError
        The network cannot be run on the sample, gives another result each time, an output whose
        size depends on the data, or one that the specification cannot express.
    UsageError
        `fixed`, `halo` or `output_axes` name what does not exist.
    """
    samples = samples_of(inputs)
    groups = groups_of(samples)
    keep = _checked(fixed, groups)
    trials = Trials(network, samples, progress)
    found = find_rules(trials, groups, keep)
    check_steady(trials, found, output_ids)
    batch = batches(trials, found)
    here = trials.shapes(found.groups, found.base)
    assert here is not None
    ids = names_of(len(here), output_ids or _own_names(network, samples, len(here)), network.name)
    told = dict(output_axes or {})
    if unknown := [o for o in told if o not in ids]:
        raise UsageError(
            f"Axes were given for output '{unknown[0]}'; {network.name} has {', '.join(ids)}."
        )
    notes = [*found.notes, *batch.notes]
    outputs, mixed = name_outputs(trials, found, ids, told, batch.axes)
    if mixed:
        notes.append(
            f"An output's axis depends on several of {', '.join(mixed)} at once, which a "
            "description cannot say: these sizes are fixed."
        )
        keep |= {g.id: _nearest(found, g) for g in found.groups if g.id in mixed}
        found = find_rules(trials, groups, keep)
        outputs, mixed = name_outputs(trials, found, ids, told, batch.axes)
    lab = Lab(trials, found.groups, outputs)
    trials.doing = "context"
    halos = choose_halos(lab, found, ids, halo)
    found = halos.found
    arrays = trials.grown(trials.lengths(found.groups, found.base))
    made = trials.run(arrays, real=True)
    known = bounds(network, arrays, made)
    return Probed(
        geometry=_geometry(trials, found, ids, outputs, halos),
        dtypes={o: a.dtype.name for o, a in zip(ids, made, strict=False)},
        ranges={o: _range(r, seen) for o, r, seen in zip(ids, known, trials.real, strict=False)},
        receptive_field=halos.field,
        batch=batch.free,
        notes=(*notes, *halos.notes),
        proven=frozenset(
            o for o, r in zip(ids, known, strict=False) if r is not None and np.isfinite(r).all()
        ),
        sizes={
            s.id: dict(zip(s.dims, shape, strict=True))
            for s, shape in zip(samples, trials.lengths(found.groups, found.base), strict=True)
        },
    )


def _range(known: tuple[float, float] | None, seen: tuple[float, float]) -> tuple[float, float]:
    """What cannot be left; what was seen where there is no such limit."""
    low, high = known or (-np.inf, np.inf)
    return (low if np.isfinite(low) else seen[0], high if np.isfinite(high) else seen[1])


def _nearest(found: Found, g: Group) -> int:
    """The largest allowed size that the sample has; else the smallest."""
    rule = found.rules[g.id]
    if isinstance(rule, FixedSize):
        return rule.size
    return rule.min + max(0, (g.sample - rule.min) // rule.step) * rule.step


def _checked(fixed: Collection[str], groups: Sequence[Group]) -> dict[str, int]:
    """Sizes of the groups that `fixed` names, as in the sample."""
    keep: dict[str, int] = {}
    for name in fixed:
        hit = [
            g
            for g in groups
            if name == g.axis or any(f"{m.tensor}.{m.axis}" == name for m in g.members)
        ]
        if not hit and kind_of(name.rpartition(".")[2]) in ("space", "time"):
            have = ", ".join(g.id for g in groups) or "none"
            raise UsageError(
                f"No input has an axis '{name}' to fix. Those of variable size: {have}."
            )
        keep |= {g.id: g.sample for g in hit}
    return keep


def _own_names(network: Network, samples: Sequence[Any], count: int) -> list[str] | None:
    """What the network calls its outputs, where these may be tensor ids."""
    names = list(network.output_names)[:count]
    taken = {s.id for s in samples}
    fit = all(re.fullmatch(r"[a-z][a-z0-9_]{0,31}", n) and n not in taken for n in names)
    return names if fit and len(names) == count and len(set(names)) == count else None


# ---------------------------------------------------------------------------------------- geometry


def _geometry(
    trials: Trials,
    found: Found,
    ids: Sequence[str],
    outputs: Sequence[Sequence[OutputAxis]],
    halos: Halos,
) -> ModelGeometry:
    shapes = trials.lengths(found.groups, found.base)
    inputs = []
    for s, shape in zip(trials.samples, shapes, strict=True):
        axes = [
            _input_axis(s.id, axis, size, found) for axis, size in zip(s.dims, shape, strict=True)
        ]
        inputs.append(TensorGeometry(s.id, tuple(axes)))
    made = []
    for o, axes_of in zip(ids, outputs, strict=True):
        made.append(TensorGeometry(o, tuple(_output_axis(o, a, found, halos) for a in axes_of)))
    return ModelGeometry(tuple(inputs), tuple(made))


def _input_axis(tensor: str, axis: str, size: int, found: Found) -> AxisGeometry:
    kind = kind_of(axis)
    names = tuple(f"channel{i}" for i in range(size)) if kind == "channel" else ()
    here = AxisGeometry(axis, kind, FixedSize(1 if kind == "batch" else size), channels=names)
    for g in found.groups:
        for m in g.members:
            if (m.tensor, m.axis) != (tensor, axis):
                continue
            rule = found.rules[g.id]
            if m == g.lead:
                return replace(here, size=rule)
            scale = float(1 / m.ratio)
            if isinstance(rule, FixedSize):
                return replace(here, size=FixedSize(size), scale=scale)
            return replace(
                here, size=SizeReference(g.lead.tensor, g.lead.axis, m.offset), scale=scale
            )
    return here


def _output_axis(output: str, a: OutputAxis, found: Found, halos: Halos) -> AxisGeometry:
    kind = kind_of(a.id)
    if not a.group:
        names = tuple(f"channel{i}" for i in range(a.size)) if kind == "channel" else ()
        return AxisGeometry(a.id, kind, FixedSize(1 if kind == "batch" else a.size), channels=names)
    g = next(g for g in found.groups if g.id == a.group)
    return AxisGeometry(
        a.id,
        kind,
        SizeReference(g.lead.tensor, g.lead.axis, a.offset),
        scale=float(1 / a.ratio),
        halo=halos.of(output, a),
    )
