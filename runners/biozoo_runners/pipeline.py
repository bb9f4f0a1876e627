"""A loaded model: an image goes in, a result and the report of the run come out.

    fit the image to the model -> plan tiles -> per position along axes the model lacks:
    read -> statistics of the whole -> per tile: cut, preprocess, run, postprocess, place

Results are allocated once and tiles are written into their places. Statistics are those of one
position (a 2D model on a z-stack: of each plane), because that is what the model calls an image.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from biozoo.errors import BiozooError, Cancelled, OutOfMemoryError, UsageError

from .prepare import Channel, Fitting, as_image, fit
from .program import program_of
from .report import Asked, RunReport, peak_memory
from .run import run_items
from .tiling import TilePlan, plan_tiles

if TYPE_CHECKING:
    import xarray as xr

    from biozoo.package import ModelPackage

    from .base import Backend, BackendInfo
    from .images.base import Image
    from .instances import InstancesConfig
    from .prepare import ImageLike

    Images = ImageLike | Mapping[str, ImageLike]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: `done` of `total` tiles; `stage` says what is being done."""

    done: int
    total: int
    stage: str


class Result(Mapping[str, "xr.DataArray"]):
    """Output tensors by id, plus "labels" where the package says how to make objects.

    Each array's dims are those of the output, without the model's batch axis, plus the image's
    axes that the model lacks (then in the order of OME); coordinate "channel" holds the output's
    channel names, attrs "pixel_size" and "unit" are the image's, scaled where the output is.
    """

    def __init__(self, tensors: Mapping[str, xr.DataArray], report: RunReport) -> None:
        self._tensors = dict(tensors)
        self.report = report

    def __getitem__(self, tensor: str) -> xr.DataArray:
        return self._tensors[tensor]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        return f"Result({', '.join(f'{i} {dict(a.sizes)}' for i, a in self.items())})"

    @property
    def main(self) -> xr.DataArray:
        """The labels where there are any, else the only output.

        Raises
        ------
        UsageError
            If there are several outputs and no labels.
        """
        if "labels" in self:
            return self["labels"]
        if len(self) > 1:
            raise UsageError(
                f"The model has {len(self)} outputs: {', '.join(self)}. Name the one you want; on "
                "the command line give a folder: -o FOLDER."
            )
        return next(iter(self.values()))


