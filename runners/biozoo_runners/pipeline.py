"""A loaded model: an image goes in, a result and the report of the run come out.

    fit the image to the model -> plan tiles -> per position along axes the model lacks:
    read -> statistics of the whole -> per tile: cut, preprocess, run, postprocess, place

Results are allocated once and tiles are written into their places. Statistics are those of one
position (a 2D model on a z-stack: of each plane), because that is what the model calls an image.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from biozoo.closing import Closing
from biozoo.errors import BiozooError, Cancelled, OutOfMemoryError, UsageError

from .contexts import bare_axes, plan_with, recall
from .custom import bind, ready
from .kept_tiles import Keeper, model_digest
from .memory import HostMemory
from .prepare import Channel, Fitting, as_image, fit
from .program import program_of
from .report import Asked, RunReport
from .rescale import rescale, scale_text
from .result import Progress, Result, main_of
from .retile import Tiles
from .run import run_items
from .steps_external import count_objects

if TYPE_CHECKING:
    import xarray as xr

    from biozoo.package import ModelPackage

    from .base import Backend, BackendInfo
    from .images.base import Image
    from .instances import InstancesConfig
    from .kept_tiles import TileStore
    from .precision.settling import Decision, Settler
    from .prepare import ImageLike
    from .rescale import Scale
    from .sizes import ModelGeometry
    from .statistics import Stats
    from .tiling import TilePlan

    Images = ImageLike | Mapping[str, ImageLike]

__all__ = [
    "Progress",
    "Result",
    "Runner",
    "images_of",
    "known_backends",
    "load",
    "main_of",
    "plan_notes",
]


class Runner(Closing):
    """A loaded model; call it with an image. Made by `load`, ended by `close` or `with`."""

    def __init__(
        self,
        package: ModelPackage,
        backend: Backend,
        *,
        asked: Asked | None = None,
        why: str = "",
        load_seconds: float = 0.0,
        settler: Settler | None = None,
    ) -> None:
        """Join a package and an opened backend; `why` says how the device was chosen, and `settler`
        chooses another precision for each image.
        """
        program = program_of(package)
        self.package = package
        self.backend = backend
        self.geometry = program.geometry
        self.preprocessing = program.preprocessing
        self.instances = program.instances
        self.postprocessing, self._custom = bind(
            package, program.postprocessing, threads=backend.info.threads
        )
        self.asked = asked or Asked()
        self.load_seconds = load_seconds
        self._why = why
        self._settler = settler
        self._too_large: int | None = None  # pixels of a tile that memory was too small for

    @property
    def info(self) -> BackendInfo:
        """What is loaded and where it runs."""
        return self.backend.info

    @cached_property
    def digest(self) -> str:
        """Sha256 of what is loaded, see `kept_tiles.model_digest`; its files are read once."""
        return model_digest(self.package)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Ids of what a run gives: the output tensors, then "labels" if there are any."""
        ids = tuple(t.id for t in self.geometry.outputs)
        return (*ids, "labels") if self.instances else ids

    @property
    def label_images(self) -> tuple[str, ...]:
        """Ids of the results that hold the numbers of objects."""
        made = tuple(t for t, c in self.postprocessing.chains.items() if c.makes_labels)
        return tuple(dict.fromkeys((*made, "labels"))) if self.instances else made

    @property
    def main(self) -> str | None:
        """Id of the result that one file gets, None where the caller must name it."""
        return main_of(self.outputs, self.label_images)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of what was loaded: why this device, the package's own steps."""
        custom = self._custom.notes if self._custom is not None else ()
        return tuple(filter(None, (self._why, *self.info.notes, *custom)))

    @property
    def child_memory(self) -> int:
        """Most resident bytes so far of the processes that the model lives in; 0 without any."""
        custom = self._custom.peak_memory if self._custom is not None else 0
        return self.backend.peak_host_memory + custom

    def close(self) -> None:
        """Free the weights, end the process of custom steps; may be called twice."""
        if self._custom is not None:
            self._custom.close()
        self.backend.close()

    def plan(
        self,
        image: Images,
        *,
        axes: str | Sequence[str] | None = None,
        channel: Channel | Mapping[str, Channel] | None = None,
        tile: Mapping[str, int] | None = None,
        scale: Scale | None = None,
    ) -> TilePlan:
        """The tiles that a call with these arguments would run; reads no pixels."""
        scaling = rescale(fit(self.geometry, images_of(image, axes), channel), scale)
        return self.plan_of(scaling.fitting, tile)[1]

    def plan_of(
        self, fitting: Fitting, tile: Mapping[str, int] | None
    ) -> tuple[ModelGeometry, TilePlan, str]:
        """The tiles of an image that was fitted to this model; see `plan_with`."""
        return plan_with(self.geometry, fitting.sizes, tile, lambda: recall(self.package))

    def settle(
        self, fitting: Fitting, plan: TilePlan, stats: Callable[[], Stats] | None = None
    ) -> Decision | None:
        """Choose what runs an image, where another precision than float32 was asked for.

        `stats` gives the statistics of the middle item; None measures them with it in memory.

        `info` is that of the choice afterwards. Raises as `Settler.settle` does.
        """
        if self._settler is None:
            return None
        from .precision.cases import Steps, scene_of

        dims = {t.id: t.dims for t in self.geometry.outputs}
        steps = Steps(self.preprocessing, self.postprocessing, self.instances, dims)
        scene = scene_of(fitting, plan, steps, stats)
        self.backend, decision = self._settler.settle(self.backend, scene, steps)
        return decision

    def check_objects(self, min_size: int | None, fill_holes: bool | None) -> None:
        """Refuse wishes for objects where there are none to be made; raises `UsageError`."""
        if self.instances is None and not (min_size is None and fill_holes is None):
            why = "makes its objects by its own postprocessing"
            if not self.label_images:
                why = "does not say how objects are made, so it gives no labels"
            raise UsageError(
                f"Model '{self.package.id}' {why}. Leave --min-size, --fill-holes and "
                "--keep-holes out."
            )

    def __call__(
        self,
        image: Images,
        *,
        axes: str | Sequence[str] | None = None,
        channel: Channel | Mapping[str, Channel] | None = None,
        tile: Mapping[str, int] | None = None,
        scale: Scale | None = None,
        min_size: int | None = None,
        fill_holes: bool | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        kept: TileStore | None = None,
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
            Tile size by axis id, halo included; in pixels that the model gets.
        scale
            Run the image rescaled by this factor (below 1: smaller) along y and x, by a factor
            per axis, or by "auto"; results have the image's own size again. See `rescale`.
        min_size, fill_holes
            For the labels, in place of the package's own values; `min_size` in pixels of the image.
        on_progress
            Called before the first and after each tile, from this thread.
        cancelled
            Asked before each tile; True stops the run.
        kept
            Where finished tiles are kept (`kept_tiles.TileFolder`): those that are there already
            are not computed, and the result is the same to the bit.

        Raises
        ------
        UsageError
            And its leaves `AxesError`, `ChannelChoiceError`, `ImageMismatchError`: the image does
            not fit the model, a choice is left to the caller, `scale` cannot be used, or
            `min_size` or `fill_holes` is given to a model that makes no objects.
        ImageReadError, MissingFileError
            The image cannot be read.
        OutOfMemoryError
            Image or result does not fit in memory, or the smallest tile that the model takes.
            Larger tiles, asked for or not, are halved until they fit, and the report says so.
        BackendError
            The network failed, or made something else than its description says.
        Cancelled
            Stopped by `cancelled`.
        StorageError
            A tile cannot be kept.
        PrecisionError
            The asked precision does not agree with float32 on this image.
        """
        self.check_objects(min_size, fill_holes)
        start, memory = time.perf_counter(), HostMemory()
        scaling = rescale(fit(self.geometry, images_of(image, axes), channel), scale)
        fitting = scaling.fitting
        geometry, plan, context_note = self.plan_of(fitting, tile)
        decision = self.settle(fitting, plan)
        tiles = Tiles(
            self.backend,
            geometry,
            fitting,
            plan,
            name=self.package.id,
            too_large=self._too_large,
            asked=tile,
            kept=None if kept is None else Keeper.of_run(kept, self.digest, self.info),
        )
        objects: int | None = None

        def on_tile() -> None:
            memory.look()
            if on_progress is not None:
                on_progress(Progress(tiles.done, tiles.total, "running", tiles.found))
            if cancelled is not None and cancelled():
                raise Cancelled

        try:
            tensors, seconds, notes = run_items(
                self.geometry,
                (self.preprocessing, self.postprocessing),
                fitting,
                tiles,
                on_tile,
            )
            memory.look()
            plan, total = tiles.plan, tiles.total
            if self.instances is not None:
                if on_progress is not None:
                    on_progress(Progress(total, total, "objects", tiles.found))
                smallest = scaling.smallest(min_size)
                labels = _labels(tensors, self.instances, fitting, smallest, fill_holes)
                tensors["labels"] = labels
            tensors = scaling.back(
                self.geometry.final,
                tensors,
                self.label_images,
                labels_of=self.instances.output if self.instances else "",
            )
            if self.main in self.label_images:
                # Objects are counted anew at each position along axes that the model lacks.
                objects = count_objects(tensors[self.main], fitting.loops)
        except MemoryError as exc:
            if isinstance(exc, BiozooError):
                raise
            raise OutOfMemoryError(
                f"There is not enough memory to run '{self.package.id}' on this image. Use smaller "
                "tiles, for example --tile y=256,x=256, or crop the image."
            ) from exc
        finally:  # what an image taught of the memory is for the next image too
            self._too_large = tiles.too_large
        if on_progress is not None:
            on_progress(Progress(total, total, "done", tiles.found))
        asked = replace(
            self.asked,
            tile=tile,
            channel=None if channel is None else str(channel),
            scale=scale_text(scale),
        )
        report = RunReport(
            model=self.package.id,
            version=self.package.version,
            asked=asked,
            ran=self.info,
            plan=plan.summary,
            tiles=len(plan),
            items=len(fitting),
            seconds={
                "load": self.load_seconds,
                **seconds,
                "total": time.perf_counter() - start,
            },
            megapixels=plan.pixels * scaling.pixels * len(fitting) / 1e6,
            peak_memory=memory.peak,
            added_memory=memory.added,
            child_memory=self.child_memory,
            device_memory=self.backend.peak_device_memory,
            objects=objects,
            precision=decision,
            notes=tuple(
                filter(
                    None,
                    (
                        *self.notes,
                        *(decision.notes if decision is not None else ()),
                        *tiles.notes,
                        *fitting.notes,
                        context_note,
                        *plan_notes(plan),
                        *notes,
                    ),
                )
            ),
        )
        return Result(tensors, report, self.label_images)


def load(
    package: ModelPackage | str | Path,
    *,
    device: str = "auto",
    weights: str | None = None,
    threads: int | None = None,
    backend: str | None = None,
    precision: str = "float32",
    tolerance: float | None = None,
    proven: bool = False,
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
    backend
        What executes them ("onnxruntime", "openvino", ...); None takes the first that can.
    precision
        "float32" runs the weights as they are. "bfloat16", "float16" and "int8" are used only where
        the package's test tensors and a few tiles of the image agree with float32, which a call
        with an image finds out. "auto" takes the fastest backend and precision that agrees, and
        remembers it for this package on this machine.
    tolerance
        The largest difference to accept for that, in units of the output, in place of the
        package's own tolerance.
    proven
        Another process has made the proof: the asked precision is run as it is.

    Raises
    ------
    UsageError
        There is no such precision, or a tolerance without a use.
    NoBackendError
        Nothing here can execute any of the weights, or in the asked precision; it lists why for
        each.
    DeviceError
        The asked device is missing.
    UntrustedCodeError
        The package would run its author's code, which nobody has allowed.
    MissingDependencyError
        The library that its postprocessing needs is not installed.
    InvalidPackageError
        The description is not valid.
    """
    import biozoo
    from biozoo.consent import is_trusted

    from .devices import detect
    from .precision.wishes import FLOAT32, check_wish
    from .selection import Wish, open_selected, select

    start = time.perf_counter()
    check_wish(precision, tolerance)
    if isinstance(package, str | Path):
        package = biozoo.open(package)
    wish, machine, trusted = Wish(device, weights, threads, backend), detect(), is_trusted(package)
    backends, failed = known_backends()
    chosen = select(package, machine, wish, backends, failed, trusted=trusted)
    ready(package, program_of(package).postprocessing)
    lower = "" if precision == FLOAT32 else precision
    opened, why = open_selected(package, chosen, wish, precision=lower if proven else "")
    try:
        settler = None
        if lower and not proven:
            from .precision.candidates import Here
            from .precision.settling import Settler

            here = Here(machine, wish, backends, trusted)
            settler = Settler(package, here, chosen, opened.info, lower, tolerance)
        return Runner(
            package,
            opened,
            asked=Asked(
                device, weights, threads, backend=backend, precision=lower, tolerance=tolerance
            ),
            why=why,
            load_seconds=time.perf_counter() - start,
            settler=settler,
        )
    except BaseException:
        opened.close()
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
    if bare := bare_axes(plan):
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
