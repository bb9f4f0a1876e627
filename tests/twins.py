"""Twins of real descriptions: the same tensors and processing, a small random network inside.

    twin = build(descr, tmp_path / "twin")          # a package folder, format 0.5, TorchScript
    twin = build(descr, tmp_path / "free", strict=False)          # a network that takes any size

What a twin keeps of its description: axes, their order, sizes, scales and halos, data descriptions,
pre- and postprocessing, which inputs may be left out, and declared tolerances. What it replaces:
the weights, and every file.

The network
-----------
Written as TorchScript for each description. Per output: a convolution with random weights over the
source (the input that the output's sizes follow, else the first), 3 pixels wide along each axis and
dilated so that it reaches exactly as far as the halo that is declared (one pixel to each side where
none is, and not at all along an axis without a halo beside others that have one). Then the sizes:
an axis of the source is resampled to the nearest pixel or cropped, an axis that the source lacks is
made with one random factor per index, one that the output lacks is averaged. Further inputs that
are given add their mean. An axis whose size depends on the data has the length that such an input
has, else one that depends on the sum of the source.

A strict network refuses sizes that its description does not allow, as a real one does.
Weights are multiples of 1/64, so that integers in give exact sums out.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml

from packages import tiny_png

WEIGHTS = "weights.pt"
#: As far as the network looks where the description declares no halo.
BARE_CONTEXT = 1
_INTEGERS = {"uint8": "torch.uint8", "int8": "torch.int8", "int64": "torch.int64"}


@dataclass(frozen=True)
class Twin:
    """A twin's folder and what the network in it does."""

    folder: Path
    descr: Any
    """the original's description"""
    context: Mapping[str, int]
    """pixels that the network looks to each side, by axis id of the source"""
    haloed: bool
    """whether declared halos cover that"""


def build(descr: Any, folder: Path, *, strict: bool = True, seed: int = 0) -> Twin:
    """Write the twin of a description into `folder`.

    Parameters
    ----------
    descr
        `bioimageio.spec.model.v0_5.ModelDescr` (older formats converted).
    strict
        Whether the network refuses sizes that the description does not allow.
    seed
        Of the weights, together with the description's id.
    """
    folder.mkdir(parents=True)
    seed = zlib.crc32(f"{descr.id}{descr.name}{seed}".encode())
    network = _Network(descr, np.random.default_rng(seed), strict=strict)
    network.save(folder / WEIGHTS)
    (folder / "README.md").write_text("# Twin\n\nMade for tests.\n")
    (folder / "cover.png").write_bytes(tiny_png())
    np.save(folder / "tensor.npy", np.zeros(1, np.float32))
    text = yaml.dump(_rdf(descr, folder), Dumper=yaml.CSafeDumper, sort_keys=False)
    (folder / "rdf.yaml").write_text(text)
    return Twin(folder, descr, network.context, haloed=network.haloed)


def _rdf(descr: Any, folder: Path) -> dict[str, Any]:
    """The description as written, with the twin's files in place of its own."""
    from bioimageio.spec import dump_description

    raw = dict(dump_description(descr, exclude_unset=False, exclude_defaults=False))
    kept = ("inputs", "outputs", "type", "format_version", "name", "config", "id")
    rdf: dict[str, Any] = {k: raw[k] for k in kept if raw.get(k) is not None}
    tensor = _file(folder, "tensor.npy")
    for t in (*rdf["inputs"], *rdf["outputs"]):
        t["test_tensor"] = tensor
        t.pop("sample_tensor", None)
    import torch

    version = torch.__version__.partition("+")[0]
    rdf |= {
        "description": "The twin of a published model.",
        "authors": [{"name": "Test Author"}],
        "cite": [{"text": "None, made for tests.", "url": "https://example.com/"}],
        "license": "BSD-3-Clause",
        "documentation": {"source": "README.md"},
        "covers": [{"source": "cover.png"}],
        "weights": {"torchscript": {**_file(folder, WEIGHTS), "pytorch_version": version}},
    }
    return rdf


