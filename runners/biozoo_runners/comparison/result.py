"""What a comparison found: an entry per model and scale, ranked, as text, CSV or plain values."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biozoo.errors import UsageError
from biozoo.visible import visible

from .region import Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AP50", "DICE", "Comparison", "Entry", "Skipped", "targets"]

AP50, DICE = "AP50", "Dice"

#: What a score says, wherever one is shown.
MEANINGS = {
    AP50: "AP50 = TP / (TP + FP + FN): found and annotated objects are a pair (TP) where they "
    "share at least half of the pixels that they cover together (IoU 0.5). 1 is perfect.",
    DICE: "Dice = 2 |A and B| / (|A| + |B|) of the foreground, a probability above 0.5, and of "
    "everything annotated. It says nothing about which pixels belong to one object.",
}
BOTH = (
    "AP50 and Dice measure different things and are not compared with each other: models that find "
    "objects come first."
)

#: Names of the files in a folder.
FILES = {"png": "compare.png", "html": "compare.html", "csv": "compare.csv"}


@dataclass(frozen=True)
class Skipped:
    """A model that was not run, and why."""

    model: str
    version: str | None
    why: str

    def __str__(self) -> str:
        return f"{visible(self.model)}: {one_line(self.why)}"


@dataclass(frozen=True)
class Entry:
    """One model at one scale.

    Attributes
    ----------
    model, version
        The name of a model tells it from the others of the comparison.
    scale
        The factor by which the model saw the image enlarged; results have the image's size.
    seconds, seconds_per_megapixel
        Of one run that was preceded by another one, loading left out; None where it failed. A
        megapixel is one of the image as it is, per channel.
    load_seconds
        What loading the model took; the same at each of its scales.
    objects
        How many were found in the region, None where the model finds none.
    score, measure
        Agreement with the labels, 0 to 1, and its name: "AP50" or "Dice".
    output
        What is shown: "labels", or "probability: foreground".
    ran
        Weights, device and backend.
    note
        How it was scored, or why not.
    notes
        What the run's report says.
    fault
        Why it failed, "" where it did not.
    labels, values
        The shown plane (y x): numbers of objects, or one channel of an output.
    """

    model: str
    version: str | None
    scale: float
    seconds: float | None = None
    seconds_per_megapixel: float | None = None
    load_seconds: float | None = None
    objects: int | None = None
    score: float | None = None
    measure: str = ""
    output: str = ""
    ran: str = ""
    note: str = ""
    notes: tuple[str, ...] = ()
    fault: str = ""
    labels: NDArray[Any] | None = field(default=None, repr=False, compare=False)
    values: NDArray[Any] | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without pixels."""
        kept = {k: v for k, v in vars(self).items() if k not in ("labels", "values")}
        return kept | {"notes": list(self.notes)}

    @property
    def score_text(self) -> str:
        """The score with its name, "" where there is none."""
        return "" if self.score is None else f"{self.measure} {self.score:.3f}"


