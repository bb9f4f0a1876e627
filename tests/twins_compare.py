"""Our run of a twin against bioimageio.core's, as rows of a table.

    row = compare_description(path)             # one description: whole and tiled
    print(table(rows)); print(summary(rows))

What core is asked, and what is done where it cannot answer
-----------------------------------------------------------
Whole: `predict_sample_without_blocking`, on an image of a size that the model takes.

- It takes statistics of the image padded by the halo; its own blockwise run, and ours, take those
  of the image. Where that is the difference, it is given the statistics that it computes itself of
  the image, and the row says so.
- It pads by the halo to a size that a network of fixed size refuses. It cannot, then; and it is
  asked once more with a network of the same weights that takes any size.

Tiled: `predict_sample_with_fixed_blocking` with the tiles that we planned, on an image that is
larger than a tile and of no size that the model takes. Core shifts the last tile back, ours lies on
whole steps: with a halo both give the same, and without one the image is larger by whole steps.

- It keeps one tile of an output whose size is given as a number, and knows no outputs without a
  channel axis. It cannot, then; and it is asked to run every tile of the grid by itself.

Where halos cover the network's context, our tiled run must also equal our run in one tile, and that
one core's of the awkward image, by a network that takes any size.
"""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

import biozoo
from biozoo import rdf as rdfs
from biozoo.errors import BiozooError, ImageMismatchError, MissingDependencyError
from biozoo.validation import build_mended
from biozoo_runners.pipeline import Runner, load
from biozoo_runners.tolerance import Tolerance, tolerance_for
from twins import Twin, build, images_of, prompts_of, sizes_of

Kind = Literal["agrees", "differs", "core cannot", "one tile", "needs", "fails"]
Arrays = Mapping[str, xr.DataArray]

#: What is aimed at; a package allows ten times that.
TIGHT = Tolerance(1e-4, 1e-4)


@dataclass(frozen=True)
class Verdict:
    """One comparison: `error` is the largest absolute difference, `why` of core or a fault."""

    kind: Kind
    error: float | None = None
    why: str = ""
    loose: bool = False
    """whether it takes the package's tolerance to agree"""
    instead: str = ""
    """what was compared where core cannot, or cannot without help"""

    def __str__(self) -> str:
        error = "" if self.error is None else f" {self.error:.0e}"
        if self.kind == "agrees":
            return f"agrees{error}{' (1e-3)' if self.loose else ''}"
        if self.kind == "core cannot":
            return f"core cannot: {self.why}"
        return f"{self.kind}{error}{': ' + self.why if self.why else ''}"


@dataclass(frozen=True)
class Row:
    """One description."""

    id: str
    inputs: int
    axes: str
    whole: Verdict
    tiled: Verdict
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = field(default=())
    """what contradicts: must be empty"""

    @property
    def runs(self) -> bool:
        """Whether our side ran both."""
        return not {self.whole.kind, self.tiled.kind} & {"fails", "needs"}


def descriptions(shared: Path) -> list[Path]:
    """The files of the real descriptions."""
    return sorted((shared / "corpus" / "rdfs").glob("*.yaml"))


def compare_description(path: Path) -> Row:
    """Build the twin of one description and compare."""
    name = path.stem.removesuffix("__v0").replace("__", " ")
    descr, mended = build_mended(rdfs.read(path), path.parent, source=path.name)
    notes = [f"mended: {note}" for note in mended]
    axes = "; ".join(_letters(t) for t in descr.inputs if not t.optional)
    with tempfile.TemporaryDirectory(prefix="twin-") as folder:
        try:
            found = _Comparison(descr, Path(folder), notes)
            whole, tiled = found.whole(), found.tiled()
        except MissingDependencyError as exc:
            whole = tiled = Verdict("needs", why=_line(exc))
            return Row(name, len(descr.inputs), axes, whole, tiled, tuple(notes))
        except BiozooError as exc:
            whole = tiled = Verdict("fails", why=_line(exc))
            return Row(name, len(descr.inputs), axes, whole, tiled, tuple(notes), (str(exc),))
    return Row(name, len(descr.inputs), axes, whole, tiled, tuple(notes), tuple(found.faults))


