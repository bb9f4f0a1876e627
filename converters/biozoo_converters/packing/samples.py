"""The author's sample images, as the network takes them.

A sample has the axes that its file or the author says; the network has its own. Here both meet:
a batch or channel axis of one is added, a position along an axis that the network lacks is taken,
and what cannot be told is an error that says what to do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from biozoo.axes import letters, parse_axes
from biozoo.errors import AxesError, BiozooError, ImageMismatchError, NetworkError

from ..networks.returned import ReturnedError
from .pack_file import InputSpec

if TYPE_CHECKING:
    import xarray as xr

    from biozoo_runners.images import Image

    from ..networks.network import Network

__all__ = [
    "Sample",
    "Taken",
    "candidates",
    "choose_axes",
    "crop_of",
    "fit_axes",
    "grown",
    "named",
    "open_samples",
]

#: Most pixels per plane and volume that are read of a sample: enough to measure a network with.
_PLANE = 1024
_VOLUME = 2**21

#: Sizes that are tried to find out what a network takes, per number of space axes.
_TRIED = {1: (512, 256, 64), 2: (128, 256, 64, 512, 32, 224), 3: (32, 64, 96, 16, 128)}


@dataclass(frozen=True)
class Sample:
    """One opened sample.

    Attributes
    ----------
    spec
        What the author says of this input.
    image
        Its pixels are read on demand.
    axes
        Of the network's input; () until `choose_axes` found them.
    notes
        What was assumed.
    """

    spec: InputSpec
    image: Image
    id: str = ""
    axes: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def fixed(self) -> tuple[str, ...]:
        """Axes that are not to be measured."""
        return parse_axes(",".join(self.spec.fixed)) if self.spec.fixed else ()


def open_samples(specs: Sequence[InputSpec]) -> tuple[list[Sample], dict[str, str]]:
    """Every sample opened, and the fault of each that cannot be."""
    from biozoo_runners.images import open_image

    faults: dict[str, str] = {}
    samples: list[Sample] = []
    if not any(s.sample for s in specs):
        faults["sample"] = (
            "is missing. Give --sample IMAGE (and --axes, where the file does not say them): a "
            "typical input, which the network is measured with"
        )
        return samples, faults
    for i, spec in enumerate(specs):
        name = f"sample {spec.id or i}" if len(specs) > 1 else "sample"
        if spec.sample is None:
            faults[name] = f"is missing. Give --sample {spec.id or 'ID'}=IMAGE"
            continue
        try:
            image = open_image(spec.sample, axes=spec.axes or None, scene=spec.scene)
            tensor = parse_axes(spec.tensor_axes) if spec.tensor_axes else ()
            if tensor:
                _check_fit(image, tensor)
        except BiozooError as exc:
            faults[name] = exc.message
            continue
        if spec.channels and "channel" in image.axes and not tensor:
            count = image.sizes["channel"]
            if len(spec.channels) != count:
                faults["channels"] = (
                    f"{len(spec.channels)} names are given ({', '.join(spec.channels)}), the "
                    f"sample has {count} channels"
                )
        samples.append(Sample(spec, image, notes=image.notes))
    return samples, faults


def candidates(axes: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Axes that a network for images of these axes may have, the likeliest first.

    Libraries put batch and channel first; axes that are written out in full are meant so.
    """
    order = ("time", "index", "z", "y", "x")
    space = [a for a in order if a in axes]
    made: list[tuple[str, ...]] = []
    full = ("batch", "channel", *space)
    if "batch" in axes and "channel" in axes:
        made += [axes, full]
    else:
        made += [full, axes, ("batch", *[a for a in axes if a != "batch"])]
    seen = set()
    for one in made:
        if one not in seen:
            seen.add(one)
            yield one


@dataclass(frozen=True)
class Taken:
    """A call that the network took: the samples with its axes, per input the shape, and how many
    outputs it gave.
    """

    samples: list[Sample]
    shapes: Mapping[str, tuple[int, ...]]
    outputs: int


