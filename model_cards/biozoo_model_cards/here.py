"""Does the model run on this machine? The answer of `zoo check`, without loading anything.

It asks the same functions as `biozoo_runners.check`, but for those that read the description with
bioimageio.spec, which takes more than a second to import.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from biozoo.errors import BiozooError

from .clean import one_line

if TYPE_CHECKING:
    from biozoo import ModelPackage
    from biozoo_runners.devices import Machine

__all__ = ["Here", "Made", "made", "runs_here"]


@dataclass(frozen=True)
class Here:
    """Whether it runs on the machine on which the card was made.

    Attributes
    ----------
    ok
        The answer. Weights that would have to be downloaded first are no "no".
    how
        "onnx with onnxruntime on cpu", or why it does not.
    notes
        What else is to be known or done.
    machine
        The kind of machine: system, cores, memory, cards; no name and no address.
    """

    ok: bool
    how: str
    notes: tuple[str, ...]
    machine: str


@dataclass(frozen=True)
class Made:
    """When and with what a card was made."""

    date: str
    version: str


def made() -> Made:
    """Now, or SOURCE_DATE_EPOCH, by which builds are made repeatable."""
    import biozoo

    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdigit() else datetime.now(UTC)
    return Made(f"{now:%Y-%m-%d}", biozoo.__version__)


def runs_here(package: ModelPackage, handle: str) -> Here:
    """Ask the backends; `handle` is how the card names the package in commands."""
    from biozoo_runners import check_machine, check_trust
    from biozoo_runners.devices import detect
    from biozoo_runners.selection import Wish

    machine = detect()
    named = replace(package, source=handle)  # commands of the answer name it as the card does
    if (raw := package.__dict__.get("raw")) is not None:
        named.__dict__["raw"] = raw
    try:
        choice = check_machine.choose(named, machine, Wish())
        found = [*check_machine.weights(named, choice), *check_trust.trust(named, choice)]
    except BiozooError as exc:
        return Here(False, _clean(exc.message, package), (), _kind(machine))
    stands = [item for item in found if item.status == "no"]
    ok = choice.chosen is not None and not stands
    how = found[0].what if ok else "; ".join(i.what for i in stands or found[:1])
    if ok:
        notes = [n for i in found if i.status == "note" for n in (i.what, i.todo)]
        notes += [choice.chosen.why] if choice.chosen is not None else []
    else:
        notes = [i.todo for i in stands]
        notes += [d for i in stands if i.topic == "weights" for d in i.details[:8]]
    cleaned = dict.fromkeys(_clean(n, package) for n in notes)
    return Here(ok, _clean(how, package), tuple(c for c in cleaned if c), _kind(machine))


def _clean(text: str, package: ModelPackage) -> str:
    """One line, without the paths of this machine."""
    for path, word in ((package.root, "the package"), (Path.home(), "~")):
        if len(str(path)) > 1:
            text = text.replace(str(path), word)
    return one_line(text)


def _kind(machine: Machine) -> str:
    return f"{platform.system() or 'unknown system'} {platform.machine()}, {machine}"