def _file(folder: Path, name: str) -> dict[str, str]:
    return {
        "source": name,
        "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
    }


# ---------------------------------------------------------------------------------------- network


class _Network:
    """The code and the weights of one twin."""

    def __init__(self, descr: Any, rng: np.random.Generator, *, strict: bool) -> None:
        self.descr, self.rng = descr, rng
        self.weights: dict[str, np.ndarray] = {}
        self.lines: list[str] = []
        self.inputs = {str(t.id): t for t in descr.inputs}
        self.source = self._source()
        self.context, self.haloed = self._reach()
        self.names = {i: f"input{k}" for k, i in enumerate(self.inputs)}
        if strict:
            for tensor in descr.inputs:
                self._refuse(tensor)
        for k, tensor in enumerate(descr.outputs):
            self._output(tensor, f"output{k}")

    def save(self, path: Path) -> None:
        """Compile and write it."""
        import warnings

        import torch

        class Module(torch.nn.Module):  # type: ignore[misc]
            pass

        module = Module()
        for name, values in self.weights.items():
            tensor = torch.from_numpy(values.astype(np.float32))
            module.register_parameter(name, torch.nn.Parameter(tensor, requires_grad=False))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated
            scripted = torch.jit.script(module)
            scripted.define(self.code)
            scripted.save(str(path))

    @property
    def code(self) -> str:
        """The method `forward`."""
        arguments = [
            f"{self.names[i]}: Optional[Tensor] = None"
            if t.optional
            else f"{self.names[i]}: Tensor"
            for i, t in self.inputs.items()
        ]
        made = [f"output{k}" for k in range(len(self.descr.outputs))]
        gives = "Tensor" if len(made) == 1 else f"Tuple[{', '.join(['Tensor'] * len(made))}]"
        head = f"def forward(self, {', '.join(arguments)}) -> {gives}:"
        return "\n    ".join([head, *self.lines, f"return {', '.join(made)}"]) + "\n"

    def _source(self) -> Any:
        """The input that the outputs' sizes follow most, the first of equals."""
        counts = dict.fromkeys(self.inputs, 0)
        for tensor in self.descr.outputs:
            for axis in tensor.axes:
                if (ref := _reference(axis)) in counts:
                    counts[ref] += 1
        return self.inputs[max(counts, key=lambda i: counts[i])]

    def _reach(self) -> tuple[dict[str, int], bool]:
        """Context along each axis of the source; whether halos cover it."""
        axes = [a for a in self.source.axes if a.type not in ("batch", "channel")]
        scales = {str(a.id): float(a.scale) for a in axes}
        halos: dict[str, list[Fraction]] = {}
        for tensor in self.descr.outputs:
            for axis in tensor.axes:
                if _reference(axis) == str(self.source.id):
                    ratio = Fraction(scales[str(axis.size.axis_id)] / float(axis.scale))
                    halo = Fraction(getattr(axis, "halo", 0)) / ratio.limit_denominator(1000)
                    halos.setdefault(str(axis.size.axis_id), []).append(halo)
        least = {a: int(min(found)) for a, found in halos.items()}
        if any(least.values()):
            return {a: least.get(a, 0) for a in scales}, True
        return dict.fromkeys(scales, BARE_CONTEXT), False

    def _refuse(self, tensor: Any) -> None:
        """Code that stops at a size that is not allowed."""
        name, k, line = self.names[str(tensor.id)], 0, self.lines.append
        indent = ""
        if tensor.optional:
            line(f"if {name} is not None:")
            indent = "    "
        for k, axis in enumerate(tensor.axes):
            size = getattr(axis, "size", None)
            if isinstance(size, int):
                test, rule = f"{name}.size({k}) == {size}", f"exactly {size}"
            elif hasattr(size, "step"):
                test = f"{name}.size({k}) >= {size.min} and "
                test += f"({name}.size({k}) - {size.min}) % {size.step} == 0"
                rule = f"{size.min} + n*{size.step}"
            else:
                continue
            line(f"{indent}assert {test}, 'axis {axis.id} of {tensor.id} takes {rule}'")
        if tensor.optional:
            line("    pass")

    def _output(self, tensor: Any, name: str) -> None:
        """Code that makes one output."""
        line = self.lines.append
        source = self.names[str(self.source.id)]
        kinds = [a.type for a in self.source.axes]
        space = [a for a in self.source.axes if a.type not in ("batch", "channel")]
        order = [kinds.index(k) for k in ("batch", "channel") if k in kinds]
        order += [k for k, kind in enumerate(kinds) if kind not in ("batch", "channel")]
        line(f"{name} = {source}.float().permute({order})")
        for k, kind in enumerate(("batch", "channel")):
            if kind not in kinds:
                line(f"{name} = {name}.unsqueeze({k})")
        self._convolve(tensor, name, [str(a.id) for a in space])
        for other, t in self.inputs.items():
            if t is not self.source:
                given = self.names[other]
                line(f"if {given} is not None:")
                line(f"    {name} = {name} + 0.125 * {given}.float().mean()")
        self._sizes(tensor, name, [str(a.id) for a in space])
        self._dtype(tensor, name)

    def _spreads(self, tensor: Any) -> bool:
        """Whether channels are made of one: hundreds of convolutions would take minutes."""
        return _channels(tensor) > 32 or {a.type for a in tensor.axes} == {"batch", "channel"}

    def _convolve(self, tensor: Any, name: str, space: list[str]) -> None:
        """The convolution: batch, channel and the source's other axes."""
        counts = [1 if self._spreads(tensor) else _channels(tensor), _channels(self.source)]
        reach = [self.context[a] for a in space]
        window = [3 if r else 1 for r in reach]
        dilation = [max(r, 1) for r in reach]
        fan = counts[1] * prod(window)
        shape = (*counts, *window)
        steps = self.rng.integers(1, 65, shape) * self.rng.choice([-1, 1], shape)
        self.weights[f"{name}_weight"] = steps / 64.0 / 2.0 ** np.ceil(np.log2(fan) / 2)
        self.weights[f"{name}_bias"] = self.rng.integers(-32, 33, counts[0]) / 64.0
        self.lines.append(
            f"{name} = torch.conv{len(space)}d({name}, self.{name}_weight, self.{name}_bias, "
            f"padding={reach}, dilation={dilation})"
        )

    def _sizes(self, tensor: Any, name: str, space: list[str]) -> None:
        """Bring the axes into the sizes and the order of the output."""
        line = self.lines.append
        have = ["batch", "channel", *space]  # axes of the tensor at hand
        wanted = {_plain(a): a for a in tensor.axes}
        for a in [a for a in space if a not in wanted]:
            line(f"{name} = {name}.mean({have.index(a)})")
            have.remove(a)
        for a in [a for a in have if a not in wanted]:  # batch or channel, of one
            line(f"{name} = {name}.squeeze({have.index(a)})")
            have.remove(a)
        if self._spreads(tensor):
            self._spread(name, "channel", have.index("channel"), _channels(tensor))
        for a in [a for a in space if a in wanted]:
            k, count = have.index(a), f"{name}_{a}"
            line(f"{count} = {self._count(wanted[a])}")
            line(f"if {name}.size({k}) != {count}:")
            line(f"    {count}_from = {self._from(wanted[a], count, f'{name}.size({k})')}")
            line(f"    {name} = {name}.index_select({k}, {count}_from)")
        for a in [a for a in wanted if a not in have]:
            line(f"{name} = {name}.unsqueeze(0)")
            have.insert(0, a)
            self._spread(name, a, 0, self._count(wanted[a]))
        line(f"{name} = {name}.permute({[have.index(a) for a in wanted]})")

    def _spread(self, name: str, axis: str, place: int, count: int | str) -> None:
        """Code that makes an axis of one as long as it should be, each index with its factor."""
        self.weights[f"{name}_{axis}_factors"] = self.rng.integers(32, 97, 64) / 64.0
        self.lines += [
            # repeated for more than 64
            f"{name}_{axis}_at = torch.arange({count}, device={name}.device) % 64",
            f"{name}_{axis}_by = self.{name}_{axis}_factors[{name}_{axis}_at]",
            f"{name} = {name} * {name}_{axis}_by.view([-1] + [1] * ({name}.dim() - {place} - 1))",
        ]

    def _count(self, axis: Any) -> str:
        """Code for an output axis' size."""
        size = axis.size
        if isinstance(size, int):
            return str(size)
        if (ref := _reference(axis)) is not None:
            ratio, k = self._ratio(axis)
            name = self.names[ref]
            return f"{name}.size({k}) * {ratio.numerator} // {ratio.denominator} + {size.offset}"
        source = self.names[str(self.source.id)]
        count = f"1 + int({source}.double().sum().item()) % 3"
        for i, t in self.inputs.items():
            ids = [str(a.id) for a in t.axes]
            if t is not self.source and str(axis.id) in ids:
                name = self.names[i]
                count = (
                    f"({name}.size({ids.index(str(axis.id))}) if {name} is not None else {count})"
                )
        return count

    def _from(self, axis: Any, count: str, size: str) -> str:
        """Code for the pixels of the source that an output axis is made of."""
        index = f"torch.arange({count}, device={self.names[str(self.source.id)]}.device)"
        if _reference(axis) is None:
            return f"{index} * {size} // {count}"
        ratio, _ = self._ratio(axis)
        skip = max(0, -axis.size.offset) // 2
        pixels = f"({index} + {skip}) * {ratio.denominator} // {ratio.numerator}"
        return f"({pixels}).clamp(0, {size} - 1)"

    def _ratio(self, axis: Any) -> tuple[Fraction, int]:
        """Pixels here per pixel of the axis referred to, and that axis' place."""
        axes = list(self.inputs[str(axis.size.tensor_id)].axes)
        k = [str(a.id) for a in axes].index(str(axis.size.axis_id))
        return Fraction(axes[k].scale / axis.scale).limit_denominator(1000), k

    def _dtype(self, tensor: Any, name: str) -> None:
        """Whole numbers where whole numbers are declared and nothing is done to them after."""
        steps = [s.id for s in tensor.postprocessing if s.id != "ensure_dtype"]
        kind = str(getattr(tensor.data, "type", "float32"))
        if steps or kind.startswith("float") or kind == "bool":
            return
        low, high = (0, 255) if kind == "uint8" else (0, 2**15 - 1)
        dtype = _INTEGERS.get(kind, "torch.int32")
        self.lines.append(f"{name} = torch.clamp(torch.round({name}), {low}, {high}).to({dtype})")


