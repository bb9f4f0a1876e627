"""What was asked of a run, what really ran, and what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from biozoo.files import size_text

from .base import BackendInfo

if TYPE_CHECKING:
    from .precision.settling import Decision


@dataclass(frozen=True, slots=True)
class Asked:
    """The caller's wishes; None and "auto" left the choice to biozoo."""

    device: str = "auto"
    weights: str | None = None
    threads: int | None = None
    tile: Mapping[str, int] | None = None
    channel: str | None = None
    backend: str | None = None
    scale: str | None = None
    precision: str = ""
    tolerance: float | None = None

    def __str__(self) -> str:
        tile = ",".join(f"{a}={n}" for a, n in (self.tile or {}).items())
        wishes = {
            "device": self.device,
            "weights": self.weights,
            "backend": self.backend,
            "threads": self.threads,
            "tile": tile,
            "channel": self.channel,
            "scale": self.scale,
            "precision": self.precision,
            "tolerance": self.tolerance,
        }
        return ", ".join(f"{k} {v}" for k, v in wishes.items() if v)


@dataclass(frozen=True, slots=True)
class RunReport:
    """The facts of one run.

    Attributes
    ----------
    model, version
        Of the package.
    asked
        The caller's wishes.
    ran
        What the backend says of itself after loading; its providers are those that the framework
        reports, in the framework's own words.
    plan
        The tile plan in one line; it is repeated for each of `items`.
    tiles, items
        Tiles per item, and positions along axes that the model lacks.
    seconds
        "load" (the model, once for several images), "read" (pixels from the file), "compute"
        (backend), "total" (all but "load").
    megapixels
        Of the image, per channel, over all items.
    peak_memory
        Largest resident size of this process in its life so far, in bytes: of the whole program,
        not of this run.
    added_memory
        Most bytes that this process had during the run above what it had before (image and model
        read before the call are not in it). Exact where the run set a new peak of the process;
        else the largest of the sizes looked at before each tile and at the end. What other threads
        take meanwhile is in it.
    child_memory
        Most resident bytes of the processes that the backend or the package's own steps live in,
        since they were started; 0 where there are none.
    device_memory
        Most bytes on the graphics card since the model was loaded; None on the CPU, and where it is
        not known. How it is counted depends on the backend (docs/design/devices.md).
    objects
        How many were found, over all items; None where the package does not say how to make any.
    precision
        What was chosen where another precision than float32 was asked for, and the evidence; None
        where none was.
    notes
        What a user should know: padding, looping, the channel taken, why the CPU, ...
    """

    model: str
    version: str | None
    asked: Asked
    ran: BackendInfo
    plan: str
    tiles: int
    items: int
    seconds: Mapping[str, float]
    megapixels: float
    peak_memory: int
    added_memory: int = 0
    child_memory: int = 0
    device_memory: int | None = None
    objects: int | None = None
    precision: Decision | None = None
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def joined(cls, reports: Sequence[RunReport]) -> RunReport:
        """One report of several runs of one loaded model: costs added up, the model loaded once."""
        first = reports[0]
        if len(reports) == 1:
            return first
        plans = {r.plan for r in reports}
        seconds = {k: sum(r.seconds[k] for r in reports) for k in first.seconds}
        counts = Counter(note for r in reports for note in r.notes)
        told = (n if c == len(reports) else f"{n} (in {c} images)" for n, c in counts.items())
        return replace(
            first,
            plan=first.plan if len(plans) == 1 else f"{len(plans)} plans, first: {first.plan}",
            tiles=sum(r.tiles * r.items for r in reports),
            items=1,
            seconds=seconds | {"load": first.seconds["load"]},
            megapixels=sum(r.megapixels for r in reports),
            peak_memory=max(r.peak_memory for r in reports),
            added_memory=max(r.added_memory for r in reports),
            child_memory=max(r.child_memory for r in reports),
            device_memory=max(
                (r.device_memory for r in reports if r.device_memory is not None), default=None
            ),
            objects=None if first.objects is None else sum(r.objects or 0 for r in reports),
            notes=tuple(told),
        )

    @property
    def seconds_per_megapixel(self) -> float:
        """Total time without loading, per megapixel of the image."""
        return self.seconds["total"] / self.megapixels if self.megapixels else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"seconds_per_megapixel": self.seconds_per_megapixel}

    def __str__(self) -> str:
        ran, s = self.ran, self.seconds
        threads = f"{ran.threads} thread{'s' if ran.threads != 1 else ''}"
        providers = ", ".join(ran.providers)
        repeated = f" for each of {self.items} positions" if self.items > 1 else ""
        lines = [
            f"{self.model}{f' {self.version}' if self.version else ''}",
            f"  asked: {self.asked}",
            f"  ran:   {ran.weights_format} on {ran.device}, {ran.backend} {ran.version}"
            f"{f' ({providers})' if providers else ''}, {threads}",
            f"  plan:  {self.plan}{repeated}",
            f"  time:  {s['total']:.2f} s for {self.megapixels:.3g} megapixels "
            f"({self.seconds_per_megapixel:,.2f} s per megapixel; network {s['compute']:.2f} s, "
            f"reading {s['read']:.2f} s), loading the model {s['load']:.2f} s",
        ]
        if self.objects is not None:
            lines.append(f"  found: {self.objects} object{'s' if self.objects != 1 else ''}")
        lines.append(f"  peak memory: {self._memory()}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def _memory(self) -> str:
        """Peaks by where they are."""
        added = f" (this run added {size_text(self.added_memory)})" if self.added_memory else ""
        told = [f"{size_text(self.peak_memory)} in this process{added}"]
        if self.child_memory:
            told.append(f"{size_text(self.child_memory)} in its child process")
        if self.device_memory is not None:
            told.append(f"{size_text(self.device_memory)} on {self.ran.device}")
        elif self.ran.device != "cpu":
            told.append(f"on {self.ran.device} not known, as the driver does not tell")
        return "; ".join(told)