def choose_axes(network: Network, samples: Sequence[Sample]) -> Taken:
    """The samples with the network's axes, and per input a shape that the network takes.

    Which of `candidates` it is, is found out by calling the network.

    Raises
    ------
    NetworkError
        It takes none of them; with what it says of the likeliest.
    ImageMismatchError
        The author's axes do not fit the sample.
    """
    first: NetworkError | None = None
    options = [_options(sample) for sample in samples]
    for k in range(max(map(len, options))):
        chosen = [o[min(k, len(o) - 1)] for o in options]
        for arrays in _trials(samples, chosen):
            try:
                outputs = network.run([a.values for a in arrays])
            except ReturnedError:  # it ran: no other axes would help
                raise
            except NetworkError as exc:
                first = first or exc
                continue
            made = [
                replace(s, axes=axes, notes=(*s.notes, *_assumed(s, axes)))
                for s, axes in zip(samples, chosen, strict=True)
            ]
            shapes = {s.id: a.shape for s, a in zip(samples, arrays, strict=True)}
            return Taken(made, shapes, len(outputs))
    assert first is not None
    raise NetworkError(_refusal(network, samples, options, first)) from first


def _options(sample: Sample) -> list[tuple[str, ...]]:
    if sample.spec.tensor_axes:
        return [parse_axes(sample.spec.tensor_axes)]
    return list(candidates(sample.image.axes))


def _trials(
    samples: Sequence[Sample], chosen: Sequence[tuple[str, ...]]
) -> Iterator[list[xr.DataArray]]:
    """Small crops of the samples in these axes, sizes that most networks take first."""
    spatial = max(len(_tiled(axes)) for axes in chosen)
    seen = set()
    for size in (*_TRIED.get(spatial, (64, 32)), None):
        arrays = []
        for sample, axes in zip(samples, chosen, strict=True):
            wanted: dict[str, int] = {}
            for axis in _tiled(axes):
                have = sample.image.sizes.get(axis, 1)
                fixed = axis in sample.fixed or axis in sample.spec.sample_size
                own = size is None or fixed
                wanted[axis] = sample.spec.sample_size.get(axis, have) if own else size or have
            if math.prod(wanted.values()) > 4 * _PLANE**2:
                break  # far too large for a trial
            data = grown(fit_axes(sample, axes, wanted), wanted)
            arrays.append(data.astype(_dtype(sample)))
        shapes = tuple(a.shape for a in arrays)
        if len(arrays) == len(samples) and shapes not in seen:
            seen.add(shapes)
            yield arrays


def _dtype(sample: Sample) -> str:
    """What the network is called with: real numbers, unless the author says otherwise."""
    declared = sample.spec.data or {}
    return str(declared.get("type", "float32"))


def _tiled(axes: Sequence[str]) -> list[str]:
    return [a for a in axes if a not in ("batch", "channel", "index")]


def _check_fit(image: Image, axes: tuple[str, ...]) -> None:
    missing = [a for a in axes if a not in image.axes and a not in ("batch", "channel")]
    if missing:
        raise ImageMismatchError(
            f"{image.path} has the axes {letters(image.axes)} ({_size(image)}); the network's "
            f"{letters(axes)} have {', '.join(missing)} besides. Give an image with it, or name "
            "the axes of the file with --axes."
        )
    if "channel" in image.axes and "channel" not in axes and image.sizes["channel"] > 1:
        raise ImageMismatchError(
            f"{image.path} has {image.sizes['channel']} channels, the network's axes "
            f"{letters(axes)} hold none. Give an image of one channel."
        )


def fit_axes(
    sample: Sample, axes: tuple[str, ...], sizes: Mapping[str, int] | None = None
) -> xr.DataArray:
    """The sample, or the middle of it, in the network's axes and the file's own type.

    Parameters
    ----------
    axes
        Of the result; a missing batch or channel axis has the size 1.
    sizes
        Per axis how much is read, from the middle; what is not named is read whole.

    Raises
    ------
    ImageMismatchError
        The sample lacks an axis, or has channels that the network does not take.
    """
    image = sample.image
    _check_fit(image, axes)
    selection: dict[str, int | slice] = {}
    for axis, have in image.sizes.items():
        if axis == "batch":
            selection[axis] = slice(0, 1) if axis in axes else 0
        elif axis not in axes:
            selection[axis] = have // 2 if axis != "channel" else 0
        elif sizes and axis in sizes and sizes[axis] < have:
            start = (have - sizes[axis]) // 2
            selection[axis] = slice(start, start + sizes[axis])
    data = image.read(selection)
    for axis in axes:
        if axis not in data.dims:
            data = data.expand_dims(axis)
    return data.transpose(*axes)


