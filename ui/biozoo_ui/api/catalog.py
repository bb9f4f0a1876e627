"""The models that a page offers, and what it says about each before anything heavy is loaded."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biozoo.errors import BiozooError, NoBackendError, NotFoundError

from .sample import SIMULATED

if TYPE_CHECKING:
    from biozoo import ModelPackage, Settings


@dataclass(frozen=True)
class Verdict:
    """Whether a model can run on this machine, and how or why not, in words."""

    ok: bool
    why: str


@dataclass(frozen=True)
class Entry:
    """One card: what the list shows of a model."""

    id: str
    version: str
    name: str
    description: str
    task: str
    dimensions: str
    size: str
    license: str
    origin: str
    trust: str
    cover: bool
    runs: bool
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class Catalog:
    """The models of one zoo: built-in and installed. Ids from outside only ever select from it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._verdicts: dict[tuple[str, str | None, str], Verdict] = {}
        self._lock = threading.Lock()

    def packages(self) -> list[ModelPackage]:
        """Every model in its newest version, the built-in ones first.

        Read anew each time, since `zoo add` may run beside.
        """
        import biozoo

        newest: dict[str, ModelPackage] = {}
        for package in biozoo.list_packages(settings=self._settings):  # versions rise
            known = newest.get(package.id)
            if known is None or known.origin != "built-in":
                newest[package.id] = package
        return list(newest.values())

    def package(self, model_id: str) -> ModelPackage:
        """The newest version of this model.

        Raises
        ------
        NotFoundError
            For an id that the zoo does not hold. Paths and addresses are no ids.
        """
        packages = {package.id: package for package in self.packages()}
        if model_id in packages:
            return packages[model_id]
        raise NotFoundError(kind="model", got=model_id, known=packages, hint="See zoo list.")

    def entries(self) -> list[Entry]:
        """A card for every model: those that run here first, and of these the built-in ones."""
        order = {name: i for i, name in enumerate(SIMULATED)}
        entries = (self.entry(p) for p in self.packages())
        return sorted(entries, key=lambda e: (not e.runs, order.get(e.id, len(order))))

    def search(self, words: str) -> list[str]:
        """Ids of the models that fit all the words, best first; every id for no words."""
        import biozoo

        mine = [package.id for package in self.packages()]
        if not words.strip():
            return mine
        # Offline: typing in the page's search box must not ask the network for each letter.
        found = biozoo.search(words, settings=replace(self._settings, offline=True))
        return [f.id for f in found if f.id in mine]

    def entry(self, package: ModelPackage) -> Entry:
        """The card of one model."""
        from biozoo.files import size_text
        from biozoo_model_cards.words import dimensions

        summary, verdict = package.summary, self.verdict(package)
        return Entry(
            id=package.id,
            version=package.version or "",
            name=summary.name or package.id,
            description=summary.description,
            task=summary.task,
            dimensions=dimensions(t.axes for t in summary.inputs),
            size=size_text(package.size),
            license=summary.license,
            origin=package.origin,
            trust=package.trust,
            cover=self.cover(package) is not None,
            runs=verdict.ok,
            why=verdict.why,
        )

    def cover(self, package: ModelPackage) -> Path | None:
        """The picture of a model, None where it has none that a browser shows."""
        source = package.summary.cover
        if not source or Path(source).suffix.lower() not in COVER_TYPES:
            return None
        try:
            return package.path(source)
        except BiozooError:  # not on this machine
            return None

    def verdict(self, package: ModelPackage) -> Verdict:
        """Whether this machine can run the model. Asked once per model and state of trust:
        hardware stays, and consent may be given beside.
        """
        key = (package.id, package.version, package.trust)
        with self._lock:
            if key not in self._verdicts:
                self._verdicts[key] = _verdict(package)
            return self._verdicts[key]


COVER_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}
"""Suffixes that are shown, with their media types. No SVG: it can hold a script."""


_UNTRUSTED = (
    "It would run its author's code, which nobody has allowed. "
    "To look at it and decide, type in a terminal: zoo trust {}"
)


def _verdict(package: ModelPackage) -> Verdict:
    from biozoo.consent import is_trusted
    from biozoo_runners.devices import detect
    from biozoo_runners.pipeline import known_backends
    from biozoo_runners.selection import Wish, select

    if package.trust == "untrusted code":
        return Verdict(False, _UNTRUSTED.format(package.id))
    try:
        known = known_backends()
        selection = select(package, detect(), Wish(), *known, trusted=is_trusted(package))
    except NoBackendError as exc:
        listed = "".join(f"\n{what}: {why}." for what, why in exc.reasons.items())
        return Verdict(False, f"Nothing on this computer executes its weights.{listed}")
    except BiozooError as exc:
        return Verdict(False, exc.message)
    return Verdict(True, f"{selection.weights_format} on {selection.device}")
