"""Runs the models that fit, one after the other, at every scale; one that fails stops no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biozoo.errors import BiozooError, Cancelled, NoBackendError, UsageError

from .candidates import Candidate, candidates
from .judging import Truth, count, cropped, judge, made_of, plane, read_truth
from .region import Bounds, Region, settle
from .result import Comparison, Entry, Skipped

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr
    from numpy.typing import NDArray

    from biozoo.package import ModelPackage

    from ..images.base import Image
    from ..pipeline import Progress, Result, Runner
    from ..prepare import Channel, ImageLike

__all__ = ["SCALES", "compare"]

#: Half steps from half to twice the size: a model's objects are rarely more wrong than that.
SCALES = (0.5, 0.71, 1.0, 1.41, 2.0)

#: Steps of one run in the progress of a comparison.
STEPS = 100
#: Pixels per axis of a first run that is not timed: frameworks set themselves up in it.
WARM = 128


def compare(
    image: ImageLike,
    models: Sequence[ModelPackage | str | Path] | None = None,
    *,
    scales: Sequence[float | str] = SCALES,
    labels: ImageLike | None = None,
    region: str | Mapping[str, Bounds] | None = None,
    axes: str | Sequence[str] | None = None,
    channel: Channel | None = None,
    tile: Mapping[str, int] | None = None,
    device: str = "auto",
    threads: int | None = None,
    on_download: Callable[[str, int, int | None], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Comparison:
    """Run several models on one region of an image, at several scales.

    Parameters
    ----------
    image
        A path, a numpy array (with `axes`), a `DataArray` or an `Image`.
    models
        Packages, or what `biozoo.open` takes; None: the built-in and installed ones. Those that do
        not fit the image, or cannot run here, are in `Comparison.skipped` with the reason.
    scales
        How large each model sees the region: 2 shows objects twice as large. See `rescale`.
    labels
        Annotation as large as the image. Models that find objects are ranked by AP50, those that
        give a foreground only by Dice.
    region
        "all", "y=100:612,x=0:512" or the same as a mapping; None: the most varied part of at most
        512 x 512 pixels, of the middle plane. Models normalise by what they get, the region.
        A model that takes stacks gets the planes around a single one; that one is scored.
    axes, channel, tile
        As for `Runner`. `channel` is used where a model does not take all channels of the image.
    device, threads
        As for `load`.
    on_download
        Called with (name, bytes so far, all or None) while a model is fetched.
    on_progress
        Called as the work goes on; a run counts 100.
    cancelled
        Asked before each tile; True stops.

    Raises
    ------
    UsageError
        The region, a scale or the labels do not fit the image.
    NoBackendError
        No model is left that fits and runs; it lists why for each.
    NotFoundError, MissingFileError, ImageReadError
        The image, the labels or a named model cannot be had.
    Cancelled
        Stopped by `cancelled`.
    """
    from ..pipeline import Progress, load
    from ..prepare import as_image
    from ..rescale import read_scale

    factors = tuple(dict.fromkeys(_number(read_scale(s)) for s in scales))
    if not factors:
        raise UsageError("No scale is given. Leave --scales out, or name some: --scales 0.5,1,2.")
    source = as_image(image, axes)
    where = settle(source, region)
    truth = None if labels is None else read_truth(labels, source, where)
    fitting, skipped = candidates(models, source, channel, on_download)
    volumes = where.sizes.get("z", 1) > 1 and all(c.solid for c in fitting)
    total = len(fitting) * len(factors) * STEPS
    entries: list[Entry] = []

    for number, candidate in enumerate(fitting):

        def forward(
            done: int, scale: float, number: int = number, c: Candidate = candidate
        ) -> None:
            if on_progress is not None:
                at = number * len(factors) * STEPS + done
                on_progress(Progress(at, total, f"{c.name} at scale {scale:g}"))

        try:
            runner = load(candidate.package, device=device, threads=threads)
        except Cancelled:
            raise
        except Exception as exc:
            skipped.append(Skipped(candidate.name, candidate.package.version, _told(exc)))
            continue
        with runner:
            work = _Work(runner, candidate, source, where, truth, volumes, tile, cancelled)
            for i, scale in enumerate(factors):

                def within(p: Progress, i: int = i, scale: float = scale) -> None:
                    forward(i * STEPS + STEPS * p.done // max(p.total, 1), scale)

                entries.append(work.entry(scale, within))
    if not entries:
        raise _nothing(source, skipped)
    if on_progress is not None:
        on_progress(Progress(total, total, "done"))
    return Comparison(
        image=_name(source),
        region=where,
        scales=factors,
        entries=tuple(entries),
        skipped=tuple(skipped),
        labels=truth.name if truth else "",
        sources=tuple(p for p in (source.path, truth.path if truth else None) if p is not None),
        picture=_picture(source, where, channel),
        truth=plane(truth.data) if truth else None,
    )


def _nothing(image: Image, skipped: Sequence[Skipped]) -> NoBackendError:
    """The error for an image that no model is left for."""
    listed = "".join(f"\n  {s}" for s in skipped) or "\n  there is no model here"
    error = NoBackendError(package=_name(image), reasons={s.model: s.why for s in skipped})
    error.args = (
        f"No model can be compared on {_name(image)}:{listed}\n"
        "Name models that fit it, zoo compare IMAGE MODEL...; zoo search finds some.",
    )
    return error


@dataclass(frozen=True)
class _Work:
    """One loaded model on the region."""

    runner: Runner
    candidate: Candidate
    image: Image
    region: Region
    truth: Truth | None
    volumes: bool
    tile: Mapping[str, int] | None
    cancelled: Callable[[], bool] | None

    @cached_property
    def given(self) -> Region:
        """What the model gets: more planes than the one shown, where it takes stacks."""
        return self.region.deeper(self.image) if self.candidate.solid else self.region

    @cached_property
    def pixels(self) -> xr.DataArray:
        """Of `given`; a first run on a few of them is over before any time is taken."""
        pixels = self.given.read(self.image)
        few = {a: slice(0, WARM) for a in ("z", "y", "x") if a in pixels.dims}
        with suppress(BiozooError):
            self._run(pixels.isel(few), 1.0, None)
        return pixels

    def _run(
        self, pixels: xr.DataArray, scale: float, on_progress: Callable[[Progress], None] | None
    ) -> Result:
        return self.runner(
            pixels,
            channel=self.candidate.channel,
            tile=self.tile,
            scale=scale,
            on_progress=on_progress,
            cancelled=self.cancelled,
        )

    def entry(self, scale: float, on_progress: Callable[[Progress], None]) -> Entry:
        """The result at one scale, or what went wrong."""
        entry = Entry(self.candidate.name, self.candidate.package.version, scale)
        try:
            result = self._run(self.pixels, scale, on_progress)
            return self._judged(entry, result)
        except Cancelled:
            raise
        # A model that fails in a new way must not stop the others.
        except Exception as exc:
            return replace(entry, fault=_told(exc))

    def _judged(self, entry: Entry, result: Result) -> Entry:
        report = result.report
        entry = replace(
            entry,
            seconds=report.seconds["total"],
            seconds_per_megapixel=report.seconds_per_megapixel,
            load_seconds=report.seconds["load"],
            ran=f"{report.ran.weights_format} on {report.ran.device}, {report.ran.backend}",
            notes=report.notes,
        )
        made = made_of(result)
        if made is None:
            made_instead = ", ".join(f"{i} ({dict(a.sizes)})" for i, a in result.items())
            return replace(entry, note=f"it makes no picture: {made_instead}")
        made = cropped(made, self.region, self.given)
        shown = plane(made.data)
        entry = replace(
            entry,
            objects=count(made, solid=self.candidate.solid),
            output=made.output,
            labels=shown if made.is_labels else None,
            values=None if made.is_labels else shown,
        )
        if self.truth is None:
            return entry
        score, measure, note = judge(made, self.truth, volumes=self.volumes)
        return replace(entry, score=score, measure=measure, note=note)


def _picture(image: Image, region: Region, channel: Channel | None) -> NDArray[Any]:
    """The shown plane: colours as they are, of several channels the chosen one or a mixture."""
    from ..images.preview import preview

    data = region.read(image)
    at = {a: n // 2 for a, n in data.sizes.items() if a not in ("y", "x", "channel")}
    shown = data.isel(at)
    if "channel" in shown.dims:
        if not image.rgb and isinstance(channel, int) and channel < shown.sizes["channel"]:
            shown = shown.isel(channel=channel)
        elif not image.rgb and isinstance(channel, str) and channel in image.channel_names:
            shown = shown.isel(channel=image.channel_names.index(channel))
        elif shown.sizes["channel"] > 1:
            return preview(shown, max_size=None)
        else:
            shown = shown.isel(channel=0)
    pixels: NDArray[Any] = shown.transpose("y", "x").values
    return pixels


def _name(image: Image) -> str:
    return str(image.path or image.name or "the image")


def _number(scale: object) -> float:
    if not isinstance(scale, float):
        raise UsageError(f"Scales of a comparison are numbers, not {scale!r}: for example 0.5,1,2.")
    return scale


def _told(error: Exception) -> str:
    """What went wrong; of an error that nobody expected, its kind too."""
    return str(error) if isinstance(error, BiozooError) else f"{type(error).__name__}: {error}"