def grown(data: xr.DataArray, sizes: Mapping[str, int]) -> xr.DataArray:
    """The array with these sizes along some axes: its middle, or mirrored where it is smaller."""
    import xarray as xr

    from ..proof.growing import grow

    dims = [str(d) for d in data.dims]
    wanted = {dims.index(a): n for a, n in sizes.items() if a in dims and n != data.sizes[a]}
    if not wanted:
        return data
    return xr.DataArray(grow(data.values, wanted), dims=dims, attrs=data.attrs)


def crop_of(sample: Sample, shape: Sequence[int]) -> dict[str, int]:
    """How much of a sample is worked with, per axis: all of a small one, the middle of a large one,
    never less than `shape`, which the network takes.
    """
    known = dict(zip(sample.axes, shape, strict=True))
    space = _tiled(sample.axes)
    edge = _PLANE if len(space) <= 2 else max(32, int(_VOLUME ** (1 / len(space))))
    sizes = {}
    for axis in space:
        have = sample.image.sizes.get(axis, 1)
        wanted = sample.spec.sample_size.get(axis, edge)
        sizes[axis] = max(min(have, wanted), known[axis])
    return sizes


def _assumed(sample: Sample, axes: tuple[str, ...]) -> Iterator[str]:
    """What was decided between the axes of the sample and those of the network."""
    own = sample.image.axes
    if axes == own:
        return
    added = [a for a in axes if a not in own]
    left = [a for a in own if a not in axes]
    text = f"input '{sample.id}': the sample's axes {letters(own)} become {letters(axes)}"
    if added:
        text += f" ({', '.join(added)} of one added)"
    if left:
        taken = ", ".join(f"{a} {sample.image.sizes[a] // 2}" for a in left if a != "batch")
        text += f" (taken at {taken})" if taken else " (the first of the batch)"
    yield text


def _refusal(
    network: Network,
    samples: Sequence[Sample],
    options: Sequence[Sequence[tuple[str, ...]]],
    first: NetworkError,
) -> str:
    """Why no axes fit, and what the author may do."""
    needed = network.input_names
    if len(needed) != len(samples):
        ids = " ".join(f"--sample {name}=FILE" for name in needed)
        return (
            f"{network.name} takes {len(needed)} inputs ({', '.join(needed)}), {len(samples)} "
            f"{'sample was' if len(samples) == 1 else 'samples were'} given. Give one for each: "
            f"{ids}. {first.message}"
        )
    text = first.message
    sample = samples[0]
    if not sample.spec.tensor_axes:
        tried = ", ".join(letters(o) for o in options[0])
        text += (
            f" The sample is {letters(sample.image.axes)} {_size(sample.image)}; tried were the "
            f"axes {tried}, at several sizes. If the network's axes are others, name them, for "
            f"example --input-axes {_example(sample.image.axes)}; if it takes one size only, give "
            "a sample of that size."
        )
    return text


def _example(axes: tuple[str, ...]) -> str:
    plane = [a for a in axes if a in ("y", "x")]
    return letters(("batch", "channel", *plane)) if "z" in axes else letters(("batch", *axes))


def _size(image: Image) -> str:
    return " x ".join(map(str, image.shape))


def named(samples: Sequence[Sample], ids: Sequence[str]) -> list[Sample]:
    """The samples with their tensor ids, in the order of the network.

    Raises
    ------
    AxesError
        Two have the same id.
    """
    if len(set(ids)) != len(ids):
        raise AxesError(f"Two inputs have the same id: {', '.join(ids)}. Name each its own.")
    return [replace(s, id=i) for s, i in zip(samples, ids, strict=True)]