@dataclass(frozen=True)
class Comparison:
    """All entries, in the order of the models and scales; prints as a table.

    Attributes
    ----------
    image
        Its name or path.
    region
        Which part of it.
    scales
        As asked for.
    labels
        Name of the annotation, "" without one.
    picture
        The region's shown plane: (y x) or (y x 3) for a colour picture, as read.
    truth
        Its annotation (y x), None without one.
    """

    image: str
    region: Region
    scales: tuple[float, ...]
    entries: tuple[Entry, ...]
    skipped: tuple[Skipped, ...]
    labels: str = ""
    sources: tuple[Path, ...] = ()
    picture: NDArray[Any] | None = field(default=None, repr=False, compare=False)
    truth: NDArray[Any] | None = field(default=None, repr=False, compare=False)

    @property
    def ranked(self) -> tuple[Entry, ...]:
        """The best first: AP50, then Dice, then what has no score, failures last.

        Of equal scores the one nearer to scale 1 comes first; without labels the order is that of
        `entries`.
        """
        if not self.labels:
            return tuple(sorted(self.entries, key=lambda e: bool(e.fault)))

        def place(e: Entry) -> tuple[Any, ...]:
            group = (AP50, DICE).index(e.measure) if e.measure else 2
            return (bool(e.fault), group, -(e.score or 0.0), abs(log(e.scale)))

        return tuple(sorted(self.entries, key=place))

    @property
    def best(self) -> tuple[Entry, ...]:
        """The first of each measure that was taken, where there is a choice and it got any."""
        scored = [[e for e in self.ranked if e.measure == m] for m in (AP50, DICE)]
        return tuple(group[0] for group in scored if len(group) > 1 and group[0].score)

    @property
    def measures(self) -> tuple[str, ...]:
        """The scores that were taken."""
        return tuple(m for m in (AP50, DICE) if any(e.measure == m for e in self.entries))

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that were run, each once."""
        return tuple(dict.fromkeys(e.model for e in self.entries))

    @property
    def explanations(self) -> tuple[str, ...]:
        """What the scores mean, a sentence or two each."""
        told = [MEANINGS[m] for m in self.measures]
        return (*told, BOTH) if len(told) > 1 else tuple(told)

    @property
    def how_to_read(self) -> tuple[str, ...]:
        """What is shown, a sentence each."""
        told = ["A scale is how large the model saw the image; results have its own size again."]
        if any(e.labels is not None for e in self.entries):
            told.append("Objects are outlined; colours only tell neighbours apart.")
        if any(e.values is not None for e in self.entries):
            told.append("Grey pictures are a model's output, dark to bright.")
        return (*told, "Times are of one run of the region, loading left out.")

    def of(self, model: str) -> tuple[Entry, ...]:
        """Entries of one model, by scale."""
        return tuple(e for e in self.entries if e.model == model)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without pixels; entries are ranked."""
        return {
            "image": self.image,
            "region": {a: [s.start, s.stop] for a, s in self.region.slices.items()},
            "region_chosen": self.region.how,
            "scales": list(self.scales),
            "labels": self.labels or None,
            "measures": {m: MEANINGS[m] for m in self.measures},
            "entries": [e.to_dict() | {"best": e in self.best} for e in self.ranked],
            "skipped": [vars(s) for s in self.skipped],
        }

    def rows(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Headers and cells of the table; the score has its name as its header if it is one."""
        header = {0: (), 1: self.measures}.get(len(self.measures), ("SCORE",))
        objects = ("OBJECTS",) if any(e.objects is not None for e in self.entries) else ()
        rows = []
        for e in self.ranked:
            score = f"{e.score:.3f}" if e.score is not None else "-"
            named = (e.score_text or "-") if len(self.measures) > 1 else score
            rows.append(
                (
                    visible(e.model),
                    f"{e.scale:g}",
                    *(("-" if e.objects is None else str(e.objects),) if objects else ()),
                    *((named,) if header else ()),
                    "-" if e.seconds is None else f"{e.seconds:.2f}",
                    "-" if e.seconds_per_megapixel is None else f"{e.seconds_per_megapixel:.2f}",
                    f"FAILED: {one_line(e.fault)}" if e.fault else one_line(e.note),
                )
            )
        headers = ("MODEL", "SCALE", *objects, *header, "SECONDS", "S/MPIXEL", "NOTE")
        return headers, rows

    def to_csv(self) -> str:
        """The table for a spreadsheet: a header, a row per entry, ranked."""
        columns = (
            "model", "version", "scale", "objects", "measure", "score", "seconds",
            "seconds_per_megapixel", "load_seconds", "ran", "output", "note", "fault",
        )  # fmt: skip
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("rank", *columns))
        for rank, entry in enumerate(self.ranked, start=1):
            writer.writerow((rank, *(_cell(getattr(entry, c)) for c in columns)))
        return text.getvalue()

    def __str__(self) -> str:
        headers, rows = self.rows()
        cells = [headers, *rows]
        widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
        lines = [
            f"{visible(self.image)}, {self.region} ({self.region.how})",
            *(
                "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
                for row in cells
            ),
            *self.explanations,
            *(f"left out: {s}" for s in self.skipped),
        ]
        return "\n".join(lines)

    def write(self, out: str | Path) -> tuple[Path, ...]:
        """Write the contact sheet and the table.

        Parameters
        ----------
        out
            A folder, which gets compare.png, compare.html (self-contained) and compare.csv; or a
            file that ends in .png, .html or .csv.

        Raises
        ------
        UsageError
            For a file of another kind, or the image itself.
        StorageError
            For no space or no permission.
        """
        from ..images.atomic import written_beside

        files = targets(out, self.sources)
        for kind, path in files.items():
            with written_beside(path) as part:
                part.write_bytes(self._file(kind))
        return tuple(files.values())

    def _file(self, kind: str) -> bytes:
        if kind == "csv":
            return self.to_csv().encode()
        if kind == "html":
            from .page import page

            return page(self).encode()
        from .sheet import png, sheet

        return png(sheet(self))


def targets(out: str | Path, sources: Sequence[Path] = ()) -> dict[str, Path]:
    """The files that `Comparison.write` makes, by kind; asked before the work begins.

    Raises
    ------
    UsageError
        For a file of another kind, or one of `sources`.
    """
    path = Path(out).expanduser()
    kinds: Mapping[str, str] = {".png": "png", ".html": "html", ".htm": "html", ".csv": "csv"}
    ending = path.suffix.lower()
    if path.is_dir() or str(out).endswith("/"):
        made = {kind: path / name for kind, name in FILES.items()}
    elif ending in kinds:
        made = {kinds[ending]: path}
    elif path.exists() or ending in (".tif", ".tiff", ".jpg", ".jpeg", ".pdf", ".svg", ".json"):
        raise UsageError(
            f"A comparison is not written as {path}. Name a folder, or a file that ends in .png, "
            ".html or .csv."
        )
    else:
        made = {kind: path / name for kind, name in FILES.items()}
    taken = {s.resolve() for s in sources}
    if hit := [p for p in made.values() if p.resolve() in taken]:
        raise UsageError(f"{hit[0]} is an input and would be replaced. Choose another name.")
    return made


def one_line(text: str) -> str:
    """Text for one line of a table, as it can be shown anywhere."""
    return visible("; ".join(line.strip() for line in text.splitlines() if line.strip()))


def _cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@")):
        return f"'{value}"
    return value
