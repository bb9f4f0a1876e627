"""What was asked of a run, what really ran, and what it cost."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from biozoo.files import size_text

from .base import BackendInfo


@dataclass(frozen=True, slots=True)
class Asked:
    """The caller's wishes; None and "auto" left the choice to biozoo."""

    device: str = "auto"
    weights: str | None = None
    threads: int | None = None
    tile: Mapping[str, int] | None = None
    channel: str | None = None

    def __str__(self) -> str:
        tile = ",".join(f"{a}={n}" for a, n in (self.tile or {}).items())
        wishes = {
            "device": self.device,
            "weights": self.weights,
            "threads": self.threads,
            "tile": tile,
            "channel": self.channel,
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
        What the backend says of itself after loading.
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
        Largest resident size of this process so far, in bytes; 0 where the system does not say.
    objects
        How many were found, over all items; None where the package does not say how to make any.
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
    objects: int | None = None
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
        if self.peak_memory:
            lines.append(f"  peak memory: {size_text(self.peak_memory)}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes; 0 where unknown."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(getattr(psutil.Process().memory_info(), "peak_wset", 0))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
