"""The tiles of a run, made smaller whenever memory ends.

Memory that ends in the network ends for tiles of that size: the largest axis of a tile is halved,
the position at hand starts again, and what was finished before is kept. The sizes that are tried
are those of a person's --tile, so the result is that of a run with the smaller tile from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from biozoo.errors import BiozooError, OutOfMemoryError

from .grid import next_smaller
from .stitch import After, Before, Canvas, TileTooLarge, run_tiles
from .tiling import TilePlan, plan_tiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .base import Backend
    from .kept_tiles import Keeper
    from .prepare import Fitting
    from .sizes import ModelGeometry

__all__ = ["Tiles", "halved"]


class Tiles:
    """The plan that a run is using, and how far the run is.

    Attributes
    ----------
    plan
        The plan now; another one after memory ended.
    done
        Tiles run so far, in terms of `plan`.
    too_large
        Pixels of the smallest tile that memory was too small for; None where it never ended.
    """

    def __init__(
        self,
        backend: Backend,
        model: ModelGeometry,
        fitting: Fitting,
        plan: TilePlan,
        *,
        name: str,
        too_large: int | None = None,
        asked: Mapping[str, int] | None = None,
        kept: Keeper | None = None,
    ) -> None:
        """Begin with `plan`, or where it is `too_large` as an earlier run found, a smaller one.

        `name` is the model's, `asked` the tile that a person asked for; both are for messages.
        `kept` holds tiles of an earlier run and takes those of this one.
        """
        self.plan = plan
        self.done = 0
        self._kept, self._found = kept, 0
        self._keeper: Keeper | None = None  # of the item at hand
        self.too_large = too_large
        self._backend, self._model, self._fitting, self._name = backend, model, fitting, name
        self._asked = dict(asked or {})
        self._items = 0
        self._failed: list[str] = []
        self._before = ""
        while too_large is not None and _pixels(self.plan) >= too_large:
            smaller = halved(model, fitting.sizes, self.plan)
            if smaller is None:  # no choice: perhaps there is more memory now
                break
            self._before = self._before or _sizes(plan)
            self.plan = smaller

    @property
    def total(self) -> int:
        """Tiles of the whole run, in terms of `plan`."""
        return len(self.plan) * len(self._fitting)

    @property
    def found(self) -> int:
        """How many of the tiles done were kept by an earlier run."""
        return self._found + (self._keeper.found if self._keeper else 0)

    @property
    def notes(self) -> Sequence[str]:
        """What a user should know of it."""
        now, notes = _sizes(self.plan), []
        if self._before and not self._failed:
            notes.append(
                f"an earlier image ran out of memory on {self._device}: tiles of {now} in place of "
                f"{self._before}"
            )
        if self._failed:
            told = (
                f"ran out of memory on {self._device} with tiles of {', then '.join(self._failed)}"
            )
            asked = [f"{a}={n}" for a, n in self._asked.items() if n > self._tile(a)]
            asked_text = f", smaller than the asked --tile {','.join(asked)}" if asked else ""
            notes.append(f"{told}: went on with {now}{asked_text}")
        if self.found:
            notes.append(f"{self.found} of {self.total} tiles were kept from an earlier run")
        return notes

    def run(
        self,
        pixels: Mapping[str, NDArray[Any]],
        before: Before,
        after: After,
        targets: Mapping[str, tuple[Canvas, tuple[int, ...]]],
        *,
        on_tile: Callable[[], None],
    ) -> float:
        """Run every tile of one item, with smaller and smaller tiles until they fit.

        Parameters and result are those of `run_tiles`; `on_tile` is called when `done` is up to
        date.

        Raises
        ------
        OutOfMemoryError
            The smallest tile that the model takes does not fit either, or a result does not.
        """

        def step() -> None:
            on_tile()
            self.done += 1

        smaller: TilePlan | None
        item = None if self._kept is None else self._kept.of_item(self._items, pixels)
        while True:
            self._keeper = None if item is None else item.of_plan(self.plan)
            self.done = self._items * len(self.plan)
            try:
                spent = run_tiles(
                    self._backend,
                    self.plan,
                    pixels,
                    before,
                    after,
                    targets,
                    on_tile=step,
                    kept=self._keeper,
                )
            except TileTooLarge as exc:
                smaller = self._smaller(exc.reason)
            except OutOfMemoryError:
                # Of a result: what the framework keeps of the last tile may be in its place.
                if not any(canvas.lacking for canvas, _ in targets.values()):
                    raise
                smaller = None
            else:
                self._items += 1
                self._found, self._keeper = self.found, None
                return spent
            # Only here: the exception kept the tile's arrays and the framework's memory alive.
            if smaller is not None:
                self._failed.append(_sizes(self.plan))
                self.too_large = min(_pixels(self.plan), self.too_large or _pixels(self.plan))
                self.plan = smaller
            self._backend.free_cached()
            for canvas, _ in targets.values():
                canvas.make()

    def _smaller(self, reason: MemoryError) -> TilePlan:
        """The next plan, or the error that says there is none."""
        smaller = halved(self._model, self._fitting.sizes, self.plan)
        if smaller is not None:
            return smaller
        size = _sizes(self.plan)
        why = (
            f"even with the smallest tile that the model takes ({size})"
            if self._failed
            else f"with a tile of {size}, and the model takes no smaller one"
        )
        other = "" if self._device == "cpu" else ", or use --device cpu"
        first = next(iter(str(reason.__cause__ or reason).strip().splitlines()), "")
        told = f" The framework says {first[:300]}" if first else ""
        raise OutOfMemoryError(
            f"Model '{self._name}' ran out of memory on {self._device} {why}. Close other programs "
            f"that use this memory{other}.{told}"
        ) from reason

    @property
    def _device(self) -> str:
        return self._backend.info.device

    def _tile(self, axis: str) -> int:
        return next((g.tile for g in self.plan.grid if g.id == axis), 0)


def halved(
    model: ModelGeometry, sizes: Mapping[str, Mapping[str, int]], plan: TilePlan
) -> TilePlan | None:
    """A plan whose tiles are half as large along their largest axis that may be smaller.

    Sizes are those that the model allows, next to half from below, else the smallest. Of equally
    large axes the last is halved.

    Returns
    -------
    TilePlan
        None where no axis may be smaller.
    """
    inputs = [t for t in model.inputs if t.id in sizes]
    now = {g.id: g.tile for g in plan.grid}
    order = sorted(range(len(plan.grid)), key=lambda i: (plan.grid[i].tile, i), reverse=True)
    for axis in (plan.grid[i] for i in order):
        size = next_smaller(model, inputs, sizes, axis)
        if size is None:
            continue
        try:
            made = plan_tiles(model, sizes, tile={**now, axis.id: size})
        except BiozooError:  # sizes that do not go together with those of another axis of this id
            continue
        if _pixels(made) < _pixels(plan):
            return made
    return None


def _pixels(plan: TilePlan) -> int:
    """Pixels of one tile, halo included."""
    return prod(g.tile for g in plan.grid)


def _sizes(plan: TilePlan) -> str:
    """``y 1024, x 512``."""
    return ", ".join(f"{g.id} {g.tile}" for g in plan.grid) or "the whole tensor"