def table(rows: Sequence[Row]) -> str:
    """The rows below each other."""
    cells = [("id", "inputs", "axes", "whole", "tiled", "note")]
    cells += [
        (r.id, str(r.inputs), r.axes, str(r.whole), str(r.tiled), "; ".join(r.notes)) for r in rows
    ]
    widths = [max(len(c[k]) for c in cells) for k in range(5)]
    return "\n".join(
        "  ".join(part.ljust(w) for part, w in zip(c, [*widths, 0], strict=True)).rstrip()
        for c in cells
    )


def summary(rows: Sequence[Row]) -> str:
    """The counts."""

    def count(test: Callable[[Row], bool]) -> int:
        return sum(map(test, rows))

    def cannot(kind: str) -> int:
        return count(lambda r: getattr(r, kind).kind == "core cannot")

    agree = count(lambda r: r.runs and not r.faults)
    needs = count(lambda r: "needs" in (r.whole.kind, r.tiled.kind))
    lines = [
        f"{count(lambda r: r.runs)} of {len(rows)} run here; {agree} agree with bioimageio.core; "
        f"core cannot run {cannot('whole')} (whole) / {cannot('tiled')} (tiled); needs X: {needs}"
    ]
    for kind in ("whole", "tiled"):
        verdicts: list[Verdict] = [getattr(r, kind) for r in rows]
        plain = sum(v.kind == "agrees" and not v.instead for v in verdicts)
        parts = [f"{plain} agree with core as it is"]
        ways = [v.instead for v in verdicts if v.instead]
        parts += [f"{ways.count(way)} {way}" for way in dict.fromkeys(ways)]
        if one := sum(v.kind == "one tile" for v in verdicts):
            parts.append(f"{one} cannot be cut, their outputs do not follow the image")
        parts.append(f"{sum(v.kind == 'differs' for v in verdicts)} differ")
        lines.append(f"{kind}: {'; '.join(parts)}")
    loose = [r.id for r in rows if r.whole.loose or r.tiled.loose]
    wrong = [r.id for r in rows if r.faults]
    lines.append(f"agree to 1e-3 and not to 1e-4: {', '.join(loose) or 'none'}")
    lines.append(f"not as they should be: {', '.join(wrong) or 'none'}")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------- comparison


