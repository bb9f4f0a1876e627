"""The part of a check that is about the author's code: what would run, and who allowed it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from biozoo.errors import BiozooError, MissingFileError

from .check import CheckItem

if TYPE_CHECKING:
    from biozoo.code import CodeItem
    from biozoo.package import ModelPackage

    from .check_machine import Choice
    from .isolated.confine import Protection


def trust(package: ModelPackage, choice: Choice) -> Iterator[CheckItem]:
    """Whether the author's code would run, and whether somebody allowed it."""
    from biozoo.code import code_items, described, unseen
    from biozoo.consent import consent_of, typed

    todo = f"Look at it and decide: zoo trust {typed(package)}"
    items, consent = described(package.raw), None
    try:
        items = code_items(package)
        consent = consent_of(package, items)
    except BiozooError as exc:
        if _here(package) and _needed(package, items, choice):
            what = "Get the whole package again, from whom you trust."
            yield CheckItem("trust", "no", exc.message, what)
            return
        if isinstance(exc, MissingFileError):
            todo = f"Get it, look at its code and decide: zoo trust {typed(package)}"
    needed = _needed(package, items, choice)
    listed = "; ".join(map(str, needed))
    facts: dict[str, Any] = {
        "code": [str(i) for i in items],
        "needed": [str(i) for i in needed],
        "allowed": consent.granted if consent else None,
    }
    if not needed:
        spare = f" ({'; '.join(i.what for i in items)} is not needed)" if items else ""
        yield CheckItem("trust", "yes", f"it runs no code of its author{spare}", facts=facts)
    elif consent is None:
        what = f"it would run its author's code, which nobody has allowed: {listed}"
        yield CheckItem("trust", "no", what, todo, facts=facts)
    else:
        what = f"its author's code runs, as allowed on {consent.granted[:10]}: {listed}"
        protections = _protections()
        missing = [p for p in protections if not p.holds]
        held = len(protections) - len(missing)
        details = [f"{held} of {len(protections)} protections hold: zoo trust {typed(package)}"]
        details += [f"not on this machine: {p.name} ({p.how})" for p in missing]
        facts["protections"] = [asdict(p) for p in protections]
        yield CheckItem("trust", "yes", what, details=tuple(details), facts=facts)
    for why in unseen(package):
        hint = "Install it to look into them: pip install h5py" if "h5py" in why else ""
        yield CheckItem("trust", "note", why, hint or f"Get them: zoo add {typed(package)}")


def _needed(
    package: ModelPackage, items: Sequence[CodeItem], choice: Choice
) -> tuple[CodeItem, ...]:
    """The items that run with what would be chosen."""
    if choice.otherwise is not None:
        runs: tuple[str, ...] = (choice.otherwise.weights_format,)
    else:
        asked = choice.wish.weights
        runs = (asked,) if asked is not None else tuple(package.summary.weights)
        by_code = {i.weights for i in items}
        if not all(w in by_code or w == "tensorflow_js" for w in runs):
            runs = ()  # there is a way without
    return tuple(i for i in items if i.weights is None or i.weights in runs)


def _here(package: ModelPackage) -> bool:
    from biozoo.peek import is_here

    return any(is_here(package, w) for w in package.summary.weights)


def _protections() -> tuple[Protection, ...]:
    """What holds on this machine while such code runs."""
    from .isolated.confine import protections

    return protections()
