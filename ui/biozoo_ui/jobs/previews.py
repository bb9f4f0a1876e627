"""A model on the visible part of an image, at once, beside the jobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from biozoo.closing import Closing

from .images import cut_region, open_images
from .loaded import LoadedModels
from .model import Choices, JobImages
from .newest import NewestFirst, Stopped, SupersededError, Wish
from .overlay import Overlay, overlays
from .region import Range, View, region_of, same_region

if TYPE_CHECKING:
    from biozoo import ModelPackage
    from biozoo_runners import Image, Result

__all__ = ["Preview", "Previews", "SupersededError", "View"]


@dataclass(frozen=True)
class Preview:
    """What a preview found.

    Attributes
    ----------
    result
        Of the region.
    overlays
        How each result lies over the whole image.
    region
        What was run, by axis of the (first) image: first and the one after the last.
    whole
        Whether the model sees in it all that it would see in the whole image.
    seconds, load_seconds
        Of the run, reading included; of loading the model before it, 0 where it was loaded.
    """

    result: Result
    overlays: Mapping[str, Overlay]
    region: Mapping[str, Range]
    whole: bool
    seconds: float
    load_seconds: float


class Previews(Closing):
    """The previews of one server: one after the other, the newest first."""

    def __init__(self, models: LoadedModels) -> None:
        self._models = models
        self._queue = NewestFirst("biozoo-preview")
        self._digests = _Digests()

    def ask(
        self,
        package: ModelPackage,
        images: JobImages,
        view: View,
        choices: Choices | None = None,
        *,
        owner: str,
    ) -> Wish[Preview]:
        """Have a preview made; an older one of the same owner is given up (`SupersededError`)."""
        chosen = choices or Choices()
        return self._queue.ask(
            owner, lambda stopped: self._run(package, images, view, chosen, stopped)
        )

    def close(self) -> None:
        """Give up what is asked for; may be called twice."""
        self._queue.close()

    def _run(
        self,
        package: ModelPackage,
        sources: JobImages,
        view: View,
        chosen: Choices,
        stopped: Stopped,
    ) -> Preview:
        from biozoo_runners.sizes import geometry

        opened = open_images(sources)
        model = geometry(package.descr)
        region = region_of(model, opened, view)
        first = next(iter(opened.values())) if isinstance(opened, Mapping) else opened
        cut: Image | dict[str, Image]
        if isinstance(opened, Mapping):
            shares = {t: same_region(region, first, image) for t, image in opened.items()}
            cut = {t: cut_region(image, shares[t]) for t, image in opened.items()}
        else:
            cut = cut_region(opened, region)
        own = {"y", "x"} | {axis for tensor in model.inputs for axis in tensor.dims}
        whole = all(b - a == first.sizes[axis] for axis, (a, b) in region.items() if axis in own)
        start = time.perf_counter()
        with self._models.lend(package, self._digests.of(package)) as runner:
            if stopped():
                raise SupersededError
            loaded = time.perf_counter()
            result = runner(
                cut,
                channel=chosen.channel,
                scale=chosen.scale,
                min_size=chosen.min_size,
                cancelled=stopped,
            )
            origin = {axis: a for axis, (a, _) in region.items()}
            lying = overlays(runner, cut, result, origin)
        done = time.perf_counter()
        return Preview(result, lying, region, whole, done - loaded, loaded - start)


class _Digests:
    """`model_digest` of packages, remembered as long as no file of theirs changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[object, tuple[object, str]] = {}

    def of(self, package: ModelPackage) -> str:
        from biozoo_runners.kept_tiles import model_digest

        key = (package.root, package.rdf)
        seen = [
            (str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino)
            for path in sorted(package.root.rglob("*"))
            if (stat := path.stat())
        ]
        with self._lock:
            known = self._known.get(key)
        if known is not None and known[0] == seen:
            return known[1]
        digest = model_digest(package)
        with self._lock:
            if len(self._known) > 100:
                self._known.clear()
            self._known[key] = (seen, digest)
        return digest