class _Comparison:
    """The comparisons of one description."""

    def __init__(self, descr: Any, folder: Path, notes: list[str]) -> None:
        self.descr, self.folder, self.notes = descr, folder, notes
        self.faults: list[str] = []
        self.twin = build(descr, folder / "twin")
        self.package = biozoo.open(self.twin.folder)
        self.halo = _halos(descr)
        self.sizes = sizes_of(descr, self.halo)
        self.pads = any(self.halo.values())
        self._free: Twin | None = None

    @property
    def free(self) -> Any:
        """The description of a twin whose network takes any size."""
        if self._free is None:
            self._free = build(self.descr, self.folder / "free", strict=False)
        return biozoo.open(self._free.folder).descr

    def whole(self) -> Verdict:
        images = images_of(self.descr, self.sizes.whole)
        with load(self.package, device="cpu", threads=1) as runner:
            ours = dict(runner(images))
            if prompts := dict(prompts_of(self.descr)):
                self._optional(runner, images, prompts)
        try:
            theirs = core_whole(self.package.descr, images)
        except Exception as exc:  # whatever it is, it is core's
            why = _line(exc)
            if "AssertionError" not in why or not self.pads:
                return Verdict("core cannot", why=why)
            why = "pads by the halo to a size that the model does not take"
            way = "agree on a network of any size"
            free = core_whole(self.free, images, statistics_of=images)
            return self._instead("core cannot", why, way, ours, free)
        found = self._against(ours, theirs)
        if (found.kind == "agrees" and not found.loose) or not self.pads:
            return self._told("whole", found)
        own = core_whole(self.package.descr, images, statistics_of=images)
        if found.kind == "agrees":
            self.notes.append(
                f"{self._told('whole', self._against(ours, own)).error:.0e} once core measures the "
                "image and not its padding"
            )
            return found
        self.notes.append(f"core's statistics are of the padded image: {found.error:.0e} apart")
        way = "agree once core measures the image and not its padding"
        return self._instead("agrees", "", way, ours, own)

    def tiled(self) -> Verdict:
        images = images_of(self.descr, self.sizes.awkward, seed=1)
        tile = dict(self.sizes.tile) or None
        with load(self.package, device="cpu", threads=1) as runner:
            try:
                plan = runner.plan(images, tile=tile)
            except ImageMismatchError as exc:
                follows = "does not follow" not in str(exc)
                return Verdict("one tile", why=_line(exc) if follows else "outputs do not follow")
            if len(plan) < 2:
                return Verdict("fails", why="one tile was planned")
            ours = dict(runner(images, tile=tile))
            if self.twin.haloed and tile:
                self._seamless(runner, images, ours)
        shapes = {t.id: dict(zip(t.dims, t.tile, strict=True)) for t in plan.inputs}
        why, theirs = self._blocks(images, shapes, ours)
        if not why:
            return self._told("tiled", self._against(ours, theirs))
        each = core_tile_by_tile(self.package.descr, images, shapes, self.halo)
        return self._instead("core cannot", why, "agree tile by tile", ours, each)

    def _blocks(
        self, images: Arrays, shapes: Mapping[str, Mapping[str, int]], ours: Arrays
    ) -> tuple[str, Arrays]:
        """Core's run in blocks, or why it cannot."""
        descr = self.package.descr
        huge = sum(a.size for a in ours.values()) > 100_000_000  # would take half a minute
        if huge and (first := _keeps_one_tile(descr)):
            return f"keeps one tile of '{first}'", {}
        try:
            theirs = core_blocks(descr, images, shapes)
            lost = [i for i in ours if _shape(ours[i]) != _shape(theirs[i])]
            return f"keeps one tile of '{lost[0]}'" if lost else "", theirs
        except Exception as exc:  # whatever it is, it is core's
            why = _line(exc)
            return "knows no output without a channel axis" if "members []" in why else why, {}

    def _optional(self, runner: Runner, images: Arrays, prompts: Arrays) -> None:
        """Runs with inputs that may be left out."""
        given = {**images, **prompts}
        ours = dict(runner(given))
        found = self._told("all inputs", self._against(ours, core_whole(self.package.descr, given)))
        self.notes.append(f"with all {len(given)} inputs: {found}")

    def _seamless(self, runner: Runner, images: Arrays, tiled: Arrays) -> None:
        """Our tiles equal our one tile, and that equals core's of the same image."""
        ours = dict(runner(images))
        self._same("tiled and whole", tiled, ours)
        free = core_whole(self.free, images, statistics_of=images)
        self._same("an image of an awkward size in one tile and core", ours, free)

    def _same(self, what: str, a: Arrays, b: Arrays) -> None:
        self._told(what, self._against(a, b))

    def _told(self, what: str, found: Verdict) -> Verdict:
        if found.kind != "agrees":
            self.faults.append(f"{what}: {found}")
        return found

    def _instead(self, kind: Kind, why: str, way: str, ours: Arrays, theirs: Arrays) -> Verdict:
        found = self._against(ours, theirs)
        if found.kind != "agrees":
            self.faults.append(f"{way}: {found}")
            return Verdict("differs", found.error, found.why, instead=way)
        self.notes.append(f"{way}: {found.error:.0e}" if kind == "core cannot" else way)
        return Verdict(kind, found.error, why, found.loose, way)

    def _against(self, ours: Arrays, theirs: Arrays) -> Verdict:
        """How far two results lie apart."""
        worst, why, loose = 0.0, "", False
        for i, expected in theirs.items():
            got = ours[i]
            expected = expected.squeeze([d for d in expected.dims if d not in got.dims], drop=True)
            got = got.squeeze([d for d in got.dims if d not in expected.dims], drop=True)
            a, b = got.transpose(*expected.dims).values, expected.values
            allowed = tolerance_for(self.package.descr, "torchscript", i)
            if a.dtype != b.dtype or a.shape != b.shape:
                why = f"'{i}' is {a.dtype} {a.shape}, core's {b.dtype} {b.shape}"
                continue
            error, (tight, far) = _apart(a, b, (TIGHT, allowed))
            worst = max(worst, error)
            loose |= tight > TIGHT.per_million
            if far > allowed.per_million:
                why = f"{far:.0f} per million of '{i}' are off (allowed: {allowed})"
        return Verdict("differs" if why else "agrees", worst, why, loose)


