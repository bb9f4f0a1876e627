"""Test tensors: a piece of the sample, and what the original network makes of it.

The piece is small, so that packages stay small, and of a size that the network takes. Pre- and
postprocessing are the runners' own, which follow the specification.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biozoo.errors import ImageMismatchError, NetworkError
from biozoo_runners.sizes import ModelGeometry, ParameterizedSize

from .describe import DTYPES
from .samples import Sample, fit_axes, grown

if TYPE_CHECKING:
    import xarray as xr

    from ..networks.network import Reference

__all__ = ["expected", "preprocessed", "sizes_of_test", "test_input"]

#: Largest test tensor along y and x, and along z or time, per number of such axes.
_PLANE = {1: 1024, 2: 256, 3: 96}
_DEPTH = 32


def sizes_of_test(model: ModelGeometry, samples: Mapping[str, Sample]) -> dict[str, dict[str, int]]:
    """Per input tensor id and axis, the size of the test tensor.

    The sample's own size where that is allowed and modest, else the nearest allowed one below; the
    least allowed one where the sample is smaller. `sample_size` of the author wins.
    """
    roots: dict[tuple[str, str], int] = {}
    for tensor in model.inputs:
        sample = samples[tensor.id]
        space = [a for a in tensor.axes if a.kind in ("space", "time")]
        for axis in tensor.axes:
            if not isinstance(axis.size, ParameterizedSize):
                continue
            flat = axis.id in ("z", "time") and len(space) > 1
            cap = _DEPTH if flat else _PLANE.get(len(space), 64)
            have = sample.image.sizes.get(axis.id, 1)
            wanted = sample.spec.sample_size.get(axis.id, min(have, cap))
            rule = axis.size
            steps = max(0, (wanted - rule.min) // rule.step)
            roots[tensor.id, axis.id] = rule.min + steps * rule.step
    made: dict[str, dict[str, int]] = {}
    for tensor in model.inputs:
        made[tensor.id] = {}
        for axis in tensor.axes:
            if axis.kind in ("batch", "channel"):
                continue
            size = model.size(tensor.id, axis.id, roots)
            assert size is not None  # no input's size depends on data
            made[tensor.id][axis.id] = size
    return made


def test_input(sample: Sample, sizes: Mapping[str, int]) -> xr.DataArray:
    """The part of the sample with most to see, of this size, in the file's own type.

    Raises
    ------
    ImageMismatchError
        It holds NaN or infinities, or one value only.
    """
    room = {a: max(n, min(3 * n, 2048)) for a, n in sizes.items()}
    data = fit_axes(sample, sample.axes, room)
    data = data.isel(_busiest(data, sizes))
    data = grown(data, sizes)
    values = np.asarray(data.values)
    if values.dtype.name not in DTYPES or values.dtype == np.float64:
        values = values.astype(np.float32)
    who = f"The sample {sample.image.path or sample.id}"
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ImageMismatchError(
            f"{who} holds values that are not finite (NaN or infinite). Give a clean image."
        )
    if values.min() == values.max():
        raise ImageMismatchError(
            f"{who} has the value {values.flat[0]} everywhere where it was looked at. Give an "
            "image with something to see: it becomes the test input and the cover."
        )
    return data.copy(data=np.ascontiguousarray(values))


test_input.__dict__["__test__"] = False  # not for pytest


def _busiest(data: xr.DataArray, sizes: Mapping[str, int]) -> dict[str, slice]:
    """Where the values vary most: first, middle or last part along each axis."""
    choices: dict[str, list[int]] = {}
    for axis, size in sizes.items():
        spare = data.sizes[axis] - size
        choices[axis] = (
            sorted({spare // 2, 0, spare}, key=lambda n: n != spare // 2) if (spare > 0) else [0]
        )
    best: tuple[float, dict[str, slice]] | None = None
    for starts in itertools.product(*choices.values()):
        part = {a: slice(s, s + sizes[a]) for a, s in zip(choices, starts, strict=True)}
        spread = float(data.isel(part).values.std(dtype=np.float64))
        if best is None or spread > best[0] * 1.1:  # the middle unless another is clearly better
            best = spread, part
    assert best is not None
    return best[1]


def preprocessed(
    inputs: Sequence[Mapping[str, Any]], arrays: Mapping[str, xr.DataArray]
) -> dict[str, xr.DataArray]:
    """Arrays as the network takes them.

    Parameters
    ----------
    inputs
        The described inputs, or as much of them as is known.
    arrays
        Per input tensor id, dims = axis ids.
    """
    from biozoo_runners.processing import preprocessing

    steps = preprocessing(_parts(inputs, ()))
    stats = steps.collect(arrays)
    return {i: steps.apply_whole(i, a, stats) for i, a in arrays.items()}


def expected(
    raw: Mapping[str, Any], arrays: Mapping[str, xr.DataArray], network: Reference
) -> dict[str, NDArray[Any]]:
    """What the original network gives for these inputs, with pre- and postprocessing.

    Raises
    ------
    NetworkError
        Values that are not finite.
    """
    from biozoo_runners.processing import postprocessing, preprocessing

    descr = _parts(raw["inputs"], raw["outputs"])
    before, after = preprocessing(descr), postprocessing(descr)
    stats = after.collect(arrays, before.collect(arrays))
    feed = {
        i: before.apply(i, a.values, [str(d) for d in a.dims], stats) for i, a in arrays.items()
    }
    made = network.run(feed)
    results: dict[str, NDArray[Any]] = {}
    for output in raw["outputs"]:
        name = output["id"]
        dims = tuple(a["id"] for a in output["axes"])
        array = after.chains[name].finish(made[name], dims, stats)
        data = output["data"]
        dtype = (data[0] if isinstance(data, list) else data)["type"]
        array = np.ascontiguousarray(array.astype(dtype, copy=False))
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise NetworkError(
                f"The network gives values that are not finite (NaN or infinite) in its output "
                f"'{name}' for the sample. Check the weights and the preprocessing."
            )
        results[name] = array
    return results


def _parts(inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> Any:
    """A description of tensors alone: enough for the processing of one that is not yet whole."""
    from bioimageio.spec import ValidationContext
    from bioimageio.spec.model import v0_5 as spec

    def bare(raw: Mapping[str, Any]) -> dict[str, Any]:  # a copy: validating changes it in place
        return copy.deepcopy({k: v for k, v in raw.items() if k != "test_tensor"})

    with ValidationContext(perform_io_checks=False, log_warnings=False):
        return spec.ModelDescr.model_construct(  # type: ignore[call-arg]
            id=None,
            name="the package",
            inputs=[spec.InputTensorDescr.model_validate(bare(i)) for i in inputs],
            outputs=[spec.OutputTensorDescr.model_validate(bare(o)) for o in outputs],
        )
