"""One annotation: its pixels, its history, and one edit after the other."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from biozoo.errors import NotFoundError, UsageError
from biozoo.files import writing

from .arrays import as_array
from .blocks import Blocks, Key, Pixels, describe_again, levels, make
from .changes import Changes
from .draft import Draft
from .facts import check_classes, check_edit, gone, now, read_facts, write_facts
from .history import History, Pending
from .model import (
    SIDE,
    AnnotationStateError,
    ClassLabel,
    Done,
    Edit,
    Facts,
    Kind,
    Plane,
    Range,
)
from .tally import Tally, boxes_of
from .tools import act

if TYPE_CHECKING:
    import xarray as xr

PIXELS = "labels.ome.zarr"

_HISTORY = "history"
_REMEMBERED = 64  # edits whose answer is given again when they are sent again


class Annotation:
    """An annotation on disk; use it from any thread, and from several processes.

    Attributes
    ----------
    id
        As the store names it.
    path
        The OME-Zarr label image: `biozoo_runners.open_image` reads it region by region.

    Parameters
    ----------
    folder
        Its own, which `create` has filled.
    """

    def __init__(self, annotation_id: str, folder: Path) -> None:
        self.id, self.folder = annotation_id, folder
        self.path = folder / PIXELS
        self._history = History(folder / _HISTORY)
        self._lock = threading.RLock()
        self._file_lock = FileLock(folder / "lock", thread_local=False)
        self._facts = read_facts(folder)
        self._blocks = Blocks(self.path, self._facts.sizes, self._facts.dims)
        self._tally: Tally | None = None
        self._changes = Changes(self._facts.sizes)
        self._told: OrderedDict[str, tuple[int, tuple[int, ...]]] = OrderedDict()
        if self._history.pending() is not None:  # of a server that was killed, or of one at work
            with self.still():
                pass

    @classmethod
    def create(cls, annotation_id: str, folder: Path, facts: Facts) -> Annotation:
        """A new one, empty, in a folder that exists.

        Raises
        ------
        StorageError
            It cannot be written.
        """
        make(folder / PIXELS, facts)
        write_facts(folder, dataclasses.replace(facts, created=now(), edited=now()))
        return cls(annotation_id, folder)

    # ------------------------------------------------------------------------------------ to look

    @property
    def facts(self) -> Facts:
        """What is known of it beside its pixels, as it is now."""
        with self._lock:
            self._look()
            return self._facts

    @property
    def kind(self) -> Kind:
        """What the numbers mean."""
        return self._facts.kind

    @property
    def version(self) -> int:
        """Grows with everything that changes a pixel."""
        return self.facts.version

    @property
    def levels(self) -> int:
        """How many levels of tiles there are."""
        return levels(self._facts.sizes)

    def tile(self, level: int, plane: Plane, row: int, column: int) -> NDArray[np.uint32]:
        """A tile of at most 256 x 256 pixels, as they are now.

        Raises
        ------
        NotFoundError
            There is no such tile.
        """
        sizes = self._facts.sizes
        step = 2**level if 0 <= level < self.levels else 0  # a level may be any number
        inside = (
            step > 0
            and 0 <= plane.time < sizes["time"]
            and 0 <= plane.z < sizes["z"]
            and 0 <= row * SIDE * step < sizes["y"]
            and 0 <= column * SIDE * step < sizes["x"]
        )
        if not inside:
            got = f"{level}/{plane.time}/{plane.z}/{row}/{column}"
            raise NotFoundError(kind="tile", got=got, known=())
        with self._lock:
            self._look()
            return self._blocks.tile(level, plane, row, column)

    def read(self, region: Mapping[str, Range] | None = None) -> xr.DataArray:
        """Pixels of a region, unsigned as they are kept.

        Parameters
        ----------
        region
            By axis of `facts.dims`: first and the one after the last; axes not named are whole.

        Returns
        -------
        xr.DataArray
            Dims `facts.dims`; `attrs["pixel_size"]` and `attrs["unit"]` where they are known.
        """
        with self._lock:
            self._look()
            return as_array(self._blocks, self._facts, region or {})

    def stands(self, since: int | None = None) -> Done:
        """How it stands; `since`: the version that is known, to be told what changed."""
        with self._lock:
            self._look()
            return self._done(since)

    def numbers(self) -> list[int]:
        """The numbers that occur, ascending."""
        with self._lock:
            self._look()
            return self._counted.numbers

    def masks(self) -> Iterator[tuple[int, Plane, tuple[int, int], NDArray[np.bool_]]]:
        """Every number on every plane it is on: the first (y, x) of its mask, and the mask."""
        with self._lock:
            self._look()
            boxes = boxes_of(self._blocks.scan())
        for (number, plane), (y, x) in sorted(boxes.items(), key=lambda one: one[0]):
            with self._lock:
                pixels = self._blocks.read(plane, y, x)
            yield number, plane, (y[0], x[0]), pixels == number

    def blocks_in(self, plane: Plane, y: Range, x: Range) -> Iterator[tuple[Key, Range, Range]]:
        """The blocks that a box touches, with the rows and columns of each."""
        for key in self._blocks.keys(plane, y, x):
            yield key, *self._blocks.place(key)

    def filled(self) -> list[tuple[Key, Pixels]]:
        """Every block in which something is."""
        with self._lock:
            self._look()
            return list(self._blocks.scan())

    # ------------------------------------------------------------------------------------ to edit

    def edit(self, edit: Edit, *, since: int | None = None) -> Done:
        """Do an edit; on disk when this returns.

        Raises
        ------
        UsageError
            It cannot be done there, or makes no sense. Nothing is changed then.
        StorageError
            The disk is full. Nothing is changed then.
        """
        with self.still():
            if edit.key and edit.key in self._told:  # sent again: the answer got lost
                version, made = self._told[edit.key]
                return self._done(version - 1 if since is None else since, made)
            check_edit(self._facts, edit)
            draft = Draft(self._blocks, self._counted)
            act(draft, edit, self._facts.kind)
            before = self._facts.version
            self._commit(draft.changed)
            made = tuple(draft.made)
            if edit.key:
                self._told[edit.key] = (self._facts.version, made)
                while len(self._told) > _REMEMBERED:
                    self._told.popitem(last=False)
            return self._done(before if since is None else since, made)

    def write(self, blocks: Iterator[tuple[Key, Pixels]], *, since: int | None = None) -> Done:
        """Give blocks new pixels, as one step that can be undone; of an import.

        Raises
        ------
        StorageError
            The disk is full. Nothing is changed then.
        """
        with self.still():
            before = self._facts.version
            changed = {}
            for key, pixels in blocks:
                own = pixels.astype(self._blocks.dtype)
                if not np.array_equal(own, self._blocks.get(key)):
                    changed[key] = own
            self._commit(changed)
            return self._done(before if since is None else since)

    def fill(self, blocks: Iterator[tuple[Key, Pixels]]) -> None:
        """The first pixels of a new annotation: no step back leads behind them."""
        with self.still():
            row: dict[Key, Pixels] = {}
            for key, pixels in blocks:
                if row and key.row != next(iter(row)).row:
                    self._blocks.put(row)
                    row = {}
                if pixels.any():
                    row[key] = pixels.astype(self._blocks.dtype)
            self._blocks.put(row)
            self._tally = None
            self._save(version=self._facts.version + 1, last=self._counted.last)

    def undo(self, *, since: int | None = None) -> Done:
        """One step back.

        Raises
        ------
        AnnotationStateError
            There is none.
        """
        with self.still():
            if self._steps()[0] == 0:
                raise AnnotationStateError("There is nothing to undo.")
            return self._swap(self._facts.done - 1, self._facts.done - 1, since)

    def redo(self, *, since: int | None = None) -> Done:
        """One step forward.

        Raises
        ------
        AnnotationStateError
            There is none.
        """
        with self.still():
            if self._steps()[1] == 0:
                raise AnnotationStateError("There is nothing to do again.")
            return self._swap(self._facts.done, self._facts.done + 1, since)

    def set_classes(self, classes: Sequence[ClassLabel]) -> None:
        """What the classes are called and how they look.

        Raises
        ------
        UsageError
            Two have one number or name, a number cannot be, or one that is painted is left out.
        """
        with self.still():
            if self._facts.kind != "classes":
                raise UsageError("Objects have no classes. Paint scribbles for classes.")
            check_classes(classes)
            values = {label.value for label in classes}
            if lost := [n for n in self._counted.numbers if n not in values]:
                names = {label.value: label.name for label in self._facts.classes}
                named = ", ".join(f"'{names.get(n, n)}'" for n in lost)
                raise UsageError(f"{named} is painted in this image. Erase it before it goes.")
            self._save(classes=tuple(sorted(classes, key=lambda label: label.value)))
            describe_again(self.path, self._facts)

    # ------------------------------------------------------------------------------------ inside

    @contextmanager
    def still(self) -> Iterator[None]:
        """Nobody else edits meanwhile, in no thread and no process, and nothing is half-painted."""
        with self._lock, writing(self.folder):
            if not self.folder.is_dir():
                raise gone(self.id)
            with self._file_lock:
                self._look()
                self._mend()
                yield

    def _look(self) -> None:
        """Another process may have written since."""
        found = read_facts(self.folder)
        if found != self._facts:
            if found.version != self._facts.version:
                self._blocks.forget()
                self._tally = None
                self._changes = Changes(found.sizes)
                self._told.clear()
            self._facts = found

    def _mend(self) -> None:
        """Take back what a killed server had half written."""
        pending = self._history.pending()
        if pending is None:
            return
        if pending.version == self._facts.version:  # only its last rename was missing
            self._history.end(pending)
            return
        self._blocks.forget()
        self._blocks.put(pending.step)
        self._blocks.forget()
        self._tally = None
        self._history.give_up(pending)

    @property
    def _counted(self) -> Tally:
        if self._tally is None:
            self._tally = Tally(self._blocks.scan(), last=self._facts.last)
        return self._tally

    def _commit(self, changed: Mapping[Key, Pixels]) -> None:
        """Write blocks as a step of the history; nothing where nothing has changed."""
        if not changed:
            return
        number = self._facts.done
        self._history.forget_from(number)
        self._replace(changed, number, number + 1)
        self._history.trim()

    def _swap(self, number: int, done: int, since: int | None) -> Done:
        before = self._facts.version
        self._replace(self._history.read(number), number, done)
        return self._done(before if since is None else since)

    def _replace(self, new: Mapping[Key, Pixels], number: int, done: int) -> None:
        """Write blocks; what they were before becomes the step of this number."""
        tally, version = self._counted, self._facts.version + 1
        old = {key: self._blocks.get(key) for key in new}
        pending = self._history.begin(Pending(version, number, old))
        try:
            self._blocks.put(new)
            for key, pixels in new.items():
                tally.change(key, old[key], pixels)
            self._save(version=version, done=done, last=tally.last)
        except BaseException:
            self._mend()
            raise
        self._history.end(pending)
        self._changes.add(version, old, new)

    def _save(self, **new: Any) -> None:
        facts = dataclasses.replace(self._facts, edited=now(), **new)
        write_facts(self.folder, facts)
        self._facts = facts

    def _done(self, since: int | None, made: tuple[int, ...] = ()) -> Done:
        facts = self._facts
        undo, redo = self._steps()
        return Done(
            facts.version,
            self._changes.since(facts.version if since is None else since, facts.version),
            self._counted.counts(facts.kind),
            made=made,
            undo=undo,
            redo=redo,
        )

    def _steps(self) -> tuple[int, int]:
        """How many steps there are back and forward, without a gap."""
        known = set(self._history.numbers())
        back, on = self._facts.done - 1, self._facts.done
        while back in known:
            back -= 1
        while on in known:
            on += 1
        return self._facts.done - 1 - back, on - self._facts.done