def _apart(
    a: np.ndarray, b: np.ndarray, tolerances: Sequence[Tolerance]
) -> tuple[float, tuple[float, ...]]:
    """The largest difference, and elements per million beyond each tolerance.

    In pieces, as `biozoo_runners.tolerance.compare` has it: some outputs take 0.7 GB.
    """
    worst, off = 0.0, [0] * len(tolerances)
    for x, y in zip(np.atleast_1d(a), np.atleast_1d(b), strict=True):
        if np.array_equal(x, y):
            continue
        x, y = x.astype(np.float64), y.astype(np.float64)
        error = np.nan_to_num(np.abs(x - y), nan=np.inf)
        worst = max(worst, float(error.max()))
        for k, t in enumerate(tolerances):
            off[k] += int((error > t.absolute + t.relative * np.abs(y)).sum())
    return worst, tuple(1e6 * n / max(1, a.size) for n in off)


def _halos(descr: Any) -> dict[str, int]:
    """Declared halos in pixels of the input, by axis id (core's own reading of them)."""
    from bioimageio.core.digest_spec import get_input_halo

    found: dict[str, int] = {}
    for axes in get_input_halo(descr).values():
        for axis, halo in axes.items():
            found[str(axis)] = max(found.get(str(axis), 0), halo.left)
    return found


# ------------------------------------------------------------------------------------------- core


def _keeps_one_tile(descr: Any) -> str:
    """The first output whose tiles core puts all in one place, by its own table of sizes."""
    from bioimageio.core.digest_spec import get_block_transform

    for name, axes in get_block_transform(descr).items():
        if any(isinstance(size, int) and a not in ("batch", "channel") for a, size in axes.items()):
            return str(name)
    return ""


def core_whole(
    descr: Any, images: Arrays, *, statistics_of: Arrays | None = None
) -> dict[str, xr.DataArray]:
    """Core's run in one piece; with its own statistics of other images, where such are given."""
    fixed = {} if statistics_of is None else _statistics(descr, statistics_of)
    sample = _sample(descr, images)
    sample.stat.update(fixed)
    with _quiet():
        found = _pipeline(descr, fixed).predict_sample_without_blocking(sample)
    return {str(i): t.data for i, t in found.members.items()}


def core_blocks(
    descr: Any, images: Arrays, shapes: Mapping[str, Mapping[str, int]]
) -> dict[str, xr.DataArray]:
    """Core's run in blocks of these shapes."""
    with _quiet():
        found = _pipeline(descr, {}).predict_sample_with_fixed_blocking(
            _sample(descr, images), shapes
        )
    return {str(i): t.data for i, t in found.members.items()}


