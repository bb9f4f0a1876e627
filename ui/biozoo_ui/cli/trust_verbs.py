"""The verb that shows a model's own code and asks whether it may run."""

from __future__ import annotations

import json
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biozoo.files import size_text
from biozoo.visible import other_letters, visible

from .listing import line_count, listing, odd_lines
from .options import Json
from .output import emit_json, note, say, verb
from .progress import download_bar
from .zoo_verbs import Model

if TYPE_CHECKING:
    from biozoo import ModelPackage
    from biozoo.code import CodeItem
    from biozoo.consent import Consent

#: Lines of one source that are shown on a terminal; the whole is a pipe away.
TERMINAL_LINES = 400


@verb
def trust(
    model: Model,
    yes: Annotated[
        bool, typer.Option("--yes", help="Allow what is printed, without asking; for scripts.")
    ] = False,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Take back what was allowed for this model.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Look at a model's own code, and decide whether it may run.

    It prints every source that would run and what protects this computer meanwhile, and asks. The
    answer counts for exactly that code: a changed byte is asked for again. Ends with 1 where the
    answer is no.
    """
    import biozoo
    from biozoo.code import code_items
    from biozoo.consent import consent_of, grant
    from biozoo.errors import BiozooError, UsageError

    if yes and withdraw:
        raise UsageError("--yes allows and --withdraw takes back. Give one of the two.")
    try:
        with download_bar("downloading") as progress:
            package = biozoo.open(model, progress=progress)
    except BiozooError:  # what is no longer there, or damaged, can be taken back by its id
        if not (withdraw and _withdraw_id(model, as_json=as_json)):
            raise
        return
    if withdraw:
        _withdraw(package, as_json=as_json)
        return
    items = code_items(package)
    consent = consent_of(package, items)
    granted = bool(items) and yes and consent is None
    if granted:
        if not as_json:
            _show(package, items)
        consent = grant(package, items)
    if as_json:
        emit_json(_facts(package, items, consent))
    elif not items:
        say(f"{package} runs no code of its author: there is nothing to allow.")
        _tell_unseen(package)
    elif granted:
        say(f"{_name(package)} may run this code from now on.")
    elif consent is not None:
        _show(package, items)
        say(f"Exactly this code was allowed on {consent.granted[:10]}.")
        say(f"To take that back: zoo trust {_typed(package)} --withdraw")
    else:
        _show(package, items)
        _ask(package, items)


def _ask(package: ModelPackage, items: Sequence[CodeItem]) -> None:
    """Ask the person at the terminal.

    Raises
    ------
    UsageError
        Nobody is there to answer.
    """
    from biozoo.consent import grant
    from biozoo.errors import UsageError

    if not _someone_is_there():
        raise UsageError(
            "Nothing was allowed: whether this code may run is asked on a terminal, and this is "
            f"none. If you have read it: zoo trust {_typed(package)} --yes"
        )
    print("May exactly this code run? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        note("Nothing was allowed.")
        raise typer.Exit(1)
    grant(package, items)  # what was shown: a source that changed meanwhile has another hash
    say(f"{_name(package)} may run this code from now on.")
    say(f"To take that back: zoo trust {_typed(package)} --withdraw")


def _someone_is_there() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _withdraw(package: ModelPackage, *, as_json: bool) -> None:
    from biozoo.consent import withdraw

    taken = withdraw(package)
    if as_json:
        emit_json({"id": package.id, "withdrawn": taken, "trust": package.trust})
    elif taken:
        say(f"The code of model '{package.id}' may no longer run; zoo trust asks again.")
    else:
        say(f"No code of model '{package.id}' had been allowed.")


def _withdraw_id(model: str, *, as_json: bool) -> bool:
    """Take back what was allowed for a model that cannot be opened; whether there was something."""
    from biozoo.consent import withdraw

    taken = withdraw(model)
    if taken and as_json:
        emit_json({"id": model, "withdrawn": True, "trust": None})
    elif taken:
        say(f"The code of model '{model}' may no longer run; the model itself was not found.")
    return taken


# ------------------------------------------------------------------------------------------ facts


def _show(package: ModelPackage, items: Sequence[CodeItem]) -> None:
    """Every piece of code, then what holds while it runs."""
    say(f"{_name(package)}, from {visible(package.source)}, would run this code of its author:")
    for n, item in enumerate(items, start=1):
        say()
        say(f"[{n} of {len(items)}] {visible(item.what)}")
        for label, value in _lines(package, item):
            say(f"  {label + ':':<9} {value}")
        _show_text(package, item)
    spared = _runs_without(package, items)
    if spared:
        say()
        say(f"Without it, biozoo runs the model by its {spared} weights.")
    say()
    say("While it runs:")
    for line in _protections():
        say(f"  {line}")
    _tell_unseen(package)
    say()


def _lines(package: ModelPackage, item: CodeItem) -> list[tuple[str, str]]:
    """What an item is, line by line."""
    found = [("for", visible(item.where)), ("calls", _told(item.callable))]
    if item.kwargs:
        found.append(("with", json.dumps(item.kwargs, default=str)))
    if item.module:
        found.append(("module", f"{_told(item.module)}, {_library(item.module)}"))
    elif item.kind == "layer":
        found += [("file", _told(item.source)), ("sha256", f"{item.sha256} (its network)")]
    else:
        size = size_text(len(item.text.encode(errors="replace")))
        found += [
            ("file", f"{_told(item.source)}, {line_count(item.text)} lines, {size}"),
            ("sha256", item.sha256),
        ]
    return found


def _told(name: str) -> str:
    """A name; with letters that can pass for others, also as which they are."""
    odd = ", ".join(f"{c} is {unicodedata.name(c, 'unknown')}" for c in other_letters(name)[:4])
    return f"{visible(name)} ({odd})" if odd else visible(name)


def _library(module: str) -> str:
    """Whether a library's module could be had here, without importing it."""
    import importlib.util

    try:
        there = importlib.util.find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        there = False
    return "of a library that is installed here" if there else "of a library that is not installed"


def _show_text(package: ModelPackage, item: CodeItem) -> None:
    """The source; of a layer what its file says, which for a Lambda is Python bytecode."""
    if not item.text:
        return
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else None
    limit = TERMINAL_LINES if terminal else None
    for line in listing(item.text, width=width, limit=limit):
        say(line)
    if limit is not None and (left := line_count(item.text) - limit) > 0:
        say(f"  ... {left} MORE LINES ARE NOT SHOWN. All: zoo trust {_typed(package)} | less")
        if item.kind != "layer":
            say(f"      They stand in {visible(str(package.path(item.source)))}")
    for line in odd_lines(item.text):
        say(f"  {line}")


def _runs_without(package: ModelPackage, items: Sequence[CodeItem]) -> str:
    """Weights formats that need none of it, in words."""
    if any(i.weights is None for i in items):
        return ""
    coded = {i.weights for i in items} | {"tensorflow_js"}
    return " or ".join(w for w in package.summary.weights if w not in coded)


def _protections() -> list[str]:
    """What holds on this machine while such code runs."""
    from biozoo_runners.isolated.confine import protections

    return [str(p) for p in protections()]


def _tell_unseen(package: ModelPackage) -> None:
    from biozoo.code import unseen

    for why in unseen(package):
        say(f"Not looked into: {why}")


def _facts(
    package: ModelPackage, items: Sequence[CodeItem], consent: Consent | None
) -> dict[str, Any]:
    from biozoo.code import unseen
    from biozoo_runners.isolated.confine import protections

    return {
        "id": package.id,
        "version": package.version,
        "origin": package.origin,
        "source": package.source,
        "trust": package.trust,
        "allowed": consent.granted if consent is not None else None,
        "code": [
            asdict(i) | {"what": i.what, "lines": line_count(i.text) if i.text else 0}
            for i in items
        ],
        "runs_without": _runs_without(package, items) if items else None,
        "not_looked_into": list(unseen(package)),
        "protections": [asdict(p) for p in protections()] if items else [],
    }


def _name(package: ModelPackage) -> str:
    return f"Model '{package.id}'{f' {visible(package.version)}' if package.version else ''}"


def _typed(package: ModelPackage) -> str:
    from biozoo.consent import typed

    return typed(package)


def register(app: typer.Typer) -> None:
    """Add this module's verb to the program."""
    app.command("trust")(trust)
