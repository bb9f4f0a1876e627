"""Objects with numbers from a model's output channels: a seeded watershed, 2D and 3D alike.

A package says in ``config.biozoo.instances`` which channels to use (`InstancesConfig`);
`read_instances_config` reads that, `instances` does the work.

The foreground is cut into its connected parts. A part with one seed is one object, and only parts
with several seeds are flooded, each in its own bounding box: the result is that of one watershed
over the whole image, at a fraction of its time and memory.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from biozoo.errors import AxesError, InvalidPackageError, UsageError

if TYPE_CHECKING:
    from bioimageio.spec.model.v0_5 import ModelDescr

__all__ = [
    "InstancesConfig",
    "consecutive",
    "core_map",
    "fill_enclosed",
    "flood_parts",
    "instances",
    "label_objects",
    "read_instances_config",
]

SPATIAL_AXES = ("z", "y", "x")

ChannelRef = Annotated[int, Field(ge=0)] | Annotated[str, Field(min_length=1)]
"""A channel by its index or its name."""


class InstancesConfig(BaseModel):
    """How objects are made from the channels of one output tensor.

    The *core* map rises towards the middle of an object: the `distance` channel if there is one,
    else the foreground; minus the `boundary` channel if there is one. Foreground pixels whose core
    is above `seed_threshold` are the seeds, and the seeds grow downhill over the foreground.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    output: str
    """Id of the output tensor."""
    foreground: ChannelRef
    """Channel with the probability that a pixel belongs to any object."""
    distance: ChannelRef | None = None
    """Channel that is 0 at an object's edge and rises towards its middle."""
    boundary: ChannelRef | None = None
    """Channel with the probability that a pixel lies between two touching objects."""
    foreground_threshold: float = 0.5
    """Foreground is where the foreground channel is above this."""
    seed_threshold: float = 0.5
    """Seeds are where the core map is above this. Lower merges, higher splits and drops."""
    min_seed_size: Annotated[int, Field(ge=0)] = 0
    """Ignore seeds of fewer pixels, except the largest in its part: they would only cut slivers."""
    min_size: Annotated[int, Field(ge=0)] = 0
    """Smallest object to keep, in pixels (voxels)."""
    fill_holes: bool = True
    """Give holes that lie inside one object to that object."""
    smoothing: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation in pixels of a Gaussian on the core map, against too many seeds."""

    @model_validator(mode="after")
    def _needs_core(self) -> InstancesConfig:
        if self.distance is None and self.boundary is None:
            raise ValueError("give the channel of 'distance', of 'boundary', or of both")
        return self


def read_instances_config(model: ModelDescr) -> InstancesConfig | None:
    """Read and check ``config.biozoo.instances`` of a model description.

    Channel names are replaced by indices, so the result also fits arrays without channel names.

    Returns
    -------
    InstancesConfig | None
        None if the package does not say how objects are made.

    Raises
    ------
    InvalidPackageError
        If the entry is malformed or names a tensor or channel that the model does not have.
    """
    biozoo = _plain(getattr(model.config, "biozoo", None))
    if not isinstance(biozoo, Mapping) or biozoo.get("instances") is None:
        return None
    where = "config.biozoo.instances"
    try:
        config = InstancesConfig.model_validate(biozoo["instances"])
    except ValidationError as exc:
        faults = {".".join(map(str, (where, *e["loc"]))): e["msg"] for e in exc.errors()}
        raise InvalidPackageError(source=f"Model {model.name!r}", fields=faults) from exc
    outputs = {str(t.id): t for t in model.outputs}
    if config.output not in outputs:
        fault = f"{config.output!r} is no output of the model, which has {', '.join(outputs)}"
        raise InvalidPackageError(source=f"Model {model.name!r}", fields={f"{where}.output": fault})
    channel_axes = [a for a in outputs[config.output].axes if a.type == "channel"]
    names = [str(n) for a in channel_axes for n in a.channel_names]
    found, faults = {}, {}
    for field, ref in _channels(config).items():
        if (index := _channel_index(ref, names, len(names))) is None:
            faults[f"{where}.{field}"] = _no_such_channel(config, ref, names, len(names))
        else:
            found[field] = index
    if faults:
        raise InvalidPackageError(source=f"Model {model.name!r}", fields=faults)
    return config.model_copy(update=found)


def instances(
    prediction: xr.DataArray,
    config: InstancesConfig,
    *,
    min_size: int | None = None,
    fill_holes: bool | None = None,
) -> xr.DataArray:
    """Number the objects in a model's output.

    Parameters
    ----------
    prediction
        One output tensor with dims ``channel``, at least one of ``z y x``, and any others
        (``batch``, ``time``), in any order. NaN counts as 0. Channel names, if `config` uses
        them, are the coordinate of ``channel``.
    config
        Which channels to use, and how.
    min_size, fill_holes
        Replace the values of `config`.

    Returns
    -------
    xr.DataArray
        int32 without ``channel``: 0 background, objects 1..n, counted anew in each batch or time
        item. Other coordinates are kept.

    Raises
    ------
    AxesError
        If an axis is missing.
    UsageError
        If a channel is missing.
    """
    dims = [str(d) for d in prediction.dims]
    spatial = [d for d in dims if d in SPATIAL_AXES]
    if "channel" not in dims or not spatial:
        raise AxesError(
            f"Objects need an output with a 'channel' axis and spatial axes out of z, y, x; "
            f"output {config.output!r} has axes {', '.join(dims) or '(none)'}. "
            "Name its axes accordingly."
        )
    coord, names = prediction.coords.get("channel"), []
    if coord is not None and coord.dtype.kind in "UOT":
        names = [str(n) for n in coord.values]
    count = prediction.sizes["channel"]
    index: dict[str, int] = {}
    for field, ref in _channels(config).items():
        if (i := _channel_index(ref, names, count)) is None:
            raise UsageError(
                f"{_no_such_channel(config, ref, names, count)}. "
                "Use one of its names, or an index counted from 0."
            )
        index[field] = i

    result = xr.zeros_like(prediction.isel(channel=0, drop=True), dtype=np.int32)
    for item in _items(result, spatial):
        stack = prediction.isel(item).transpose("channel", *spatial)
        maps = {field: stack.isel(channel=i).to_numpy() for field, i in index.items()}
        labels = label_objects(
            **maps,
            foreground_threshold=config.foreground_threshold,
            seed_threshold=config.seed_threshold,
            min_seed_size=config.min_seed_size,
            min_size=config.min_size if min_size is None else min_size,
            fill_holes=config.fill_holes if fill_holes is None else fill_holes,
            smoothing=config.smoothing,
        )
        result[item] = xr.DataArray(labels, dims=spatial)
    return result


def label_objects(
    foreground: np.ndarray,
    distance: np.ndarray | None = None,
    boundary: np.ndarray | None = None,
    *,
    foreground_threshold: float = 0.5,
    seed_threshold: float = 0.5,
    min_seed_size: int = 0,
    min_size: int = 0,
    fill_holes: bool = True,
    smoothing: float = 0.0,
) -> np.ndarray:
    """Number the objects of one plane or volume; see `InstancesConfig` for the parameters.

    Parameters
    ----------
    foreground, distance, boundary
        Maps of equal shape (y x or z y x), usually 0..1. NaN counts as 0.

    Returns
    -------
    np.ndarray
        int32 of the same shape: 0 background, 1..n objects.
    """
    from scipy import ndimage as ndi

    inside = foreground > foreground_threshold  # NaN compares as False
    parts, n_parts = ndi.label(inside, output=np.int32)
    if n_parts == 0:
        return np.zeros(foreground.shape, np.int32)
    core = core_map(foreground, distance, boundary, smoothing)
    seeds, n_seeds = ndi.label(inside & (core > seed_threshold), output=np.int32)
    if n_seeds == 0:
        return np.zeros(foreground.shape, np.int32)
    labels = flood_parts(parts, n_parts, seeds, n_seeds, core, min_seed_size)
    if fill_holes:
        fill_enclosed(labels)
    numbers = consecutive(np.bincount(labels.ravel()), min_size)
    numbered: np.ndarray = numbers[labels]
    return numbered


def consecutive(sizes: np.ndarray, min_size: int) -> np.ndarray:
    """New numbers (int32) of labels 0, 1, ... of these sizes: 1..n for those kept, else 0."""
    keep = sizes >= max(min_size, 1)
    keep[0] = False
    numbers: np.ndarray = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    return numbers


def core_map(
    foreground: np.ndarray,
    distance: np.ndarray | None,
    boundary: np.ndarray | None,
    smoothing: float,
) -> np.ndarray:
    """Return the map that rises towards the middle of objects (float32)."""
    core: np.ndarray = np.array(foreground if distance is None else distance, dtype=np.float32)
    if boundary is not None:
        core -= boundary
    np.nan_to_num(core, copy=False)
    if smoothing > 0:
        from scipy import ndimage as ndi

        core = ndi.gaussian_filter(core, smoothing, mode="mirror")
    return core


def flood_parts(
    parts: np.ndarray,
    n_parts: int,
    seeds: np.ndarray,
    n_seeds: int,
    core: np.ndarray,
    min_seed_size: int,
) -> np.ndarray:
    """Extend the seeds over the connected parts they lie in; parts without a seed become 0."""
    from scipy import ndimage as ndi
    from skimage.segmentation import watershed

    at_seed = seeds > 0
    part_of_seed = np.zeros(n_seeds + 1, np.int32)
    part_of_seed[seeds[at_seed]] = parts[at_seed]
    del at_seed
    sizes = np.bincount(seeds.ravel(), minlength=n_seeds + 1)
    largest = np.zeros(n_parts + 1, sizes.dtype)
    np.maximum.at(largest, part_of_seed, sizes)
    keep = (sizes >= min_seed_size) | (sizes == largest[part_of_seed])
    keep[0] = False
    kept = np.flatnonzero(keep)
    seeds_in_part = np.bincount(part_of_seed[kept], minlength=n_parts + 1)
    # Where a part has a single seed, its number is that seed's; the other entries stay 0 here.
    number = np.zeros(n_parts + 1, np.int32)
    number[part_of_seed[kept]] = kept
    number[seeds_in_part != 1] = 0
    labels: np.ndarray = number[parts]
    boxes = ndi.find_objects(parts)
    for part in np.flatnonzero(seeds_in_part > 1):
        box = boxes[part - 1]
        mask = parts[box] == part
        markers = np.where(mask & keep[seeds[box]], seeds[box], 0)
        flooded = watershed(-core[box], markers, mask=mask)  # type: ignore[no-untyped-call]
        labels[box][mask] = flooded[mask]
    return labels


def fill_enclosed(labels: np.ndarray) -> None:
    """Give each background part that touches one object only, and no image edge, to the object."""
    from scipy import ndimage as ndi

    holes, _ = ndi.label(labels == 0, output=np.int32)
    for number, box in enumerate(ndi.find_objects(holes), start=1):
        if any(s.start == 0 or s.stop == n for s, n in zip(box, labels.shape, strict=True)):
            continue
        wide = tuple(slice(s.start - 1, s.stop + 1) for s in box)
        hole = holes[wide] == number
        around = labels[wide][ndi.binary_dilation(hole) & ~hole]
        if (around == around[0]).all():
            labels[wide][hole] = around[0]


def _channels(config: InstancesConfig) -> dict[str, int | str]:
    """Return the channels that `config` uses."""
    refs = {field: getattr(config, field) for field in ("foreground", "distance", "boundary")}
    return {field: ref for field, ref in refs.items() if ref is not None}


def _channel_index(ref: int | str, names: list[str], count: int) -> int | None:
    """Turn a channel's name or index into its index, or None if there is no such channel."""
    if isinstance(ref, str):
        return names.index(ref) if ref in names else None
    return ref if ref < count else None


def _no_such_channel(config: InstancesConfig, ref: int | str, names: list[str], count: int) -> str:
    have = ", ".join(names) if names else f"{count} without names"
    return f"channel {ref!r} is not in output {config.output!r} (channels: {have})"


def _items(array: xr.DataArray, spatial: list[str]) -> Iterator[dict[Hashable, int]]:
    """Yield the index of each batch or time item."""
    others = [d for d in array.dims if d not in spatial]
    for position in np.ndindex(*(array.sizes[d] for d in others)):
        yield dict(zip(others, position, strict=True))


def _plain(value: Any) -> Any:
    """Turn a pydantic object into plain data: spec may hand an extra entry over either way."""
    return value.model_dump() if isinstance(value, BaseModel) else value
