"""One out-of-core run as any process can open it: what was asked, and the stages that do it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.closing import Closing
from biozoo.errors import BackendError
from biozoo.files import write_atomic

from ..layout import ResultLayout, layout_of
from .blocks import Blocks
from .budget import block_elements
from .facts import ItemFacts, measure_item
from .levels import levels_of
from .objects import ONE_TASK, Objects
from .objects import STAGES as OBJECT_STAGES
from .results import Results
from .store import ResultStore
from .stores import Stores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..pipeline import Runner
    from ..prepare import Fitting
    from ..tiling import TilePlan
    from .stages import Stage

__all__ = ["RunJob", "RunSpec", "plan_digest"]


@dataclass(frozen=True)
class RunSpec:
    """All that a process needs to take part in a run; plain values, small.

    Attributes
    ----------
    model
        The package's folder or file.
    images
        Input tensor id and path, each.
    tile
        Axis id and pixels of the planned tiles, each.
    plan
        Digest of the plan: another process must come to the same.
    wanted
        Ids of the results that are kept.
    folder
        The run's working folder.
    precision
        Of `BackendInfo`, as the process that began the run has proven it.
    """

    model: str
    images: tuple[tuple[str, str], ...]
    folder: str
    wanted: tuple[str, ...]
    memory: int
    tile: tuple[tuple[str, int], ...]
    plan: str
    axes: str | tuple[str, ...] | None = None
    scene: int | None = None
    pixel_size: tuple[tuple[str, float], ...] | None = None
    channel: Any = None
    device: str = "auto"
    weights: str | None = None
    backend: str | None = None
    threads: int | None = None
    precision: str = ""
    min_size: int | None = None
    fill_holes: bool | None = None

    def open(self) -> RunJob:
        """Load the model and open the image."""
        from ..batch import opened
        from ..pipeline import load
        from ..prepare import fit

        runner = load(
            self.model,
            device=self.device,
            weights=self.weights,
            backend=self.backend,
            threads=self.threads,
            precision=self.precision or "float32",
            proven=True,
        )
        try:
            images = opened(
                dict(self.images),
                axes=self.axes,
                scene=self.scene,
                pixel_size=None if self.pixel_size is None else dict(self.pixel_size),
            )
            fitting = fit(runner.geometry, images, self.channel)
            plan = runner.plan_of(fitting, dict(self.tile) or None)[1]
            if plan_digest(plan) != self.plan:
                raise BackendError(
                    "This process lays other tiles than the one that began the run. Use the same "
                    "version of biozoo, and the same zoo (BIOZOO_HOME), for all of them."
                )
        except BaseException:
            runner.close()
            raise
        return RunJob(self, runner, fitting, plan, own=True)


class RunJob(Closing):
    """The stages of a run.

    Parameters
    ----------
    own
        Whether the runner is closed with the job.
    on_step
        Called often; raises to stop.
    """

    def __init__(
        self,
        spec: RunSpec,
        runner: Runner,
        fitting: Fitting,
        plan: TilePlan,
        *,
        own: bool = False,
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        self.spec, self.runner, self.fitting, self.plan = spec, runner, fitting, plan
        self._own, self._on_step = own, on_step
        self.folder = Path(spec.folder)
        self.items = list(fitting.items())
        self.blocks = Blocks.of(plan, elements=block_elements(spec.memory))
        final = runner.geometry.final
        self.layouts = {t.id: layout_of(final, t, fitting) for t in final.outputs}
        if runner.instances is not None and "labels" in spec.wanted:
            self.layouts["labels"] = self.layouts[runner.instances.output].without("channel")
        self.stores = Stores(self.folder / "results", self._make)
        self._fact = lru_cache(maxsize=4)(self._read_facts)
        self._objects = lru_cache(maxsize=2)(self._objects_of)

    def close(self) -> None:
        """Free the model where it was loaded for this job."""
        if self._own:
            self.runner.close()

    # -------------------------------------------------------------------------------------- stages

    @property
    def stages(self) -> Iterator[Stage]:
        """In their order; each is asked for once those before it are done."""
        yield Statistics(self)
        yield self.results
        if "labels" in self.layouts:
            for name in OBJECT_STAGES:
                yield PerItem(name, self)
        for result in self.spec.wanted:
            yield from levels_of(self.stores.of(result), prefix=f"{result}:")

    def stage(self, name: str) -> Stage:
        """The stage of this name."""
        if "labels" in self.layouts and name in OBJECT_STAGES:
            return PerItem(name, self)
        if name == Results.name:
            return self.results
        return next(s for s in self.stages if s.name == name)

    @cached_property
    def results(self) -> Results:
        """The network's stage."""
        return Results(
            self.runner,
            self.fitting,
            self.plan,
            self.blocks,
            self._fact,
            self.layouts,
            self.stores,
            self._on_step,
        )

    def measure(self, item: int) -> None:
        """Take the statistics of an item and keep them."""
        facts = measure_item(
            self.fitting,
            self.items[item],
            self.runner.preprocessing,
            self.runner.postprocessing,
            on_piece=self._on_step,
        )
        path = self._facts_path(item)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(facts.to_dict()).encode())

    def facts(self) -> Iterator[ItemFacts]:
        """Of all items."""
        return (self._fact(i) for i in range(len(self.items)))

    def objects(self, item: int) -> Objects:
        """The search for objects in one item."""
        return self._objects(item)

    # ------------------------------------------------------------------------------------- private

    def _facts_path(self, item: int) -> Path:
        return self.folder / "scratch" / "facts" / f"{item}.json"

    def _read_facts(self, item: int) -> ItemFacts:
        return ItemFacts.from_dict(json.loads(self._facts_path(item).read_bytes()))

    def _make(self, result: str, path: Path, dtype: np.dtype[Any]) -> ResultStore:
        layout = self.layouts[result]
        config = self.runner.instances
        source = config.output if result == "labels" and config is not None else result
        tensor = next(t for t in self.plan.outputs if t.id == source)

        def arranged(sizes: Sequence[int], loops: Sequence[int]) -> tuple[int, ...]:
            return tuple((*loops, *sizes)[i] for i in self._order(result, tensor.dims))

        loops = tuple(self.fitting.loops.values())
        ones = (1,) * len(loops)
        sizes = tuple(n or 1 for n in tensor.shape)
        return ResultStore.create(
            path,
            axes=layout.dims,
            shape=arranged(sizes, loops),
            dtype=dtype,
            chunks=arranged(self.blocks.chunks(source), ones),
            shards=arranged(self.blocks.shards(source), ones),
            channel_names=layout.channel_names,
            pixel_size=layout.pixel_size,
            unit=layout.unit,
            name=layout.name,
            labels=result in self.runner.label_images,
        )

    def _order(self, result: str, dims: Sequence[str]) -> list[int]:
        """Where each axis of a result stands among the loops, then the tensor's axes."""
        every = [*self.fitting.loops, *dims]
        return [every.index(d) for d in self.layouts[result].dims]

    def _objects_of(self, item: int) -> Objects:
        config = self.runner.instances
        assert config is not None
        tensor = next(t for t in self.plan.outputs if t.id == config.output)
        space = [i for i, d in enumerate(tensor.dims) if d not in ("batch", "channel")]
        at = tuple(self.items[item].values())
        layout, labels = self.layouts[config.output], self.layouts["labels"]
        store = self.stores.of(config.output)

        def write(region: tuple[slice, ...], values: NDArray[np.int32]) -> None:
            whole = [slice(0, 1)] * len(tensor.dims)
            for i, s in zip(space, region, strict=True):
                whole[i] = s
            if "channel" in tensor.dims:
                del whole[tensor.dims.index("channel")]
            shaped = values.reshape([s.stop - s.start for s in whole])
            self.stores.of("labels", np.dtype(np.int32)).write(
                labels.place(at, whole), np.ascontiguousarray(labels.of_item(shaped))
            )

        return Objects(
            config,
            Prediction(store, layout, at, tensor.dims, tuple(tensor.shape[i] or 1 for i in space)),
            [
                tuple(self.blocks[b].regions[config.output][i] for i in space)
                for b in range(len(self.blocks))
            ],
            self.folder / "scratch" / "objects" / str(item),
            write,
            min_size=self.spec.min_size,
            fill_holes=self.spec.fill_holes,
            memory=self.spec.memory // 2,
        )


