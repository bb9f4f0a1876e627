"""From a network and its author's facts to a package: measured, described, converted with proof.

One way: wishes -> checked plan -> network -> sample in the network's axes -> measured geometry ->
description and test tensors -> weights, each proven -> certificate -> checked package -> its place.
All of it happens in a folder of its own; at `target` there is the whole package, or nothing new.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biozoo.axes import parse_axes
from biozoo.errors import ConversionError, NetworkError, UsageError
from biozoo_runners.sizes import AxisGeometry, FixedSize, ModelGeometry, ParameterizedSize

from ..networks.network import Network
from .describe import framed
from .pack_file import PREDICTION, RAW, OutputSpec
from .plan import Plan, checked
from .samples import Sample, choose_axes, crop_of, fit_axes, grown, named
from .test_tensors import preprocessed, sizes_of_test

if TYPE_CHECKING:
    import xarray as xr

    from ..probing.probe import Probed
    from .packed import PackReport

__all__ = ["Measured", "Progress", "measure", "pack"]

#: Called with (what, done, total or None).
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Measured:
    """What was found out of a network.

    Attributes
    ----------
    samples
        With ids and axes, in the network's order.
    probed
        Sizes, halo, types and ranges.
    output_ids
        In the network's order.
    notes
        What was assumed.
    """

    samples: tuple[Sample, ...]
    probed: Probed
    output_ids: tuple[str, ...]
    notes: tuple[str, ...]


def pack(
    values: Mapping[str, Any],
    target: Path | None,
    *,
    root: Path | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PackReport:
    """Make a package.

    Parameters
    ----------
    values
        The fields of a pack.yaml (`pack_file.PackFile`).
    target
        ``OUT.zip`` or a folder; None only for a dry run.
    root
        The folder that relative paths start from; None: the current one.
    dry_run
        Measure and describe, convert and write nothing.
    overwrite
        Replace what stands at `target` even where it is no package. An earlier package is
        replaced anyway, as `zoo run` replaces its results.
    progress
        Called with (what, done, total or None).

    Returns
    -------
    PackReport

    Raises
    ------
    IncompleteError
        Facts of the author are missing or wrong: all of them.
    NetworkError
        The network cannot be built, run, or described.
    ConversionError
        No conversion is proven.
    StorageError
        The package cannot be written there.
    """
    from ..networks.sources import kind_of_source
    from .existing import pack_existing

    root = (root or Path.cwd()).absolute()
    check_place(target, dry_run=dry_run, overwrite=overwrite)
    tell = progress or (lambda what, done, total: None)
    if kind_of_source(str(values.get("source") or ""), root) == "package":
        return pack_existing(values, target, root=root, dry_run=dry_run, progress=tell)
    tell("checking", 0, None)
    plan = checked(values, root, place=target is not None or dry_run)
    return _packed(plan, target, dry_run, tell)


def check_place(target: Path | None, *, dry_run: bool, overwrite: bool) -> None:
    """Ask before long work whether a package may be written there.

    Raises
    ------
    UsageError
        A file that is no package would be replaced.
    StorageError
        It cannot be written there.
    """
    from ..conversion.writing import check_target

    if target is None:
        return
    if not (overwrite or dry_run) and target.is_file() and not _is_package(target):
        raise UsageError(
            f"{target} exists and is no model package, so it is not replaced. Choose another name, "
            "or replace it with --force."
        )
    check_target(target)


def _is_package(path: Path) -> bool:
    """Whether a file is a zip with a description: what an earlier run left, to be replaced."""
    import zipfile

    from biozoo.rdf import is_rdf_name

    try:
        with zipfile.ZipFile(path) as archive:
            return any(is_rdf_name(Path(name).name) for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _packed(plan: Plan, target: Path | None, dry_run: bool, tell: Progress) -> PackReport:
    from ..networks.torch_source import open_network
    from .drafting import draft_of
    from .finishing import finish
    from .further import check_also

    file = plan.file
    tell("opening the network", 0, None)
    with open_network(
        str(file.source),
        callable_kwargs=file.kwargs,
        weights=file.weights,
        strict=file.strict,
        root=plan.root,
        outputs=file.keep_outputs or None,
    ) as network:
        check_also(plan, network)
        found = measure(plan, network, tell)
        refused: ConversionError | None = None
        for some in _narrower(found):
            with _folder() as folder:
                draft = draft_of(plan, network, some, folder, tell)
                try:
                    return finish(plan, network, some, draft, target, dry_run=dry_run, tell=tell)
                except ConversionError as exc:
                    if exc.target != "onnx":
                        raise
                    refused = refused or exc
        assert refused is not None
        raise refused


def _narrower(found: Measured) -> Iterator[Measured]:
    """What was measured, then the same with fewer sizes: for graphs that follow only to those."""
    from ..conversion.fewer_sizes import fewer_sizes

    yield found
    model = found.probed.geometry
    sizes = sizes_of_test(model, {s.id: s for s in found.samples})
    declared = [(s.id, axis) for s in found.samples for axis in s.spec.size]
    for geometry, note in fewer_sizes(model, sizes, declared):
        probed = replace(found.probed, geometry=geometry)
        yield replace(found, probed=probed, notes=(*found.notes, note))


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="biozoo-pack-") as folder:
        yield Path(folder)


# --------------------------------------------------------------------------------------- measuring


def measure(plan: Plan, network: Network, tell: Progress) -> Measured:
    """Run the network on the sample at several sizes.

    Raises
    ------
    NetworkError
        It does not take the sample, or what it does cannot be described.
    """
    from ..probing.probe import probe

    tell("running the sample", 0, None)
    taken = choose_axes(network, _in_order(plan, network))
    samples = taken.samples
    arrays: dict[str, xr.DataArray] = {}
    for sample in samples:
        sizes = crop_of(sample, taken.shapes[sample.id])
        arrays[sample.id] = grown(fit_axes(sample, sample.axes, sizes), sizes)
    before = steps_of(plan, samples)
    inputs = [_bare_input(s, arrays[s.id], before[s.id]) for s in samples]
    ids = _output_ids(plan, network, taken.outputs, {s.id for s in samples})
    specs = output_specs(plan, ids)
    probed = probe(
        network,
        preprocessed(inputs, arrays),
        output_ids=ids,
        output_axes={i: parse_axes(s.axes) for i, s in specs.items() if s.axes},
        fixed=sorted({f"{s.id}.{a}" for s in samples for a in s.fixed}),
        halo=_halo(specs),
        progress=tell,
    )
    probed = replace(probed, geometry=_as_declared(probed.geometry, samples))
    notes = [n for s in samples for n in s.notes]
    notes += [str(n) for n in getattr(network, "notes", ())]
    return Measured(tuple(samples), probed, tuple(ids), (*notes, *probed.notes))


def _as_declared(model: ModelGeometry, samples: Sequence[Sample]) -> ModelGeometry:
    """The geometry with the sizes that the author declares in place of the measured ones."""
    declared = {s.id: s.spec.size for s in samples}

    def size(tensor: str, axis: AxisGeometry) -> AxisGeometry:
        rule = declared[tensor].get(axis.id)
        if rule is None:
            return axis
        if isinstance(rule, int):
            return replace(axis, size=FixedSize(rule))
        return replace(axis, size=ParameterizedSize(rule.min, rule.step))

    inputs = [replace(t, axes=tuple(size(t.id, a) for a in t.axes)) for t in model.inputs]
    return replace(model, inputs=tuple(inputs))


def _in_order(plan: Plan, network: Network) -> list[Sample]:
    """The samples in the order in which the network takes them, with their ids."""
    samples, takes = list(plan.samples), list(network.input_names)
    given = [s.spec.id for s in samples]
    if len(samples) == 1:
        return named(samples, [given[0] or RAW])
    if all(g in takes for g in given):
        samples.sort(key=lambda s: takes.index(str(s.spec.id)))
        return named(samples, [str(s.spec.id) for s in samples])
    names = [
        g or _as_id(t, i) for i, (g, t) in enumerate(zip(given, [*takes, *given], strict=False))
    ]
    return named(samples, names)


def _as_id(name: str | None, number: int) -> str:
    """A tensor id from what the network calls an argument."""
    import keyword
    import re

    made = re.sub(r"\W+", "_", (name or "").lower()).strip("_")
    good = made.isidentifier() and not keyword.iskeyword(made)
    return made if good else f"tensor{number}"


def steps_of(plan: Plan, samples: Sequence[Sample]) -> dict[str, list[dict[str, Any]]]:
    """Preprocessing by tensor id."""
    by_spec = {id(s.spec): steps for s, steps in zip(plan.samples, plan.before, strict=True)}
    return {s.id: by_spec[id(s.spec)] for s in samples}


def output_specs(plan: Plan, ids: Sequence[str]) -> dict[str, OutputSpec]:
    """What the author says of each output."""
    given = list(plan.file.outputs)
    return {i: given[k] if k < len(given) else OutputSpec() for k, i in enumerate(ids)}


def _output_ids(plan: Plan, network: Network, count: int, inputs: Collection[str]) -> list[str]:
    """Given, else the network's own names where it has several outputs with such; not `inputs`'."""
    given = [s.id for s in plan.file.outputs]
    if len(given) > count:
        raise NetworkError(
            f"{network.name} gives {count} output{'s' if count > 1 else ''}, {len(given)} are "
            f"described ({', '.join(g or '?' for g in given)}). Describe each once, in its order."
        )
    own = list(getattr(network, "output_names", ()))
    ids = []
    for i in range(count):
        name = given[i] if i < len(given) else None
        if name is None and count > 1 and i < len(own) and not own[i].startswith("output"):
            name = _as_id(own[i], i)
        if name is None:
            name = PREDICTION if count == 1 else f"{PREDICTION}{i}"
        if name in inputs and i < len(given) and given[i]:
            raise UsageError(
                f"An input and an output are both called '{name}'. Give one another name "
                "(--output-id, --sample ID=FILE)."
            )
        ids.append(f"{name}_out" if name in inputs else name)
    return ids


def _halo(specs: Mapping[str, OutputSpec]) -> int | dict[str, int] | None:
    """The author's halo, per axis where it differs."""
    given = [s.halo for s in specs.values() if s.halo is not None]
    if not given:
        return None
    if all(isinstance(h, int) for h in given):
        return max(h for h in given if isinstance(h, int))
    made: dict[str, int] = {}
    for halo in given:
        if isinstance(halo, dict):
            for axis, size in halo.items():
                axis = parse_axes(axis)[0] if len(axis) == 1 else axis
                made[axis] = max(made.get(axis, 0), size)
    return made


def _bare_input(sample: Sample, array: xr.DataArray, steps: list[dict[str, Any]]) -> dict[str, Any]:
    """An input described as far as its processing needs."""
    axes = []
    for name, size in array.sizes.items():
        axis = str(name)
        made: dict[str, Any] = {"id": axis, "type": kind_of(axis)}
        if axis == "channel":
            made["channel_names"] = [f"channel{i}" for i in range(size)]
        elif axis != "batch":
            made["size"] = int(size)
        axes.append(made)
    dtype = str((sample.spec.data or {}).get("type", "float32"))
    return {"id": sample.id, "axes": axes, "preprocessing": framed(steps, sample.axes, dtype)}


def kind_of(axis: str) -> str:
    """The specification's type of an axis by its id."""
    return axis if axis in ("batch", "channel", "time", "index") else "space"