def _reference(axis: Any) -> str | None:
    """Id of the tensor that an axis' size refers to."""
    tensor = getattr(getattr(axis, "size", None), "tensor_id", None)
    return None if tensor is None else str(tensor)


def _channels(tensor: Any) -> int:
    return next((len(a.channel_names) for a in tensor.axes if a.type == "channel"), 1)


def _plain(axis: Any) -> str:
    return axis.type if axis.type in ("batch", "channel") else str(axis.id)


# ----------------------------------------------------------------------------------------- images


@dataclass(frozen=True)
class Sizes:
    """Sizes of a twin's required inputs and of a tile, by tensor and axis id."""

    whole: Mapping[str, Mapping[str, int]]
    """just what the model takes; where there is a halo, with the halo too"""
    awkward: Mapping[str, Mapping[str, int]]
    """larger than a tile and no size that the model takes, but for free axes without a halo: larger
    by whole steps there, as in core the last tile would lie off them and differ"""
    tile: Mapping[str, int]
    """of the free axes"""


def sizes_of(descr: Any, halo: Mapping[str, int]) -> Sizes:
    """Image sizes that are quick and not round.

    Parameters
    ----------
    halo
        Pixels to each side that the outputs declare, by axis id of the input.
    """
    whole: dict[str, dict[str, int]] = {}
    awkward: dict[str, dict[str, int]] = {}
    tile: dict[str, int] = {}
    for tensor in descr.inputs:
        if tensor.optional:
            continue
        whole[str(tensor.id)], awkward[str(tensor.id)] = {}, {}
        grow = _grown(tensor)
        fixed = [n for a in tensor.axes if isinstance(n := getattr(a, "size", None), int)]
        light = prod(fixed) * max(map(_channels, descr.outputs)) < 5_000_000
        for axis in tensor.axes:
            a, size = str(axis.id), getattr(axis, "size", None)
            if axis.type == "batch":
                fits = large = 1
            elif axis.type == "channel":
                fits = large = _channels(tensor)
            elif isinstance(size, int):
                fits, inner = size, size - 2 * halo.get(a, 0)
                large = size + (inner * 3 // (8 if light else 100) | 1 if a in grow else 0)
            elif hasattr(size, "step"):
                tile[a], fits, large = _free(size.min, size.step, halo.get(a, 0), a in grow)
            else:  # as the axis it refers to
                other = whole[str(size.tensor_id)][str(size.axis_id)]
                more = awkward[str(size.tensor_id)][str(size.axis_id)]
                fits, large = other + size.offset, more + size.offset
            whole[str(tensor.id)][a], awkward[str(tensor.id)][a] = fits, large
    return Sizes(whole, awkward, tile)


def _grown(tensor: Any) -> set[str]:
    """The axes along which an image is made larger than a tile: fewer for large ones."""
    axes = [str(a.id) for a in tensor.axes if a.type not in ("batch", "channel")]
    fixed = [a.size for a in tensor.axes if isinstance(getattr(a, "size", None), int)]
    if prod(fixed) > 300_000:
        return {axes[-1]}
    return {axes[0], axes[-1]} if len(axes) > 2 else set(axes)


def _free(least: int, step: int, halo: int, grown: bool) -> tuple[int, int, int]:
    """Tile, whole and awkward size along an axis of min + n*step."""

    def allowed(size: int) -> int:
        return least + max(0, -(-(size - least) // step)) * step

    tile = allowed(max(3 * halo, 32 if step == 1 else 0, 2 * halo + 8))
    fits = tile
    for size in range(tile, tile + 8 * step, step):
        if (size + 2 * halo - least) % step == 0:
            fits = size
            break
    more = ((tile - 2 * halo) // 2) | 1
    if not halo:
        more = -(-more // step) * step
    return tile, fits, tile + (more if grown else 0)


def images_of(
    descr: Any, sizes: Mapping[str, Mapping[str, int]], seed: int = 0
) -> dict[str, xr.DataArray]:
    """Random images of these sizes, in the declared data types."""
    rng = np.random.default_rng(seed)
    made = {}
    for tensor in descr.inputs:
        if (i := str(tensor.id)) in sizes:
            dims = [_plain(a) for a in tensor.axes]
            shape = [sizes[i][str(a.id)] for a in tensor.axes]
            made[i] = xr.DataArray(_pixels(rng, shape, tensor), dims=dims)
    return made


def _pixels(rng: np.random.Generator, shape: list[int], tensor: Any) -> np.ndarray:
    dtype = np.dtype(str(getattr(tensor.data, "type", "float32")))
    if dtype.kind in "ui":
        return rng.integers(0, min(np.iinfo(dtype).max, 4095) + 1, shape, dtype)
    return (rng.random(shape, np.float32) * 10).astype(dtype)


def prompts_of(descr: Any, count: int = 2) -> Iterator[tuple[str, xr.DataArray]]:
    """Small tensors for the inputs that may be left out."""
    for k, tensor in enumerate(descr.inputs):
        if tensor.optional:
            fixed = [getattr(a, "size", None) for a in tensor.axes]
            shape = [
                1 if a.type == "batch" else _channels(tensor) if a.type == "channel"
                else n if isinstance(n, int) else count
                for a, n in zip(tensor.axes, fixed, strict=True)
            ]  # fmt: skip
            rng = np.random.default_rng(k)
            yield (
                str(tensor.id),
                xr.DataArray(_pixels(rng, shape, tensor), dims=[_plain(a) for a in tensor.axes]),
            )