class Runner:
    """A loaded model; call it with an image. Made by `load`, ended by `close` or `with`."""

    def __init__(
        self,
        package: ModelPackage,
        backend: Backend,
        *,
        asked: Asked | None = None,
        why: str = "",
        load_seconds: float = 0.0,
    ) -> None:
        """Join a package and an opened backend; `why` says how the device was chosen."""
        program = program_of(package)
        self.package = package
        self.backend = backend
        self.geometry = program.geometry
        self.preprocessing = program.preprocessing
        self.postprocessing = program.postprocessing
        self.instances = program.instances
        self._asked = asked or Asked()
        self._why = why
        self._load_seconds = load_seconds

    @property
    def info(self) -> BackendInfo:
        """What is loaded and where it runs."""
        return self.backend.info

    @property
    def outputs(self) -> tuple[str, ...]:
        """Ids of what a run gives: the output tensors, then "labels" if there are any."""
        ids = tuple(t.id for t in self.geometry.outputs)
        return (*ids, "labels") if self.instances else ids

    def close(self) -> None:
        """Free the weights; may be called twice."""
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def plan(
        self,
        image: Images,
        *,
        axes: str | Sequence[str] | None = None,
        channel: Channel | Mapping[str, Channel] | None = None,
        tile: Mapping[str, int] | None = None,
    ) -> TilePlan:
        """The tiles that a call with these arguments would run; reads no pixels."""
        fitting = fit(self.geometry, images_of(image, axes), channel)
        return plan_tiles(self.geometry, fitting.sizes, tile=tile)

    def __call__(
        self,
        image: Images,
        *,
        axes: str | Sequence[str] | None = None,
        channel: Channel | Mapping[str, Channel] | None = None,
        tile: Mapping[str, int] | None = None,
        min_size: int | None = None,
        fill_holes: bool | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Result:
        """Run the model on one image.

        Parameters
        ----------
        image
            A path, a numpy array (with `axes`), a `DataArray`, an `Image`; for a model with
            several inputs one of those per input tensor id.
        axes
            The image's axes, slowest first ("tczyx"), where it does not say them itself.
        channel
            Which channel(s) to take where the image has more than the model takes: number, name,
            "gray" (the mean of an RGB image), or several.
        tile
            Tile size by axis id, halo included.
        min_size, fill_holes
            For the labels, in place of the package's own values.
        on_progress
            Called before the first and after each tile, from this thread.
        cancelled
            Asked before each tile; True stops the run.

        Raises
        ------
        UsageError
            And its leaves `AxesError`, `ChannelChoiceError`, `ImageMismatchError`: the image does
            not fit the model, a choice is left to the caller, or `min_size` or `fill_holes` is
            given to a model that makes no objects.
        ImageReadError, MissingFileError
            The image cannot be read.
        OutOfMemoryError
            Image, result or tile does not fit in memory.
        BackendError
            The network failed, or made something else than its description says.
        Cancelled
            Stopped by `cancelled`.
        """
        if self.instances is None and not (min_size is None and fill_holes is None):
            raise UsageError(
                f"Model '{self.package.id}' does not say how objects are made, so it gives no "
                "labels. Leave --min-size, --fill-holes and --keep-holes out."
            )
        start = time.perf_counter()
        fitting = fit(self.geometry, images_of(image, axes), channel)
        plan = plan_tiles(self.geometry, fitting.sizes, tile=tile)
        total, done = len(plan) * len(fitting), -1
        objects: int | None = None

        def on_tile() -> None:
            nonlocal done
            done += 1
            if on_progress is not None:
                on_progress(Progress(done, total, "running"))
            if cancelled is not None and cancelled():
                raise Cancelled

        try:
            tensors, seconds, notes = run_items(
                self.backend,
                self.geometry,
                (self.preprocessing, self.postprocessing),
                fitting,
                plan,
                on_tile,
            )
            if self.instances is not None:
                if on_progress is not None:
                    on_progress(Progress(total, total, "objects"))
                labels = _labels(tensors, self.instances, fitting, min_size, fill_holes)
                tensors["labels"] = labels
                # Objects are counted anew at each position along axes that the model lacks.
                one = [d for d in labels.dims if d not in fitting.loops]
                objects = int(labels.max(one).sum())
        except MemoryError as exc:
            if isinstance(exc, BiozooError):
                raise
            raise OutOfMemoryError(
                f"There is not enough memory to run '{self.package.id}' on this image. Use smaller "
                "tiles, for example --tile y=256,x=256, or crop the image."
            ) from exc
        if on_progress is not None:
            on_progress(Progress(total, total, "done"))
        asked = replace(self._asked, tile=tile, channel=None if channel is None else str(channel))
        report = RunReport(
            model=self.package.id,
            version=self.package.version,
            asked=asked,
            ran=self.info,
            plan=plan.summary,
            tiles=len(plan),
            items=len(fitting),
            seconds={
                "load": self._load_seconds,
                **seconds,
                "total": time.perf_counter() - start,
            },
            megapixels=plan.pixels * len(fitting) / 1e6,
            peak_memory=peak_memory(),
            objects=objects,
            notes=tuple(filter(None, (self._why, *fitting.notes, *plan_notes(plan), *notes))),
        )
        return Result(tensors, report)


def load(
    package: ModelPackage | str | Path,
    *,
    device: str = "auto",
    weights: str | None = None,
    threads: int | None = None,
) -> Runner:
    """Load a model for running.

    Parameters
    ----------
    package
        A `ModelPackage`, or what `biozoo.open` takes: id, folder, .zip, URL.
    device
        "auto", "cpu", "cuda" or "cuda:1". "auto" that lands on the CPU says why in the report.
    weights
        A weights format ("onnx", ...); None takes the best that runs here.
    threads
        CPU threads of one operation; None takes the usable cores.

    Raises
    ------
    NoBackendError
        Nothing here can execute any of the weights; it lists why for each.
    DeviceError
        The asked device is missing.
    UntrustedCodeError
        The package would run its author's code.
    InvalidPackageError
        The description is not valid.
    """
    import biozoo

    from .devices import detect
    from .selection import Wish, open_selected, select

    start = time.perf_counter()
    if isinstance(package, str | Path):
        package = biozoo.open(package)
    wish = Wish(device, weights, threads)
    chosen = select(package, detect(), wish, *known_backends())
    backend, why = open_selected(package, chosen, wish)
    try:
        return Runner(
            package,
            backend,
            asked=Asked(device, weights, threads),
            why=why,
            load_seconds=time.perf_counter() - start,
        )
    except BaseException:
        backend.close()
        raise


def known_backends() -> tuple[dict[str, type[Backend]], dict[str, str]]:
    """Backends by name, and why others could not be loaded."""
    from biozoo.plugins import load_group

    from .base import Backend

    plugins = load_group("biozoo.backends")
    found: dict[str, type[Backend]] = {}
    failed = dict(plugins.failed)
    for name, value in plugins.loaded.items():
        if isinstance(value, type) and issubclass(value, Backend):
            found[name] = value
        else:
            failed[name] = f"{value!r} is no biozoo_runners.Backend"
    return found, failed


def plan_notes(plan: TilePlan) -> Iterator[str]:
    """What a user should know of a plan."""
    if plan.padded:
        what = ", ".join(f"{a} from {n} to {to}" for a, (n, to) in plan.padded.items())
        yield f"padded along {what}, sizes that the model takes, and the result cropped back"
    bare = [g.id for g in plan.grid if len(g.starts) > 1 and not g.halo and g.overlap <= 0]
    if bare:
        yield (
            f"the model declares no halo: tiles meet along {', '.join(bare)} without context, and "
            "seams may show where they meet"
        )


def images_of(images: Images, axes: str | Sequence[str] | None) -> Image | dict[str, Image]:
    """`Image`s of what a caller gave."""
    if isinstance(images, Mapping):
        return {str(i): as_image(source, axes) for i, source in images.items()}
    return as_image(images, axes)


def _labels(
    tensors: Mapping[str, xr.DataArray],
    config: InstancesConfig,
    fitting: Fitting,
    min_size: int | None,
    fill_holes: bool | None,
) -> xr.DataArray:
    """Numbered objects; plane by plane where the model itself knows no z."""
    import xarray as xr

    from .instances import instances

    prediction = tensors[config.output]
    if "z" not in fitting.loops:
        return instances(prediction, config, min_size=min_size, fill_holes=fill_holes)
    planes = [
        instances(prediction.isel(z=z), config, min_size=min_size, fill_holes=fill_holes)
        for z in range(prediction.sizes["z"])
    ]
    stacked = xr.concat(planes, "z").transpose(*(d for d in prediction.dims if d != "channel"))
    return stacked.assign_attrs(prediction.attrs)
