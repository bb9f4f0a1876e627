"""How much more labels would help: the same model trained on more and more images.

    print(curve("nuclei-fluo", "images/", "labels/", sizes=(5, 10, 20, 40), channel="gray"))

All sizes are measured on the same held-out rest, and each holds the images of the smaller ones.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biozoo.errors import UsageError

from .child import make_child
from .child_facts import Naming, child_facts
from .forecasting import Forecast, forecast
from .gate import GateReport, Measured
from .learning import Wishes, learn, measure_parent
from .lineage import called
from .mixing import parse_share
from .prepared import Prepared, Progress, opened, place_of, prepare, recipe_for
from .report import duration
from .splits import place
from .training.options import TrainOptions

if TYPE_CHECKING:
    from biozoo.package import ModelPackage
    from biozoo_converters.packing.packed import PackReport
    from biozoo_runners.prepare import Channel

    from .hooks import HookLike
    from .pairs import Pair, Source
    from .recipe import Recipe
    from .training.control import Control

__all__ = ["CurveReport", "CurveRow", "curve"]

SIZES = (5, 10, 20, 40)

#: Fewest images that are held out.
_LEAST = 2


@dataclass(frozen=True)
class CurveRow:
    """The model after training on so many images.

    Attributes
    ----------
    size
        Images; 0 is the parent.
    measured
        On the held-out rest.
    gate
        The verdict; None for the parent.
    steps, seconds
        Of the training.
    """

    size: int
    measured: Measured
    gate: GateReport | None = None
    steps: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "size": self.size,
            **self.measured.to_dict(),
            "gate": None if self.gate is None else self.gate.to_dict(),
            "steps": self.steps,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class CurveReport:
    """The table, and what more labels would bring.

    Attributes
    ----------
    model, metric
        The parent, and the score that counts.
    rows
        The parent first, then by number of images.
    held_out
        The images that all were measured on.
    forecast
        None where fewer than two sizes or two held-out images were there.
    package
        The last row's model, where it passed the gate and a place was named.
    seconds
        In all.
    notes
        What a person should know.
    """

    model: str
    metric: str
    rows: tuple[CurveRow, ...]
    held_out: tuple[str, ...]
    forecast: Forecast | None
    package: PackReport | None
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the model trained on most images is better than its parent."""
        last = self.rows[-1].gate
        return last is not None and last.passed

    @property
    def exit_code(self) -> int:
        """0 it is, 1 it is not."""
        return 0 if self.passed else 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "model": self.model,
            "metric": self.metric,
            "passed": self.passed,
            "rows": [r.to_dict() for r in self.rows],
            "held_out": list(self.held_out),
            "forecast": None if self.forecast is None else dict(vars(self.forecast)),
            "package": None if self.package is None else self.package.to_dict(),
            "seconds": self.seconds,
            "notes": list(self.notes),
        }

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Headers and cells."""
        further = tuple(self.rows[0].measured.further)
        headers = ("images", self.metric, *further, "better on", "trained for")
        cells = []
        for row in self.rows:
            gate = row.gate
            cells.append(
                (
                    str(row.size) if row.size else "before",
                    f"{row.measured.mean:.3f}",
                    *(f"{row.measured.further[n]:.3f}" for n in further),
                    f"{gate.better} of {len(row.measured.values)}" if gate else "",
                    f"{duration(row.seconds)}, {row.steps} steps" if gate else "",
                )
            )
        return headers, cells

    def __str__(self) -> str:
        headers, cells = self.table()
        widths = [max(len(r[i]) for r in (headers, *cells)) for i in range(len(headers))]
        lines = [f"{self.model}, measured on {len(self.held_out)} held-out images"]
        lines += [
            "  ".join(
                c.rjust(w) if i else c.ljust(w)
                for i, (c, w) in enumerate(zip(r, widths, strict=True))
            )
            for r in (headers, *cells)
        ]
        if self.forecast is not None:
            lines.append(self.forecast.text)
        if self.package is not None:
            lines.append(f"{self.package.target}  {self.package.name} ({self.package.id})")
        return "\n".join(lines)


def curve(
    package: ModelPackage | str | Path,
    images: Source,
    labels: Source | None = None,
    *,
    sizes: Sequence[int] = SIZES,
    output: Path | str | None = None,
    recipe: Recipe | None = None,
    options: TrainOptions | None = None,
    hooks: Sequence[HookLike | str] = (),
    channel: Channel | None = None,
    axes: str | Sequence[str] | None = None,
    scribbles: bool = False,
    split_masks: bool = False,
    interpolate: str | float = "auto",
    folder: Path | None = None,
    resume: bool = False,
    control: Control | None = None,
    overwrite: bool = False,
    naming: Naming | None = None,
    progress: Progress | None = None,
    on_row: Callable[[CurveRow], None] | None = None,
) -> CurveReport:
    """Train on growing parts of the images, measure all on the same rest.

    Parameters
    ----------
    sizes
        Numbers of images. What is left of the largest is held out.
    output
        Where the model trained on most images goes, if it is better than the parent.
    folder, resume
        Of the checkpoints, one folder below it per size; a finished size is not trained again.
    on_row
        Called with each row as it is finished, the parent's first.

    For the other parameters, and what is raised, see `retraining.retrain`.
    """
    share = parse_share(interpolate)
    target = place_of(output, overwrite=overwrite)
    wanted = _checked(sizes)
    start = time.perf_counter()
    parent = opened(package)
    ready = prepare(
        parent,
        recipe_for(parent, recipe),
        images,
        labels,
        channel=channel,
        axes=axes,
        scribbles=scribbles,
        split_masks=split_masks,
        progress=progress,
    )
    pool, held_out = _sides(ready, wanted[-1])
    tell_row = on_row or (lambda row: None)
    first = Wishes(options or TrainOptions(), hooks, control, share, False, progress)
    before = measure_parent(ready, held_out, first)
    rows = [CurveRow(0, before)]
    tell_row(rows[0])
    made = None
    told: dict[str, list[int]] = {}
    with contextlib.ExitStack() as stack:
        if folder is None:
            temporary = tempfile.TemporaryDirectory(prefix="biozoo-training-")
            folder = Path(stack.enter_context(temporary))
        for size in wanted:
            own = folder / str(size)
            wishes = Wishes(
                first.options,
                hooks,
                control,
                share,
                resume and own.is_dir(),
                _named(progress, size),
            )
            done = learn(ready, pool[:size], held_out, before, own, wishes)
            gate, trained = done.gate, done.trained
            rows.append(CurveRow(size, gate.child, gate, trained.steps, trained.seconds))
            tell_row(rows[-1])
            for note in dict.fromkeys((*trained.notes, *gate.notes)):
                told.setdefault(note, []).append(size)
            if size == wanted[-1] and gate.passed and target is not None:
                facts = child_facts(ready, done, naming or Naming())
                network = ready.network.module_for_export()
                made = make_child(trained.package, network, facts, target, progress=progress)
            done.weights.set(0.0)
    return CurveReport(
        model=called(parent),
        metric=before.metric,
        rows=tuple(rows),
        held_out=before.names,
        forecast=forecast({r.size: r.measured for r in rows[1:]}),
        package=made,
        seconds=time.perf_counter() - start,
        notes=tuple(dict.fromkeys((*ready.notes, *_of_sizes(told, len(wanted))))),
    )


def _of_sizes(told: Mapping[str, Sequence[int]], count: int) -> Iterator[str]:
    """Notes with the sizes that they are of, without where they are of all."""
    for note, sizes in told.items():
        listed = ", ".join(map(str, sizes))
        yield note if len(sizes) == count else f"{listed} images: {note}"


def _checked(sizes: Sequence[int]) -> list[int]:
    made = sorted(set(sizes))
    if not made or made[0] < 1:
        raise UsageError(
            "The numbers of images of a curve are 1 or more, for example --curve 5,10,20; not "
            f"{', '.join(map(str, sizes)) or 'none'}."
        )
    return made


def _sides(ready: Prepared, largest: int) -> tuple[list[Pair], list[Pair]]:
    """Images to learn from, in the order in which they are added, and the held-out rest.

    The order is that of `splits`, so that what is held out here stays so in other rounds.
    """
    earlier, learned = ready.lineage.held_out, ready.lineage.trained - ready.lineage.held_out

    def order(pair: Pair) -> tuple[int, float]:
        fixed = 0 if pair.digest in earlier else 2 if pair.digest in learned else 1
        return fixed, place(pair.digest)

    pairs = sorted(ready.pairs, key=order)
    count = len(pairs) - largest
    if count < _LEAST:
        raise UsageError(
            f"{len(pairs)} labelled images are there: a curve up to {largest} leaves "
            f"{max(count, 0)} to measure on, {_LEAST} or more are needed. Ask for fewer, for "
            f"example --curve {','.join(map(str, _fewer(len(pairs))))}, or label more."
        )
    held_out, pool = pairs[:count], pairs[count:]
    if any(p.digest in learned for p in held_out) or any(p.digest in earlier for p in pool):
        raise UsageError(
            f"Earlier rounds held out or learned from these images in other numbers than a curve "
            f"up to {largest} needs. Ask for other numbers, or add new images."
        )
    return pool, held_out


def _fewer(count: int) -> list[int]:
    """Sizes that leave a fifth of so many images."""
    most = max(1, count * 4 // 5)
    return sorted({max(1, most // 4), max(1, most // 2), most})


def _named(progress: Progress | None, size: int) -> Progress | None:
    if progress is None:
        return None
    return lambda what, done, total: progress(f"{size} images: {what}", done, total)
