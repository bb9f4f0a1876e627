"""Whether a model runs on this computer, in a word or two and one sentence, before it is loaded.

A model that is here is asked as a run asks (`biozoo_runners.selection.weigh`). Of one that is not,
only its summary is known: the weights formats are held against the backends, and what its files
alone could tell is called unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from biozoo.errors import BiozooError

if TYPE_CHECKING:
    from biozoo import ModelPackage, ModelSummary
    from biozoo_runners.base import Backend
    from biozoo_runners.devices import Machine
    from biozoo_runners.selection import Rejection, Selection

__all__ = ["Badge", "badge", "badge_unseen"]

State = Literal["runs", "needs", "trust", "no", "unknown"]


@dataclass(frozen=True)
class Badge:
    """What a card says of a model.

    Attributes
    ----------
    state
        For filters and colours.
    words
        On the badge.
    why
        One sentence.
    todo
        What to type in a terminal so that it runs, "" where nothing helps or nothing is needed.
    """

    state: State
    words: str
    why: str
    todo: str = ""


def badge(package: ModelPackage) -> Badge:
    """The badge of a built-in or installed model; nothing is loaded."""
    from biozoo.consent import is_trusted, typed

    trust = package.trust
    try:
        chosen, rejected = _weigh(package, trusted=is_trusted(package))
        if chosen is None:
            return _nothing_left(rejected, typed(package))
        if trust == "untrusted code":
            return _untrusted(typed(package))
        return _library_of_steps(package) or _runs(chosen)
    except BiozooError as exc:
        return Badge("no", "Does not run", _sentence(exc.message))


def badge_unseen(summary: ModelSummary, trust: str | None, note: str = "") -> Badge:
    """The badge of a model whose files are not on this machine.

    Parameters
    ----------
    summary
        What the collection tells of it.
    trust
        As its description tells it, None where that could not be had.
    note
        Why it could not be had.
    """
    if trust is None or not summary.weights:
        why = f"Its description could not be had{f': {note}' if note else ''}"
        return Badge("unknown", "Not judged yet", _sentence(why))
    return _unseen(summary.weights, trust, summary.id)


@cache
def _unseen(weights: tuple[str, ...], trust: str, model_id: str) -> Badge:
    from biozoo.code import KERAS_FORMATS

    try:
        chosen, rejected = _weigh(_unseen_package(model_id, weights), trusted=False)
        if chosen is None:
            return _nothing_left(rejected, model_id)
        if trust == "untrusted code":
            return _untrusted(model_id)
        if chosen.weights_format in KERAS_FORMATS:
            # Its file may hold code. Where it does, a run takes the other weights.
            others = tuple(w for w in weights if w not in KERAS_FORMATS)
            other, _ = _weigh(_unseen_package(model_id, others), trusted=False)
            if other is None:
                why = (
                    f"Its {chosen.weights_format} weights may hold its author's code, which shows "
                    f"only in the file: add it to find out, zoo trust {model_id} shows that code."
                )
                return Badge("unknown", "Not judged yet", why)
    except BiozooError as exc:
        return Badge("no", "Does not run", _sentence(exc.message))
    how = f"{chosen.backend.name} executes its {chosen.weights_format} weights"
    why = f"Judged by its description: on this computer {how}, once it is added."
    return Badge("runs", "Should run here", why)


def _unseen_package(model_id: str, weights: tuple[str, ...]) -> ModelPackage:
    """A package of which only the weights formats are known."""
    from biozoo import ModelPackage, ModelSummary

    nowhere = Path(model_id) / "not-here"
    return ModelPackage(
        id=model_id,
        version=None,
        root=nowhere,
        rdf=nowhere / "rdf.yaml",
        origin="collection",
        source=model_id,
        summary=ModelSummary(id=model_id, weights=weights),
    )


def _runs(chosen: Selection) -> Badge:
    where = "the graphics card" if chosen.device.startswith("cuda") else "the processor"
    how = f"{chosen.backend.name} executes its {chosen.weights_format} weights on {where}"
    return Badge("runs", "Runs here", f"On this computer {how}.")


def _untrusted(name: str) -> Badge:
    why = (
        "It would run its author's code, which nobody has allowed on this computer: "
        f"zoo trust {name}, typed in a terminal, shows that code and asks."
    )
    return Badge("trust", "Needs your trust", why, f"zoo trust {name}")


def _nothing_left(rejected: Sequence[Rejection], name: str) -> Badge:
    """By the first obstacle that a person can remove, in the order in which weights are taken."""
    for one in rejected:
        weights = one.candidate.partition(" ")[0]
        if one.obstacle == "library":
            return _missing(one, weights)
        if one.obstacle == "device":
            return Badge("needs", "Needs other hardware", _sentence(f"{weights}: {one.reason}"))
        if one.obstacle == "trust":
            return _untrusted(name)
    if not rejected:
        return Badge("no", "Does not run", "The package has no weights.")
    formats = ", ".join(dict.fromkeys(r.candidate.partition(" ")[0] for r in rejected))
    why = f"Nothing here executes its weights ({formats}); only its author can give others."
    return Badge("no", "Does not run", why)


def _missing(one: Rejection, weights: str) -> Badge:
    reason = one.reason.partition(". Install it:")[0]
    found = re.match(r"([\w.-]+) is not installed", reason)
    library = found[1] if found else "another library"
    again = ": type what installs it in a terminal, then start biozoo again"
    why = f"Its {weights} weights cannot be executed yet, {reason}{again if one.install else ''}"
    return Badge("needs", f"Needs {library}", _sentence(why), one.install)


def _library_of_steps(package: ModelPackage) -> Badge | None:
    """What a step of its postprocessing needs and this computer lacks; None where nothing."""
    from biozoo.install import install_line
    from biozoo_runners.steps_external import LIBRARIES, is_installed

    for name in _steps(package.raw):
        library = LIBRARIES.get(name)
        if library is not None and not is_installed(library):
            why = (
                f"Its objects are made by {library}, which is not installed: "
                "type what installs it in a terminal, then start biozoo again."
            )
            return Badge("needs", f"Needs {library}", why, install_line(library))
    return None


def _steps(raw: Mapping[str, Any]) -> list[str]:
    """The names of all postprocessing steps."""
    outputs = raw.get("outputs")
    found = []
    for tensor in outputs if isinstance(outputs, list) else ():
        steps = tensor.get("postprocessing") if isinstance(tensor, Mapping) else None
        for step in steps if isinstance(steps, list) else ():
            if isinstance(step, Mapping):
                found.append(str(step.get("id") or step.get("name") or ""))
    return found


def _weigh(
    package: ModelPackage, *, trusted: bool
) -> tuple[Selection | None, tuple[Rejection, ...]]:
    from biozoo_runners.selection import Wish, weigh

    machine, backends, failed = _here()
    return weigh(package, machine, Wish(), backends, failed, trusted=trusted)


@cache
def _here() -> tuple[Machine, dict[str, type[Backend]], dict[str, str]]:
    """The machine and what executes weights here: neither changes while a server runs."""
    from biozoo_runners.devices import detect
    from biozoo_runners.pipeline import known_backends

    return (detect(), *known_backends())


def _sentence(text: str) -> str:
    """One line that ends as a sentence does."""
    line = " ".join(text.split())
    return line if line.endswith((".", "!", "?")) else f"{line}."
