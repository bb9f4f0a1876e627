"""The context that a package's network needs, measured as for packing, at sizes as described."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor
from typing import TYPE_CHECKING

from biozoo.errors import NetworkError
from biozoo_runners.contexts import KnownContext
from biozoo_runners.sizes import FixedSize, ModelGeometry, ParameterizedSize, scale_ratio

from ..probing.halos import choose_halos
from ..probing.output_axes import OutputAxis
from ..probing.scenes import Lab
from ..probing.size_rules import Found, Rule
from ..probing.trials import Group, Member, Sample, Trials, kind_of, samples_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import xarray as xr

    from ..networks.network import Network, Progress

__all__ = ["measure_context"]

#: Pixels of the axes that are not looked at, by number of axes; see `probing.receptive_field.THIN`.
BASE = {1: 256, 2: 64, 3: 32}


def measure_context(
    network: Network,
    model: ModelGeometry,
    inputs: Mapping[str, xr.DataArray],
    progress: Progress | None = None,
) -> KnownContext:
    """Measure how far a described network looks.

    Parameters
    ----------
    network
        What to run.
    model
        Its sizes and axes, which are believed.
    inputs
        Per input tensor id a preprocessed sample, dims = axis ids.

    Raises
    ------
    NetworkError
        The network refuses the sizes that are described, or an output's axes follow the inputs in
        a way that cannot be measured.
    """
    samples = samples_of(inputs)
    trials = Trials(network, samples, progress, doing="measuring the context")
    found = _found(model, samples)
    outputs = tuple(
        tuple(_output_axis(model, found, t.id, a.id) for a in t.axes) for t in model.outputs
    )
    halos = choose_halos(
        Lab(trials, found.groups, outputs), found, [t.id for t in model.outputs], None
    )
    local = all(c.local for c in halos.seen.values())
    return KnownContext(
        halo={g: int(h) for g, h in halos.halos.items()},
        unit={g: int(c.unit) for g, c in halos.seen.items()},
        local=local,
        error=max((float(c.error) for c in halos.seen.values()), default=0.0),
        field={k: None if v is None else int(v) for k, v in halos.field.items()},
        notes=halos.notes,
    )


def _found(model: ModelGeometry, samples: Sequence[Sample]) -> Found:
    """The groups of axes and their sizes, as described."""
    gathered: dict[str, list[Member]] = {}
    sample_size: dict[str, int] = {}
    for s in samples:
        for a in model.tensor(s.id).axes:
            if kind_of(a.id) not in ("space", "time"):
                continue
            members = gathered.setdefault(a.id, [])
            sample_size.setdefault(a.id, s.array.shape[s.dims.index(a.id)])
            ratio = Fraction(1)
            if members:
                lead = model.tensor(members[0].tensor).axis(a.id)
                ratio = scale_ratio(lead.scale, a.scale)
            members.append(Member(s.id, a.id, ratio))
    groups, rules, base = [], {}, {}
    for axis, members in gathered.items():
        rule = _rule(model, members)
        groups.append(Group(axis, axis, kind_of(axis), tuple(members), sample_size[axis]))
        rules[axis] = rule
        base[axis] = _allowed(rule, BASE.get(len(gathered), 32))
    return Found(tuple(groups), rules, base, ())


def _rule(model: ModelGeometry, members: Sequence[Member]) -> Rule:
    """The size rule of the leading axis; a fixed one of any member decides."""
    sizes = [model.tensor(m.tensor).axis(m.axis).size for m in members]
    for m, size in zip(members, sizes, strict=True):
        if isinstance(size, FixedSize):
            return FixedSize(int(size.size / m.ratio))
    if isinstance(sizes[0], ParameterizedSize):
        return sizes[0]
    raise NetworkError(
        f"The size of axis '{members[0].axis}' of input '{members[0].tensor}' follows another "
        "input's, so the context along it cannot be measured here."
    )


def _allowed(rule: Rule, least: int) -> int:
    if isinstance(rule, FixedSize):
        return rule.size
    return rule.min + max(0, ceil((least - rule.min) / rule.step)) * rule.step


def _output_axis(model: ModelGeometry, found: Found, tensor: str, axis: str) -> OutputAxis:
    """One axis of an output in terms of the group that it follows."""
    here = model.tensor(tensor).axis(axis)
    (root_tensor, root_axis), ratio = model.referenced(tensor, axis)
    sizes = {(m.tensor, m.axis): m.size(found.base[g.id]) for g in found.groups for m in g.members}
    for g in found.groups:
        for m in g.members:
            if (m.tensor, m.axis) == (root_tensor, root_axis):
                size = model.size(tensor, axis, sizes)
                assert size is not None
                per_lead = ratio * m.ratio
                offset = size - floor(found.base[g.id] * per_lead)
                return OutputAxis(axis, size, g.id, per_lead, offset)
    if isinstance(here.size, FixedSize):
        return OutputAxis(axis, here.size.size)
    raise NetworkError(
        f"Axis '{axis}' of output '{tensor}' has {here.size}: the context of its network cannot be "
        "measured."
    )
