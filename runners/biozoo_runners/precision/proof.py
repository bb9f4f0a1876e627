"""Whether a faster way to run a model gives what the first one gives, and in words by how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from biozoo.errors import BiozooError

from ..tolerance import OutputResult, Tolerance, compare
from .cases import Case, Made, Steps
from .changes import Changed, changed_objects, changed_pixels

if TYPE_CHECKING:
    from ..base import Backend

__all__ = ["CaseResult", "Proof", "Reference", "prove"]

#: Objects have no tolerance of their own: none may change.
_NO_OBJECT = Tolerance(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case: the differences per output, and what they mean.

    Attributes
    ----------
    name
        "test tensors" or "tile 3 of 16".
    values
        How many were compared.
    outputs
        Against the reference.
    test
        Against the author's own outputs; nothing for a tile, or where the reference itself does
        not reproduce them.
    pixels, objects
        How many there are, and how many change; see `changes`.
    """

    name: str
    values: int
    outputs: tuple[OutputResult, ...]
    test: tuple[OutputResult, ...]
    pixels: Changed
    objects: Changed

    @property
    def ok(self) -> bool:
        """Whether nothing differs by more than is allowed."""
        return all(o.ok for o in (*self.outputs, *self.test))


@dataclass(frozen=True, slots=True)
class Proof:
    """One way to run the model, compared with the reference on every case.

    `fault` says why it could not be compared.
    """

    candidate: str
    precision: str
    cases: tuple[CaseResult, ...] = ()
    fault: str = ""

    @property
    def ok(self) -> bool:
        """Whether it may be used."""
        return not self.fault and bool(self.cases) and all(c.ok for c in self.cases)

    @property
    def absolute_error(self) -> float:
        """Largest difference from the reference, in units of the output."""
        return max((o.absolute_error for c in self.cases for o in c.outputs), default=0.0)

    @property
    def off_per_million(self) -> float:
        """Values that differ by more than is allowed; of several outputs the most."""
        total = sum(c.values for c in self.cases)
        off = sum(
            c.values * max((o.off_per_million for o in c.outputs), default=0.0) for c in self.cases
        )
        return off / total if total else 0.0

    @property
    def pixels(self) -> Changed:
        """Of all cases."""
        return sum((c.pixels for c in self.cases), Changed())

    @property
    def objects(self) -> Changed:
        """Of all cases."""
        return sum((c.objects for c in self.cases), Changed())

    @property
    def consequence(self) -> str:
        """What the differences mean: ``34 per million pixels and 1 of 57 objects change``."""
        told = []
        if self.pixels.total:
            told.append(f"{self.pixels.per_million:,.3g} per million pixels")
        if self.objects.total or self.objects.changed:
            told.append(f"{self.objects.changed:,} of {self.objects.total:,} objects")
        return f"{' and '.join(told)} change" if told else ""

    def __str__(self) -> str:
        if self.fault:
            return f"{self.candidate}: {self.fault}"
        where = ", ".join(c.name for c in self.cases)
        said = (
            f"{self.candidate} changes values by up to {self.absolute_error:.2g} "
            f"({self.off_per_million:,.0f} per million by more than is allowed: {self._allowed})"
        )
        if self.consequence:
            said += f"; {self.consequence}"
        lost = [o.output for c in self.cases for o in c.test if not o.ok]
        if lost:
            said += f"; the author's test output {lost[0]} is not reproduced"
        return f"{said} ({where})"

    @property
    def _allowed(self) -> str:
        allowed = {o.tolerance for c in self.cases for o in c.outputs}
        parts = sorted(
            f"{t.absolute:g}" + (f" + {t.relative:g} of the value" if t.relative else "")
            for t in allowed
        )
        return " or ".join(parts)


class Reference:
    """What the first choice gives on the cases, kept to be compared with."""

    def __init__(
        self,
        backend: Backend,
        cases: Sequence[Case],
        steps: Steps,
        allowed: Mapping[str, Tolerance],
        *,
        keep_objects: bool = True,
    ) -> None:
        """Run every case.

        Parameters
        ----------
        allowed
            Per output; of one that is a label image, for the values that it is made of.
        keep_objects
            Whether no object of such an output may change.

        Raises
        ------
        BackendError, OutOfMemoryError
            The reference itself fails.
        """
        self.steps, self.allowed = steps, allowed
        self._keep_objects = keep_objects
        self.cases = tuple((case, case.finish(backend.run(case.feed))) for case in cases)
        #: Outputs whose test tensors it reproduces: others cannot be asked of any candidate.
        self.reproduced = frozenset(
            result.output
            for case, made in self.cases
            for result in self._against_author(case, made)
            if result.ok
        )

    def result(self, case: Case, expected: Made, got: Made) -> CaseResult:
        """One case of a candidate."""
        outputs = [
            compare(o, got.values[o], a, self.allowed[o]) for o, a in expected.values.items()
        ]
        objects = Changed()
        for name, labels in expected.labels.items():
            found = changed_objects(got.labels[name], labels)
            objects += found
            if name in expected.values and self._keep_objects:
                outputs.append(_objects_result(name, found))
        pixels = sum(
            (
                changed_pixels(o, got.values[o], a, self.steps.dims[o], self.steps.instances)
                for o, a in expected.values.items()
                if got.values[o].shape == a.shape
            ),
            Changed(),
        )
        author = tuple(r for r in self._against_author(case, got) if r.output in self.reproduced)
        count = sum(a.size for a in expected.values.values())
        return CaseResult(case.name, count, tuple(outputs), author, pixels, objects)

    def _against_author(self, case: Case, made: Made) -> list[OutputResult]:
        results: list[OutputResult] = []
        for o, array in case.expected.items():
            if o not in made.labels:
                results.append(compare(o, made.values[o], array, self.allowed[o]))
            elif self._keep_objects and made.labels[o].shape == array.shape:
                results.append(_objects_result(o, changed_objects(made.labels[o], array)))
        return results


def prove(candidate: str, precision: str, backend: Backend, reference: Reference) -> Proof:
    """Run every case on a candidate; a failure of it is told, not raised."""
    results: list[CaseResult] = []
    for case, expected in reference.cases:
        try:
            got = case.finish(backend.run(case.feed))
        except BiozooError as exc:
            return Proof(candidate, precision, tuple(results), fault=f"it does not run: {exc}")
        results.append(reference.result(case, expected, got))
    return Proof(candidate, precision, tuple(results))


def _objects_result(output: str, found: Changed) -> OutputResult:
    return OutputResult(output, _NO_OBJECT, off_per_million=found.per_million)
