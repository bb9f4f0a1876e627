"""Opens a package for live mode, and joins features, refit, overlay and keeping."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.closing import Closing

from .features import Extractor, Features
from .graph import LOGITS
from .head import Head
from .objects import objects_of
from .opening import Opened, open_parts
from .refit import refit

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from biozoo.package import ModelPackage
    from biozoo_runners.prepare import Channel, ImageLike
    from biozoo_runners.rescale import Scale
    from biozoo_runners.sizes import TensorGeometry

    from .child import ChildFacts

    Painted = tuple[Features, NDArray[np.int32]]

__all__ = ["LiveModel", "LiveResult", "open_live"]


@dataclass(frozen=True, eq=False)
class LiveResult:
    """What a head says of a region, in the pixels of the image.

    Attributes
    ----------
    tensors
        The output's maps by its id (channel and space), and "labels" (space) where the package
        makes objects; coords and attrs are those that a run of the package gives.
    seconds
        By stage: "apply", "objects".
    """

    tensors: Mapping[str, xr.DataArray]
    seconds: Mapping[str, float]


class LiveModel(Closing):
    """A model opened for live mode; made by `open_live`, ended by `close` or `with`.

    One thread at a time may use it.

    Attributes
    ----------
    package
        The parent.
    parent
        Its own last layer.
    output
        Id of the output tensor that the last layer makes.
    channels
        Names of the output's channels.
    classes
        What the painted values mean, by value: ("background", "object"), or one per class.
    """

    def __init__(self, opened: Opened, *, threads: int | None = None) -> None:
        """Load the two halves of the network."""
        from biozoo_runners.onnx import OnnxBackend

        self._opened = opened
        self.package, self.output = opened.package, opened.output
        self.channels = opened.names
        parts = opened.parts
        with tempfile.TemporaryDirectory(prefix="biozoo-live-") as folder:
            root = Path(folder)
            (root / "features.onnx").write_bytes(parts.features())
            (root / "tail.onnx").write_bytes(parts.tail())
            self._network = OnnxBackend(
                root / "features.onnx",
                root=root,
                model=self.package.id,
                input_ids=opened.input_ids,
                output_ids=(self.output,),
                optional=opened.optional,
                threads=threads,
            )
            self._tail = OnnxBackend(
                root / "tail.onnx",
                root=root,
                model=self.package.id,
                input_ids=(LOGITS,),
                output_ids=(self.output,),
                threads=threads,
            )
        self.parent = Head(parts.weight, parts.bias, instances=opened.program.instances)
        self._extract = Extractor(
            self.package, opened.program, self._network, self.output, parts.weight.shape[1]
        )
        try:
            self.link = opened.link(self._behind)
        except BaseException:
            self.close()
            raise
        self.classes = self.link.classes

    # ------------------------------------------------------------------------------------ an image

    def features(
        self,
        image: ImageLike,
        *,
        region: Mapping[str, tuple[int, int]] | None = None,
        axes: str | Sequence[str] | None = None,
        channel: Channel | None = None,
        scale: Scale | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Features:
        """Compute the features of a region once.

        Parameters
        ----------
        image, axes, channel, scale
            As for a run, see `biozoo_runners.Runner`.
        region
            First pixel and the one after the last by axis of the image; axes that are not named
            are taken whole, None is the whole image. Along an axis that the model lacks (planes of
            a stack for a 2D model) it holds one position.
        cancelled
            Asked before each tile; True stops.

        Raises
        ------
        UsageError
            The image does not fit, or has no such region.
        ImageReadError, OutOfMemoryError, BackendError
            As a run.
        Cancelled
            Stopped by `cancelled`.
        """
        return self._extract(
            image, region=region, axes=axes, channel=channel, scale=scale, cancelled=cancelled
        )

    # -------------------------------------------------------------------------------------- a head

    def refit(
        self,
        features: Features | Sequence[Painted],
        scribbles: NDArray[np.int32] | None = None,
    ) -> Head:
        """The last layer refitted to painted pixels.

        Parameters
        ----------
        features
            Of one region, or several with what is painted on each: [(features, scribbles), ...].
        scribbles
            int32 of `features.shape`: -1 unpainted, 0 background, 1 object or the first class, ...
            as in `classes`.

        Raises
        ------
        UsageError
            Nothing is painted, a value is no class, or the shape is another.
        """
        start = time.perf_counter()
        painted = (
            [(features, np.asarray(scribbles))]
            if isinstance(features, Features)
            else [(f, np.asarray(s)) for f, s in features]
        )
        head = refit(painted, self.parent, self.link, late=self._opened.parts.late)
        config, notes = head.instances, list(head.notes)
        if config is not None:
            front, seen = config.foreground, painted[-1][0]
            old, new = (self._of(seen.coarse, h)[front] for h in (self.parent, head))
            config, changed = objects_of(config, old, new)
            if changed:
                notes.append(
                    "the model's own way to tell objects apart does not fit this image: objects "
                    "are made of what it now finds to be one"
                )
        return replace(
            head,
            instances=config,
            refitted=self._differ(painted[-1][0], head),
            notes=tuple(notes),
            seconds=time.perf_counter() - start,
        )

    def apply(self, features: Features, head: Head | None = None) -> xr.DataArray:
        """The package's output at the model's scale.

        Parameters
        ----------
        head
            None is the parent's.

        Returns
        -------
        xr.DataArray
            Dims channel and the region's space axes; type and channel names are the output's.
        """
        import xarray as xr

        maps = self._of(features.values.values, head or self.parent, features)
        values = features.values
        coords = {"channel": list(self.channels)} if len(self.channels) == len(maps) else {}
        return xr.DataArray(
            maps, dims=values.dims, coords=coords, attrs=values.attrs, name=self.output
        )

    def labels(self, maps: xr.DataArray, head: Head | None = None) -> xr.DataArray | None:
        """Objects of `apply`'s maps, by the rule of the package or of the refitted head.

        Returns
        -------
        xr.DataArray
            int32 without channels; None where the package says no rule.
        """
        config = (head or self.parent).instances
        if config is None:
            return None
        from biozoo_runners.instances import instances

        return instances(maps, config)

    def result(self, features: Features, head: Head | None = None) -> LiveResult:
        """Maps and labels in the pixels of the image: what an overlay shows."""
        start = time.perf_counter()
        maps = self.apply(features, head)
        tensors, between = {self.output: maps}, time.perf_counter()
        labels = self.labels(maps, head)
        if labels is not None:
            tensors["labels"] = labels
        done = time.perf_counter()
        if features.scaling is not None:
            tensors = features.scaling.back(
                self._opened.program.geometry.final,
                tensors,
                ("labels",) if labels is not None else (),
                labels_of=self.output,
            )
        back = time.perf_counter() - done
        seconds = {"apply": between - start + back}
        if labels is not None:
            seconds["objects"] = done - between
        return LiveResult(tensors, seconds)

    def child(self, head: Head, target: Path, *, facts: ChildFacts) -> Path:
        """Keep a refitted head as a package.

        Parameters
        ----------
        target
            A path that ends in ``.zip``, or a folder.

        Returns
        -------
        Path
            `target`, where a whole and proven package is now.

        Raises
        ------
        ConversionError
            The graph with the new layer does not agree with the layer on the features.
        NetworkError
            It gives nothing but zeros for the parent's test image.
        InvalidPackageError, StorageError
            The description is refused, or nothing can be written there.
        """
        from .child import write_child

        return write_child(self, head, target, facts)

    def close(self) -> None:
        """Free the network; may be called twice."""
        self._network.close()
        self._tail.close()

    # ------------------------------------------------------------------------------------- helpers

    def with_head(self, head: Head) -> bytes:
        """The package's whole ONNX graph with another last layer."""
        return self._opened.parts.with_head(head.weight, head.bias)

    @property
    def input_ids(self) -> tuple[str, ...]:
        """Of the package's inputs."""
        return self._opened.input_ids

    @property
    def outputs(self) -> tuple[TensorGeometry, ...]:
        """All outputs of the package, as the network makes them."""
        return self._opened.program.geometry.outputs

    def run_network(
        self, inputs: Mapping[str, NDArray[Any]], head: Head
    ) -> dict[str, NDArray[Any]]:
        """All outputs as the network makes them, for inputs as it takes them, batch included.

        Features and head, without the graph that holds both: what a kept package is proven by.
        """
        values = self._network.run(inputs)[self.output]
        logits = np.stack([_linear(item, head) for item in values])
        made = self._tail.run({LOGITS: logits.astype(values.dtype, copy=False)})
        if len(self.outputs) > 1:  # the others are the parent's
            from biozoo_runners.onnx import OnnxBackend

            with OnnxBackend.open(self.package, "onnx", device="cpu") as whole:
                made = {**whole.run(inputs), **made}
        return made

    def _of(
        self, values: NDArray[np.float32], head: Head, features: Features | None = None
    ) -> NDArray[Any]:
        """The output (channels, ...) of features (features, ...)."""
        return self._behind(_linear(values, head), features)

    def _behind(
        self, logits: NDArray[np.float32], features: Features | None = None
    ) -> NDArray[Any]:
        """The output (channels, ...) of logits (channels, ...)."""
        from biozoo_runners.statistics import Stats

        parts, chain, space = self._opened.parts, self._opened.chain, logits.shape[1:]
        shape = (1, len(logits), *(1,) * (parts.dims - len(space)), *space)
        given = logits.reshape(shape).astype(parts.dtype, copy=False)
        made = self._tail.run({LOGITS: given})[self.output]
        if features is not None or not chain.measures:
            stats = Stats() if features is None else features.stats
            made = chain.finish(made, chain.axes, stats)
        return np.asarray(made.reshape(made.shape[1], *space))

    def _differ(self, features: Features, head: Head) -> tuple[str, ...]:
        """Names of the output's channels that the head changes."""
        few = np.ascontiguousarray(features.at(features.sample[:256]).T, np.float32)
        old, new = (self._of(few, h).astype(np.float64) for h in (self.parent, head))
        return tuple(
            name
            for name, a, b in zip(self.channels, old, new, strict=False)
            if not np.allclose(a, b, atol=1e-4)
        )


def _linear(values: NDArray[Any], head: Head) -> NDArray[np.float32]:
    """The layer on features (features, ...): (channels, ...)."""
    flat = values.reshape(len(values), -1).astype(np.float32, copy=False)
    logits = head.weight @ flat
    logits += head.bias[:, None]
    return logits.reshape(len(logits), *values.shape[1:])


def open_live(package: ModelPackage | str | Path, *, threads: int | None = None) -> LiveModel:
    """Open a package for live mode; needs onnx and onnxruntime, no torch.

    Parameters
    ----------
    package
        A `ModelPackage`, or what `biozoo.open` takes.
    threads
        CPU threads of the network; None takes the usable cores.

    Raises
    ------
    NetworkError
        Its last layer cannot be refitted; says why.
    MissingDependencyError
        onnx or onnxruntime is not installed.
    BackendError, InvalidPackageError
        The graph cannot be loaded, the description is not valid.
    """
    import biozoo

    if isinstance(package, str | Path):
        package = biozoo.open(package)
    return LiveModel(open_parts(package), threads=threads)