class Statistics:
    """The stage that measures each item, one task each."""

    name = "statistics"

    def __init__(self, job: RunJob) -> None:
        self._job = job

    def __len__(self) -> int:
        return len(self._job.items)

    def run(self, task: int) -> None:
        """Measure one item."""
        self._job.measure(task)


class PerItem:
    """A stage of the search for objects, over all items."""

    def __init__(self, name: str, job: RunJob) -> None:
        self.name, self._job = name, job
        self._each = 1 if name in ONE_TASK else len(job.blocks)

    def __len__(self) -> int:
        return len(self._job.items) * self._each

    def run(self, task: int) -> None:
        """One task of one item."""
        item, inner = divmod(task, self._each)
        stages = self._job.objects(item).stages
        next(s for s in stages if s.name == self.name).run(inner)


class Prediction:
    """One item of a result as the search for objects reads it: channels of spatial regions."""

    def __init__(
        self,
        store: ResultStore,
        layout: ResultLayout,
        at: tuple[int, ...],
        dims: Sequence[str],
        shape: tuple[int, ...],
    ) -> None:
        self._store, self._layout, self._at, self._dims = store, layout, at, tuple(dims)
        self.shape = shape

    def read(self, channel: int, region: tuple[slice, ...]) -> NDArray[np.float32]:
        """Values of one channel, spatial axes only, in the tensor's order."""
        space = iter(region)
        own = {"batch": slice(0, 1), "channel": slice(channel, channel + 1)}
        whole = [own[d] if d in own else next(space) for d in self._dims]
        values = self._store.read(self._layout.place(self._at, whole))
        # The axes of the result in the order of the tensor's; all others are of one.
        kept = [d for d in self._layout.dims if d in self._dims and d not in own]
        values = values.reshape(
            [n for n, d in zip(values.shape, self._layout.dims, strict=True) if d in kept]
        )
        order = [kept.index(d) for d in self._dims if d not in own]
        return np.asarray(values.transpose(order), np.float32)


def plan_digest(plan: TilePlan) -> str:
    """Of all tiles."""
    return hashlib.sha256(repr(plan).encode()).hexdigest()
