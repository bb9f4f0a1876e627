"""Custom processing: the author's Python code, bound to a confined process.

`bind` asks for the consent of `zoo trust`, starts one process for all custom steps of a package
with the very text that was consented to, and puts steps that call it in the place of the plain
`Custom` ones. As in bioimageio.core, a step is called with the one tensor that it belongs to,
axes and batch as described, and returns an array of the same shape.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from biozoo.errors import BackendError, InvalidPackageError, OutOfMemoryError, UntrustedCodeError

from .processing import Chain, Processing
from .steps import Array, Block, Step
from .steps_external import Custom, require_libraries

if TYPE_CHECKING:
    from biozoo.code import CodeItem
    from biozoo.package import ModelPackage

    from .isolated.client import Child

__all__ = ["CustomCode", "bind", "ready"]

EXECUTOR = "biozoo_runners.executors.processing_code:ProcessingCode"


def bind(
    package: ModelPackage, processing: Processing, *, threads: int
) -> tuple[Processing, CustomCode | None]:
    """The processing with its custom steps ready to run.

    Parameters
    ----------
    package
        The model.
    processing
        Its postprocessing; returned as it is where it holds no custom step.
    threads
        For the libraries that the code uses.

    Returns
    -------
    tuple
        The processing, and what to `close` after it (None: nothing).

    Raises
    ------
    MissingDependencyError, UntrustedCodeError
        See `ready`.
    BackendError
        The code cannot be loaded.
    """
    items = ready(package, processing)
    if not items:
        return processing, None
    code = CustomCode(package.id, items, threads=threads)
    numbers = iter(range(len(items)))

    def bound(chain: Chain) -> Chain:
        steps = tuple(
            BoundCustom(step, code, next(numbers)) if isinstance(step, Custom) else step
            for step in chain.steps
        )
        return replace(chain, steps=steps)

    return Processing({t: bound(chain) for t, chain in processing.chains.items()}), code


def ready(package: ModelPackage, processing: Processing) -> tuple[CodeItem, ...]:
    """Whether the postprocessing can run here, asked before weights are loaded.

    Returns
    -------
    tuple
        The code of the custom steps, in their order; empty where there are none.

    Raises
    ------
    MissingDependencyError
        A step's library is not installed.
    UntrustedCodeError
        Nobody has allowed the code.
    HashMismatchError, InvalidPackageError, MissingFileError
        A source is not the one described, or cannot be read.
    """
    require_libraries(package.id, {t: c.steps for t, c in processing.chains.items()})
    steps = [s for c in processing.chains.values() for s in c.steps if isinstance(s, Custom)]
    if not steps:
        return ()
    from biozoo.consent import require

    items = tuple(i for i in require(package) if i.kind == "processing")
    if [i.callable for i in items] != [s.callable for s in steps]:
        raise UntrustedCodeError(  # two readers of one description disagree: nothing runs
            f"Model '{package.id}': its description names the custom steps "
            f"{', '.join(s.callable for s in steps)}, and consent was given for "
            f"{', '.join(i.callable for i in items) or 'none'}. Nothing of it was run."
        )
    for item in items:
        _plain(package, item)
    return items


def _plain(package: ModelPackage, item: CodeItem) -> None:
    """Refuse arguments that would reach the process changed."""
    given = dict(item.kwargs)
    try:
        same = repr(json.loads(json.dumps(given))) == repr(given)
    except (TypeError, ValueError):
        same = False
    if not same:
        raise InvalidPackageError(
            source=package.rdf,
            fields={
                f"{item.where}.kwargs": f"{given!r}: takes numbers, text, lists, and mappings "
                "whose keys are text"
            },
        )


class CustomCode:
    """The process that runs the custom steps of one package; end it with `close`."""

    def __init__(self, model: str, items: Sequence[CodeItem], *, threads: int) -> None:
        """Start the process and load the steps; raises as `bind`."""
        from .isolated.client import Child, ForeignError

        self._model, self._whats = model, [item.what for item in items]
        steps = [
            {
                "source": item.source,
                "text": item.text,
                "callable": item.callable,
                "kwargs": dict(item.kwargs),
            }
            for item in items
        ]
        try:
            self._child: Child = Child.start(
                EXECUTOR,
                {"device": "cpu", "threads": threads, "steps": steps},
                model=model,
                doing=f"load its {', '.join(dict.fromkeys(self._whats))}",
                threads=threads,
            )
        except ForeignError as exc:
            raise self._told(exc, ", ".join(dict.fromkeys(self._whats)), "load") from exc

    @property
    def peak_memory(self) -> int:
        """Most bytes of memory that the process has taken."""
        return self._child.peak_memory

    @property
    def notes(self) -> tuple[str, ...]:
        """For the report: the protections that the process does without on this machine."""
        return self._child.code_notes

    def run(self, number: int, x: Array) -> Array:
        """The tensor that the step of this number makes of `x`.

        Raises
        ------
        BackendError
            The code failed, took too long, ended its process, or returned something else than an
            array of the same shape.
        OutOfMemoryError
            Memory ended in it.
        """
        from .isolated.client import ForeignError

        what = self._whats[number]
        self._child.doing = f"run its {what}"
        try:
            made = self._child.run([np.array(number), x])
        except ForeignError as exc:
            raise self._told(exc, what, "run") from exc
        if len(made) != 1 or made[0].shape != x.shape:
            got = ", ".join(str(a.shape) for a in made) or "nothing"
            raise BackendError(
                f"Model '{self._model}': its {what} was given a tensor of shape {x.shape} and "
                f"returned {got}. A custom step keeps the shape; ask the package's author."
            )
        if made[0].dtype.kind not in "biuf":  # its process says what it likes
            raise BackendError(
                f"Model '{self._model}': its {what} returned an array of {made[0].dtype} and not "
                "of real numbers. Ask the package's author."
            )
        return made[0]

    def close(self) -> None:
        """End the process; may be called twice."""
        self._child.close()

    def _told(self, error: BackendError, what: str, doing: str) -> BackendError | OutOfMemoryError:
        kind, text = getattr(error, "kind", ""), getattr(error, "text", "")
        if kind == "NotFitting":
            ask = "" if "ask its author" in text else " Ask the package's author."
            return BackendError(
                f"Model '{self._model}' failed to {doing} its {what}: {text.rstrip('.')}.{ask}"
            )
        if kind in ("MemoryError", "OutOfMemoryError"):
            return OutOfMemoryError(
                f"Model '{self._model}': its {what} ran out of memory ({text}). It works on the "
                "whole image: crop it."
            )
        return error


@dataclass(frozen=True, slots=True)
class BoundCustom(Step):
    """A custom step that runs; see `bind`."""

    step: Custom
    code: CustomCode
    number: int

    whole: ClassVar[bool] = True

    def apply(self, x: Array, block: Block, *, own: bool) -> Array:
        return self.code.run(self.number, x)
