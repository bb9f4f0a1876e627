"""A module made of handed-over source text, in the child: what runs is the text that was hashed."""

from __future__ import annotations

import importlib
import linecache
import sys
from types import ModuleType
from typing import Any

from .executor import NotFitting

__all__ = ["callable_of", "library_module", "module_of"]


def module_of(text: str, source: str) -> ModuleType:
    """Execute source text as a module of its own.

    Parameters
    ----------
    text
        The Python source.
    source
        Its file name as the description has it: it appears in tracebacks.

    Returns
    -------
    types.ModuleType
        With a name that no library has; known to `sys.modules` and `linecache`, so that
        dataclasses, `inspect` and tracebacks work as for a file.
    """
    name = f"biozoo_code_{sum(n.startswith('biozoo_code_') for n in sys.modules)}"
    module = ModuleType(name)
    module.__file__ = source
    sys.modules[name] = module
    linecache.cache[source] = (len(text), None, text.splitlines(keepends=True), source)
    code = compile(text, source, "exec", dont_inherit=True)
    try:
        exec(code, module.__dict__)
    except ModuleNotFoundError as exc:
        raise _missing(source, exc) from exc
    return module


def library_module(name: str) -> ModuleType:
    """Import an installed library's module."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        raise _missing(name, exc) from exc


def callable_of(module: ModuleType, name: str, source: str) -> Any:
    """A class or function of a module.

    Raises
    ------
    NotFitting
        There is none of that name.
    """
    found = getattr(module, name, None)
    if callable(found):
        return found
    what = "is no class or function there" if hasattr(module, name) else "is not there"
    defined = [
        n
        for n, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    ]
    offer = f" It has {', '.join(defined[:8])}." if defined else ""
    raise NotFitting(f"{source} was to give '{name}', which {what}.{offer} Ask its author.")


def _missing(who: str, exc: ModuleNotFoundError) -> NotFitting:
    name = exc.name or "?"
    if not exc.name or name.startswith("biozoo_code_"):
        return NotFitting(f"{who} imports what is not installed: {exc}.")
    library = name.partition(".")[0]
    return NotFitting(
        f"{who} imports '{name}', which is not installed for {sys.executable}. Install the library "
        f"that provides '{library}' (what the package needs should be in its description), or ask "
        "its author."
    )