def core_tile_by_tile(
    descr: Any,
    images: Arrays,
    shapes: Mapping[str, Mapping[str, int]],
    halo: Mapping[str, int],
) -> dict[str, xr.DataArray]:
    """Core's run of every tile by itself, put together here.

    The grid is written down once more: inner regions from 0 on, the last one shifted back to end
    with the image; an image smaller than that is padded at its end.
    """
    (name, image), (_, shape) = next(iter(images.items())), next(iter(shapes.items()))
    starts = {}
    for axis, tile in shape.items():
        h = halo.get(axis, 0)
        inner, size = tile - 2 * h, image.sizes[axis]
        last = max(0, size - inner)
        starts[axis] = [*range(0, last, inner), last]
    more = {
        a: (halo.get(a, 0), halo.get(a, 0) + max(0, t - 2 * halo.get(a, 0) - image.sizes[a]))
        for a, t in shape.items()
    }
    padded = image.pad(more, mode="symmetric")
    canvas: dict[str, xr.DataArray] = {}
    fixed = _statistics(descr, images)
    pipeline = _pipeline(descr, fixed)
    for at in itertools.product(*starts.values()):
        here = dict(zip(starts, at, strict=True))
        tile_of = padded.isel({a: slice(p, p + shape[a]) for a, p in here.items()})
        sample = _sample(descr, {name: tile_of})
        sample.stat.update(fixed)
        with _quiet():
            made = pipeline.predict_sample_without_blocking(
                sample, skip_input_padding=True, skip_output_cropping=True
            )
        for i, value in ((str(i), t.data) for i, t in made.members.items()):
            cut, place, full = {}, {}, []
            for a in map(str, value.dims):
                ratio = value.sizes[a] / shape[a] if a in starts and a != "channel" else 0
                h, p = int(halo.get(a, 0) * ratio), int(here.get(a, 0) * ratio)
                size = int(image.sizes[a] * ratio) if ratio else value.sizes[a]
                length = min(value.sizes[a] - 2 * h, size - p)
                cut[a], place[a] = slice(h, h + length), slice(p, p + length)
                full.append(size)
            if i not in canvas:
                canvas[i] = xr.DataArray(np.empty(full, value.dtype), dims=value.dims)
            canvas[i][place] = value.isel(cut)
    return canvas


def _pipeline(descr: Any, fixed: Mapping[Any, Any]) -> Any:
    from bioimageio.core import create_prediction_pipeline

    with _quiet():
        return create_prediction_pipeline(
            descr, weights_format="torchscript", devices=["cpu"], fixed_dataset_statistics=fixed
        )


def _sample(descr: Any, images: Arrays) -> Any:
    from bioimageio.core.digest_spec import create_sample_for_model

    return create_sample_for_model(descr, inputs={i: a.copy() for i, a in images.items()})


def _statistics(descr: Any, images: Arrays) -> dict[Any, Any]:
    """Core's own statistics of these images."""
    from bioimageio.core.proc_setup import get_requried_measures
    from bioimageio.core.stat_calculators import StatsCalculator

    needed = get_requried_measures(descr)
    with _quiet():
        return dict(
            StatsCalculator(needed.pre | needed.post).update_and_get_all(_sample(descr, images))
        )


class _quiet(warnings.catch_warnings):  # type: ignore[type-arg]
    """Core warns of much that is no news here."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("ignore")
        return entered


# ------------------------------------------------------------------------------------------- text


def _letters(tensor: Any) -> str:
    """Axes and sizes: b c1 y64+16n x256."""
    parts = []
    for axis in tensor.axes:
        size = getattr(axis, "size", None)
        if axis.type == "batch":
            parts.append("b")
        elif axis.type == "channel":
            parts.append(f"c{len(axis.channel_names)}")
        elif hasattr(size, "step"):
            parts.append(f"{axis.id}{size.min}+{size.step}n")
        else:
            parts.append(f"{axis.id}{size}")
    return " ".join(parts)


def _shape(array: xr.DataArray) -> dict[str, int]:
    return {str(a): n for a, n in array.sizes.items() if a != "batch"}


def _line(error: Exception) -> str:
    """An exception in one line; TorchScript tells the cause on the last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else ""
    return f"{type(error).__name__}: {text}"[:160]
