"""The author's own Python: imported with its folder importable, its faults told with their line."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from biozoo.errors import MissingFileError, NetworkError

__all__ = ["imported", "is_own_line", "place_in", "said"]

#: Modules that lay beside a source file, by name: the next file may have others of that name.
_BESIDE: set[str] = set()

#: Folders of libraries whose lines tell an author nothing.
_LIBRARIES = frozenset(
    ("torch", "numpy", "onnx", "onnxscript", "onnxruntime", "sympy", "biozoo_runners")
)


@contextmanager
def imported(place: str, *, root: Path) -> Iterator[ModuleType]:
    """The module of a file (``"net.py"``) or of a name (``"package.module"``).

    Its folder, or `root`, comes first on ``sys.path`` inside the ``with`` block: what makes the
    network may import more of it.

    Raises
    ------
    NetworkError
        There is none, something that it imports is missing, or it raises.
    """
    path = root / place if place.endswith(".py") else None
    if path is not None and not path.is_file():
        raise MissingFileError(what="The network", path=path, hint="Check the path.")
    folder = str((path.parent if path else root).resolve())
    if path is not None:
        for name in _BESIDE:
            sys.modules.pop(name, None)
        _BESIDE.clear()
        importlib.invalidate_caches()
    before = set(sys.modules)
    sys.path.insert(0, folder)
    try:
        yield _module(path) if path else _by_name(place)
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
        if path is not None:
            _BESIDE.update(n for n in set(sys.modules) - before if _lies_in(n, folder))


def _module(path: Path) -> ModuleType:
    """A file as a module of its own name, which no installed library has."""
    name = f"biozoo_source_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise NetworkError(f"'{path.name}' cannot be imported as Python.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and inspect look it up
    try:
        spec.loader.exec_module(module)
    except SystemExit as exc:
        raise NetworkError(
            f"'{path.name}' ends the program while it is imported (SystemExit: {exc}). Put what "
            "only a script should do below `if __name__ == '__main__':`."
        ) from exc
    except Exception as exc:
        raise _import_error(path.name, exc) from exc
    return module


def _by_name(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as exc:
        if isinstance(exc, ModuleNotFoundError) and exc.name and _leads_to(exc.name, name):
            raise NetworkError(
                f"The module '{name}' is not there: Python finds no '{exc.name}'. Install the "
                "library that has it, or give the file: path/to/net.py:NAME."
            ) from exc
        raise _import_error(name, exc) from exc


def _leads_to(missing: str, name: str) -> bool:
    return name == missing or name.startswith(f"{missing}.")


def _import_error(who: str, exc: Exception) -> NetworkError:
    if isinstance(exc, ModuleNotFoundError) and exc.name:
        return NetworkError(
            f"'{who}' imports '{exc.name}', which is not installed here and does not lie beside "
            "it. Install it in the environment of zoo, or put it beside the file."
        )
    if isinstance(exc, ImportError) and "relative import" in str(exc):
        return NetworkError(
            f"'{who}' imports from its own package ({said(exc)}). Name it as a module, in the "
            "folder that has the package: package.module:NAME."
        )
    if isinstance(exc, SyntaxError):
        where = f"line {exc.lineno}"
        return NetworkError(f"'{who}' is no valid Python: {exc.msg} ({where}). Correct the file.")
    where = place_in(exc)
    return NetworkError(
        f"'{who}' raised {type(exc).__name__} while it was imported: {said(exc)}"
        f"{f' ({where})' if where else ''}. Correct the file; put what only a script should do "
        "below `if __name__ == '__main__':`."
    )


def _lies_in(name: str, folder: str) -> bool:
    """Whether a module is the author's: below the folder, in no environment that lies there."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if not isinstance(file, str) or name.partition(".")[0].startswith("biozoo"):
        return False
    path = os.path.realpath(file)
    return path.startswith(folder + os.sep) and "site-packages" not in path


def place_in(exc: BaseException) -> str:
    """File and line of the innermost frame that is not torch's or Python's own, or ""."""
    own = [f for f in traceback.extract_tb(exc.__traceback__) if is_own_line(f.filename)]
    return f"{Path(own[-1].filename).name}, line {own[-1].lineno}" if own else ""


def is_own_line(filename: str) -> bool:
    """Whether a line of code is a network's: not of torch, ONNX, Python or this package."""
    if filename.startswith("<"):
        return False
    path = Path(filename)
    if _LIBRARIES.intersection(path.parts) or path.is_relative_to(Path(__file__).parents[1]):
        return False
    return "site-packages" in path.parts or not path.is_relative_to(Path(os.__file__).parent)


def said(exc: BaseException) -> str:
    """The first line of an exception's text that says something, without a full stop."""
    line = next((line.strip() for line in str(exc).splitlines() if line.strip()), "")
    return line[:400].rstrip(".") or type(exc).__name__
