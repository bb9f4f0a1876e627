"""The package in the making: description, test tensors, cover and text; all but the weights."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import NetworkError, UsageError
from biozoo_runners.sizes import FixedSize

from ..conversion.drafts import Draft
from ..networks.network import Named, Network
from .build import Measured, Progress, output_specs, steps_of
from .cover import draw_cover
from .describe import FORMAT_VERSION, described_input, described_output, ordered, tolerances
from .label_outputs import labels_of
from .plan import Plan
from .readme import readme
from .tags import tags_for
from .test_tensors import expected, sizes_of_test, test_input

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["add_sample", "draft_of", "facts_of", "file_entry", "merged"]


def draft_of(plan: Plan, network: Network, found: Measured, folder: Path, tell: Progress) -> Draft:
    """Write everything but the weights into `folder`.

    Raises
    ------
    NetworkError
        What the network gives for the sample cannot be a test output.
    """
    file, geometry = plan.file, found.probed.geometry
    samples = {s.id: s for s in found.samples}
    before, specs = steps_of(plan, found.samples), output_specs(plan, found.output_ids)
    after = {
        i: plan.after[k] if k < len(plan.after) else [] for k, i in enumerate(found.output_ids)
    }
    tiles = all(depth is not None for depth in found.probed.receptive_field.values())
    inputs: list[dict[str, Any]] = []
    for t in geometry.inputs:
        spec, steps = samples[t.id].spec, before[t.id]
        inputs.append(
            described_input(t, spec, samples[t.id], steps, tiles=tiles, before=tuple(inputs))
        )
    outputs = [
        described_output(labels_of(t, after[t.id]), specs[t.id], inputs, found.probed, after[t.id])
        for t in geometry.outputs
    ]
    if not found.probed.batch:
        for tensor in (*inputs, *outputs):
            for axis in tensor["axes"]:
                if axis["type"] == "batch":
                    axis["size"] = 1
    raw: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "type": "model",
        **plan.metadata.fields,
        "inputs": inputs,
        "outputs": outputs,
    }
    tell("making the test tensors", 0, None)
    sizes = sizes_of_test(geometry, samples)
    arrays = {i: test_input(s, sizes[i]) for i, s in samples.items()}
    for tensor in inputs:
        _saved(folder, tensor, arrays[tensor["id"]].values)
    reference = Named(network, tuple(samples), found.output_ids)
    results = expected(raw, arrays, reference)
    for tensor in outputs:
        array = results[tensor["id"]]
        _check_result(tensor["id"], array)
        _widen(tensor, array)
        _saved(folder, tensor, array)
    raw["config"] = _config(plan, network, found, results)
    instances = "instances" in raw["config"].get("biozoo", {})
    raw["tags"] = tags_for(
        raw,
        source=network.name,
        torch=network.format != "onnx",
        instances=instances,
        given=file.tags,
    )
    raw["covers"] = _covers(plan, folder, raw, {i: a.values for i, a in arrays.items()}, results)
    raw["documentation"] = _documentation(plan, folder, raw, facts_of(raw, found))
    raw["attachments"] = [_copied(path, folder) for path in file.attachments]
    return Draft(folder, ordered(raw))


def _saved(folder: Path, tensor: dict[str, Any], array: NDArray[Any]) -> None:
    """Write a test tensor, and the same as an image that people can look at."""
    name = f"test_{tensor['id']}.npy"
    np.save(folder / name, array, allow_pickle=False)
    tensor["test_tensor"] = file_entry(folder, name)
    add_sample(folder, tensor, array)


def add_sample(folder: Path, tensor: dict[str, Any], array: NDArray[Any]) -> bool:
    """Write a test tensor as a TIFF, where it is an image; whether it is one."""
    plain = array.squeeze()
    image = plain.ndim >= 2 and {a["id"] for a in tensor["axes"]} >= {"y", "x"}
    if image:
        from tifffile import imwrite

        name = f"sample_{tensor['id']}.tif"
        imwrite(
            folder / name,
            plain,
            photometric="minisblack",
            software=False,
            compression="zlib",
            # of real numbers not every reader knows one, of 8 bytes not even the writer
            predictor=plain.dtype.kind in "ui" and plain.dtype.itemsize <= 4,
        )
        tensor["sample_tensor"] = file_entry(folder, name)
    return image


def file_entry(folder: Path, name: str) -> dict[str, str]:
    """A file of the package as the description names it."""
    content = (folder / name).read_bytes()
    return {"source": name, "sha256": hashlib.sha256(content).hexdigest()}


def _check_result(name: str, array: NDArray[Any]) -> None:
    """bioimageio.spec takes no test output that is all but zero: nothing could be told from it."""
    if array.size == 0:
        raise NetworkError(f"The output '{name}' is empty for the sample.")
    if array.min() > -1e-4 and array.max() < 1e-4:
        raise NetworkError(
            f"The output '{name}' lies between {array.min():.2g} and {array.max():.2g} for the "
            "sample: all but zero, and a test output must show something. Check that the weights "
            "are the trained ones and the preprocessing is that of training, or give another "
            "sample."
        )


def _widen(tensor: dict[str, Any], array: NDArray[Any]) -> None:
    """Drop a range that the test output itself does not keep."""
    data = tensor["data"]
    if isinstance(data, dict) and isinstance(data.get("range"), list | tuple):
        low, high = data["range"]
        if (low is not None and array.min() < low) or (high is not None and array.max() > high):
            del data["range"]


# ------------------------------------------------------------------------------------------- files


def _covers(
    plan: Plan,
    folder: Path,
    raw: Mapping[str, Any],
    inputs: Mapping[str, NDArray[Any]],
    results: Mapping[str, NDArray[Any]],
) -> list[dict[str, str]]:
    if plan.file.covers:
        return [_copied(path, folder) for path in plan.file.covers]
    first, last = raw["inputs"][0], raw["outputs"][0]
    names = [c.lower() for a in first["axes"] for c in a.get("channel_names", ())]
    drawn = draw_cover(
        inputs[first["id"]],
        [a["id"] for a in first["axes"]],
        results[last["id"]],
        [a["id"] for a in last["axes"]],
        rgb=names == ["red", "green", "blue"],
    )
    (folder / "cover.png").write_bytes(drawn)
    return [file_entry(folder, "cover.png")]


def _documentation(
    plan: Plan, folder: Path, raw: Mapping[str, Any], facts: Sequence[str]
) -> dict[str, str]:
    target = folder / "README.md"
    if plan.file.documentation is not None:
        shutil.copyfile(plan.file.documentation, target)
    else:
        target.write_text(readme(raw, facts), encoding="utf-8", newline="\n")
    return file_entry(folder, target.name)


def _copied(path: Path, folder: Path) -> dict[str, str]:
    name = path.name
    if (folder / name).exists():
        raise UsageError(
            f"Two files of the package would be called '{name}'. Rename one of {path}."
        )
    shutil.copyfile(path, folder / name)
    return file_entry(folder, name)


# ------------------------------------------------------------------------------------------ config


def _config(
    plan: Plan, network: Network, found: Measured, results: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    import biozoo

    file = plan.file
    wanted = file.tolerance
    largest = {i: float(a.max()) for i, a in results.items()}
    fields: dict[str, Any] = {
        "reproducibility_tolerance": tolerances(
            largest,
            relative=wanted.relative,
            absolute=wanted.absolute,
            per_million=wanted.per_million,
        )
    }
    if network.module is not None:
        fields["model_parameter_count"] = sum(p.numel() for p in network.module.parameters())
    if file.evaluations:
        fields["evaluations"] = list(file.evaluations)
    packed = {
        "biozoo": biozoo.__version__,
        "source": network.name,
        "receptive_field": {
            axis: "everywhere" if depth is None else int(depth)
            for axis, depth in found.probed.receptive_field.items()
        },
    }
    measured = {"bioimageio": fields, "biozoo": {"packed": packed}}
    return merged(measured, file.config)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the fields of `over`, which win; mappings are merged, all else replaced."""
    made = dict(base)
    for key, value in over.items():
        old = made.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        made[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return made


# ------------------------------------------------------------------------------------------- facts


def facts_of(raw: Mapping[str, Any], found: Measured) -> list[str]:
    """What was found out, a sentence each."""
    facts = []
    fixed = all(
        isinstance(a.size, FixedSize)
        for t in found.probed.geometry.inputs
        for a in t.axes
        if a.kind in ("space", "time")
    )
    if fixed:
        facts.append("the network takes images of one size only; larger ones are cut into tiles")
    reach: dict[tuple[str, int | None], list[str]] = {}
    for place, depth in found.probed.receptive_field.items():
        tensor, _, axis = place.rpartition(".")
        reach.setdefault((tensor, depth), []).append(axis)
    for (tensor, depth), axes in reach.items():
        along = " and ".join(axes)
        if depth is None:
            facts.append(f"a value of `{tensor}` depends on all of the image along {along}")
        else:
            facts.append(
                f"a value of `{tensor}` depends on {depth} pixel{'' if depth == 1 else 's'} to "
                f"each side along {along}"
            )
    if not found.probed.batch:
        facts.append("images go through the network one by one (batch size 1)")
    for tensor in raw["outputs"]:
        low, high = found.probed.ranges.get(tensor["id"], (None, None))
        if low is not None and high is not None:
            lies = "lies" if tensor["id"] in found.probed.proven else "lay"
            facts.append(f"the network's `{tensor['id']}` {lies} between {low:.3g} and {high:.3g}")
    return facts
