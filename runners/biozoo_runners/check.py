"""Will a model run here, does it fit an image, and if not: why, and what to do.

The whole answer before anything is downloaded or run. Nothing is loaded and no statistics are
taken; of the image, the header and a small region are read. Checking does not stop at the first
"no". Of a model that is not on this machine, its description alone is fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

    from .prepare import Channel, ImageLike

Status = Literal["yes", "note", "no"]

#: Every topic that an item may have, in the order of a report.
TOPICS = (
    "format",
    "licence",
    "weights",
    "dependency",
    "trust",
    "device",
    "processing",
    "image",
    "axes",
    "channels",
    "size",
    "dtype",
    "intensity",
    "pixel size",
    "memory",
)


@dataclass(frozen=True, slots=True)
class CheckItem:
    """One question and its answer.

    Attributes
    ----------
    topic
        One of `TOPICS`.
    status
        "no" stands against a run, "note" should be known.
    what
        The answer in a line.
    todo
        What to do about a "no" or a "note".
    details
        Further lines: each candidate that was not taken, how a number was estimated.
    facts
        The same as plain values.
    """

    topic: str
    status: Status
    what: str
    todo: str = ""
    details: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.status:4} {self.topic}: {self.what}"]
        lines += [f"     - {line}" for line in self.details]
        return "\n".join([*lines, *([f"     -> {self.todo}"] if self.todo else [])])


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All answers; prints one line each, and what belongs to it below."""

    model: str
    image: str | None
    items: tuple[CheckItem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing stands against a run."""
        return all(i.status != "no" for i in self.items)

    @property
    def exit_code(self) -> int:
        """0 it will run, 1 it will not."""
        return 0 if self.ok else 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"ok": self.ok}

    def __str__(self) -> str:
        on = f" on {self.image}" if self.image else ""
        head = f"{self.model} {'will' if self.ok else 'will NOT'} run{on}"
        return "\n".join([head, *(f"  {item}".replace("\n", "\n  ") for item in self.items)])


def check(
    package: ModelPackage | str | Path,
    image: ImageLike | Mapping[str, ImageLike] | None = None,
    *,
    axes: str | Sequence[str] | None = None,
    channel: Channel | Mapping[str, Channel] | None = None,
    tile: Mapping[str, int] | None = None,
    device: str = "auto",
    weights: str | None = None,
    backend: str | None = None,
) -> CheckReport:
    """Check a model against this machine and an image.

    Parameters
    ----------
    package
        A `ModelPackage`, or what `biozoo.open` takes. Of an id of the collection or the address of
        a description, the description is fetched and nothing else (`biozoo.peek`).
    image
        What a `Runner` takes; None checks the machine only.
    axes, channel, tile, device, weights, backend
        As for `load` and `Runner`.

    Raises
    ------
    NotFoundError, MissingFileError, CollectionError
        The model itself cannot be had; everything else is an item of the report.
    """
    from biozoo.peek import peek

    from .selection import Wish

    package = peek(package)
    wish = Wish(device, weights, backend=backend)
    items = _items(package, image, axes, channel, tile, wish)
    ordered = sorted(items, key=lambda i: TOPICS.index(i.topic))
    name = None if image is None else str(image) if isinstance(image, str | Path) else "the image"
    return CheckReport(package.id, name, tuple(ordered))


def _items(
    package: ModelPackage,
    image: ImageLike | Mapping[str, ImageLike] | None,
    axes: str | Sequence[str] | None,
    channel: Channel | Mapping[str, Channel] | None,
    tile: Mapping[str, int] | None,
    wish: Any,
) -> Iterator[CheckItem]:
    from . import check_image, check_machine, check_memory, check_trust
    from .devices import detect

    machine = detect()
    valid = check_machine.description(package)
    yield valid
    yield check_machine.licence(package)
    choice = check_machine.choose(package, machine, wish)
    yield from check_machine.weights(package, choice)
    yield from check_machine.dependencies(package, machine, choice)
    yield from check_trust.trust(package, choice)
    yield from check_machine.device(machine, choice)
    if valid.status == "no":
        return
    yield from check_machine.processing(package)
    if image is None:
        load = check_memory.without_image(package)
    else:
        fits = check_image.fit_image(package, image, axes, channel, tile)
        yield from check_image.items(package, fits)
        load = check_memory.with_image(package, fits)
    if load is not None:
        yield from check_memory.items(package, machine, choice, load)
