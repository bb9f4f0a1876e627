"""The ways to run a package here: weights format, backend, and precision of the hardware."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from biozoo.errors import BiozooError

from ..selection import Selection, Wish, backend_rank, format_rank, weigh
from .wishes import AUTO, FLOAT32

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

    from ..base import Backend
    from ..devices import Machine

__all__ = ["Candidate", "Here", "candidate_of", "find_candidates"]


@dataclass(frozen=True)
class Here:
    """What decides what can run: the machine, the backends, and what the person asked for.

    `wish.device` is the device of the reference: a proof does not change where a model runs.
    """

    machine: Machine
    wish: Wish
    backends: Mapping[str, type[Backend]]
    trusted: bool


@dataclass(frozen=True)
class Candidate:
    """Weights on a backend, computed in a precision; "float32" stands for the weights' own."""

    selection: Selection
    precision: str

    @property
    def key(self) -> str:
        """Names it for good: ``onnx openvino bfloat16``."""
        return f"{self.selection.weights_format} {self.selection.backend.name} {self.precision}"

    def __str__(self) -> str:
        s = self.selection
        return f"{self.precision} ({s.weights_format} on {s.backend.name})"

    def open(self, package: ModelPackage, threads: int | None) -> Backend:
        """Load it; raises as `Backend.open` does."""
        s = self.selection
        if self.precision == FLOAT32:
            return s.backend.open(package, s.weights_format, device=s.device, threads=threads)
        return s.backend.open_reduced(
            package, s.weights_format, self.precision, device=s.device, threads=threads
        )


def find_candidates(
    package: ModelPackage, here: Here, precision: str
) -> tuple[list[Candidate], dict[str, str]]:
    """What runs here besides the reference, in the order of `selection`, and why others do not.

    Parameters
    ----------
    precision
        One of `wishes.PRECISIONS`; "auto" for all of them.

    Returns
    -------
    list, dict
        The candidates, and ``format on backend`` -> why not.
    """
    found, reasons = [], {}
    for weights in sorted(package.summary.weights, key=format_rank):
        for backend in sorted(here.backends.values(), key=backend_rank):
            if weights not in backend.weights_formats:
                continue
            name = f"{weights} on {backend.name}"
            chosen, why = _selected(package, here, weights, backend)
            if chosen is None:
                reasons[name] = why
                continue
            if precision in (AUTO, FLOAT32):
                found.append(Candidate(chosen, FLOAT32))
            try:
                known = backend.precisions(package, weights, device=chosen.device)
            except BiozooError as exc:
                reasons[name] = exc.message
                continue
            for kind in known if precision == AUTO else (precision,):
                why = known.get(kind, f"{backend.name} does not compute in {kind}")
                if why:
                    reasons[name if precision != AUTO else f"{name}, {kind}"] = why
                else:
                    found.append(Candidate(chosen, kind))
    return found, reasons


def candidate_of(package: ModelPackage, here: Here, key: str) -> Candidate | None:
    """The candidate that was called `key`; None where it cannot run here any more."""
    weights, name, precision = key.split(" ")
    backend = next((b for b in here.backends.values() if b.name == name), None)
    if backend is None or weights not in package.summary.weights:
        return None
    chosen = _selected(package, here, weights, backend)[0]
    return None if chosen is None else Candidate(chosen, precision)


def _selected(
    package: ModelPackage, here: Here, weights: str, backend: type[Backend]
) -> tuple[Selection | None, str]:
    """These weights on this backend, or why not."""
    wish = here.wish
    for asked, has in ((wish.weights, weights), (wish.backend, backend.name)):
        if asked not in (None, has):
            return None, f"{asked} was asked for"
    wish = replace(wish, weights=weights, backend=backend.name)
    try:
        chosen, rejected = weigh(package, here.machine, wish, here.backends, trusted=here.trusted)
    except BiozooError as exc:
        return None, exc.message
    why = next((r.reason for r in rejected if r.obstacle != "asked"), "")
    return chosen, why
