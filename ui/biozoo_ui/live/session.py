"""One live session: a model, the features of what is seen of an image, and the last refit."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from biozoo.closing import Closing
from biozoo.errors import BiozooError, UsageError

from ..jobs.model import Choices, JobImage
from ..jobs.newest import Stopped, SupersededError
from .model import Keeping, Painted, ReadPainted, Refit, gone
from .place import Place

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from biozoo import ModelPackage
    from biozoo_trainers.live import ChildFacts, Features, LiveModel

    Install = Callable[[Path], ModelPackage]

PARTS = 3
"""Places of an image whose features a session holds: what was painted there still counts."""

MOST_BYTES = 2**29
"""Of the features of these; the oldest are let go, though never those of what is seen."""

SPACE = ("z", "y", "x")


class LiveSession(Closing):
    """A person's live session with one model on one image.

    Parameters
    ----------
    model
        Opened for live mode; closed with the session.
    image, choices
        What it is used on, and how: its channel and scale.
    load_seconds
        That opening the model took.

    Attributes
    ----------
    keeping
        A refit on its way into the zoo, None where none was asked for.
    """

    def __init__(
        self,
        session_id: str,
        owner: str,
        model: LiveModel,
        image: JobImage,
        choices: Choices,
        *,
        load_seconds: float = 0.0,
    ) -> None:
        self.id, self.owner, self.image, self.choices = session_id, owner, image, choices
        self.load_seconds = load_seconds
        self.keeping: Keeping | None = None
        self._model = model
        self._lock = threading.Lock()  # of the model, and of what follows
        self._painted: list[Features] = []  # places that were seen before and are painted on
        self._refit: Refit | None = None
        self._closed = False

    # ------------------------------------------------------------------------------ what it holds

    @property
    def package(self) -> ModelPackage:
        """The model that is refitted."""
        return self._model.package

    @property
    def classes(self) -> tuple[str, ...]:
        """What the painted values mean: background first."""
        return self._model.classes

    @property
    def current(self) -> Refit:
        """The last refit; before the first one, the model as it is."""
        assert self._refit is not None
        return self._refit

    @property
    def nbytes(self) -> int:
        """Bytes of all its features."""
        held = {id(f): f.nbytes for f in (*self._painted, self.current.features)}
        return sum(held.values())

    # ------------------------------------------------------------------------------- what it does

    def show(self, place: Place, stopped: Stopped) -> None:
        """See another place: its features are computed, and what the last head says of it.

        Raises
        ------
        SupersededError
            Nobody waits for it any more.
        NotFoundError
            It has ended.
        BiozooError
            As `LiveModel.features`.
        """
        channel = self.choices.channel
        if isinstance(channel, dict):  # by tensor id, of a model with one image
            channel = next(iter(channel.values()), None)
        with self._lock:
            self._refuse_when_closed()
            features = self._model.features(
                place.image,
                region=place.region,
                channel=channel,
                scale=self.choices.scale,
                cancelled=stopped,
            )
            if stopped():
                raise SupersededError
            if self._refit is None:
                parent = self._model.parent
                wanted = Refit(0, 1, features, place.whole, 0, parent, {}, {}, None, {})
            else:
                number = self._refit.place + 1
                wanted = replace(self._refit, place=number, features=features, whole=place.whole)
            self._refit = self._look(wanted, {})

    def refit(self, annotation: str, read: ReadPainted) -> Refit:
        """Fit the last layer to what is painted, at all places that the session holds.

        Where nothing is painted (all of it was undone) it is the model as it was.

        Raises
        ------
        NotFoundError
            It has ended.
        BiozooError
            As `read` and `LiveModel.refit`.
        """
        with self._lock:
            self._refuse_when_closed()
            seen, began = self.current.features, time.perf_counter()
            others = [f for f in self._painted if f.region != seen.region]
            found = [(f, read(annotation, self.owner, f.region)) for f in (*others, seen)]
            painted = [(f, _signed(f, one)) for f, one in found if one.values.any()]
            seconds = {"paint": time.perf_counter() - began}
            began = time.perf_counter()
            head = self._model.refit(painted) if painted else self._model.parent
            seconds["fit"] = time.perf_counter() - began
            last = found[-1][1]
            wanted = replace(
                self.current,
                version=last.version,
                head=head,
                pixels=head.pixels,
                notes=head.notes,
                strokes=last.strokes,
            )
            self._refit = self._look(wanted, seconds)
            kept = [f for f, _ in painted][-PARTS:]
            while len(kept) > 1 and sum(f.nbytes for f in kept) > MOST_BYTES:
                kept.pop(0)
            self._painted = kept
            return self._refit

    def keep(self, facts: ChildFacts, install: Install) -> Keeping:
        """Pack the refitted layer and add it to the zoo, in a thread of its own.

        Raises
        ------
        UsageError
            Nothing is painted.
        NotFoundError
            It has ended.
        """
        with self._lock:
            self._refuse_when_closed()
            if self.keeping is not None and self.keeping.state == "running":
                return self.keeping
            if not self.current.pixels:
                raise UsageError("Nothing is painted, so nothing is new. Paint first.")
            self.keeping = began = Keeping("running", "Packs the new model.")
        threading.Thread(
            target=self._keep, args=(facts, install), name="biozoo-live-keep", daemon=True
        ).start()
        return began

    def close(self) -> None:
        """Free the network and the features; may be called twice."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._painted.clear()
                self._model.close()

    # ------------------------------------------------------------------------------------- helpers

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise gone(self.id)

    def _look(self, refit: Refit, seconds: Mapping[str, float]) -> Refit:
        """The refit with what its head says of its features, and a number of its own."""
        result = self._model.result(refit.features, refit.head)
        tensors = {t: result.tensors[t] for t in sorted(result.tensors, key=_labels_first)}
        return replace(
            refit,
            number=refit.number + 1,
            tensors=tensors,
            objects=_count(tensors["labels"]) if "labels" in tensors else None,
            seconds={**seconds, **result.seconds},
        )

    def _keep(self, facts: ChildFacts, install: Install) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="biozoo-live-") as folder:
                with self._lock:
                    self._refuse_when_closed()
                    made = self._model.child(self.current.head, Path(folder) / "new", facts=facts)
                self.keeping = Keeping("running", "Adds it to your zoo.")
                package = install(made)
            self.keeping = Keeping("done", "It is in your zoo.", model=package.id)
        except BiozooError as exc:
            self.keeping = Keeping("failed", "It was not kept.", error=exc.message)
        except Exception as exc:  # a thread must not end without telling the reader
            logging.getLogger(__name__).exception("keeping a refitted %s", self.package.id)
            words = f"Keeping it failed in a way nobody foresaw: {type(exc).__name__}: {exc}"
            self.keeping = Keeping("failed", "It was not kept.", error=words)


def _labels_first(tensor: str) -> tuple[bool, str]:
    return tensor != "labels", tensor


def _count(labels: xr.DataArray) -> int:
    """Objects of all items; each item counts its own from 1."""
    space = [d for d in labels.dims if d in SPACE]
    return int(labels.max(space).sum()) if labels.size else 0


def _signed(features: Features, painted: Painted) -> NDArray[np.int32]:
    """As a fit takes it: -1 unpainted, 0 background, 1 and on objects or classes."""
    shape = tuple(features.sizes.values())
    return (painted.values.astype(np.int32) - 1).reshape(shape)
