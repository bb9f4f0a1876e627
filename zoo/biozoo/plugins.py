"""Plug-ins by entry-point group: collected cheaply, loaded on demand, a failing one told by name.

Groups: biozoo.backends, biozoo.converters, biozoo.targets, biozoo.losses, biozoo.hooks,
biozoo.images. What comes with biozoo registers in the same way as what others install.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from .errors import BackendError, NotFoundError

__all__ = ["GROUPS", "Plugins", "load_group", "load_one", "names"]

GROUPS = (
    "biozoo.backends",
    "biozoo.converters",
    "biozoo.targets",
    "biozoo.losses",
    "biozoo.hooks",
    "biozoo.images",
)


@dataclass(frozen=True)
class Plugins:
    """What one group holds.

    Attributes
    ----------
    loaded
        Name -> object, by name.
    failed
        Name -> why it could not be loaded.
    """

    loaded: dict[str, object] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def names(group: str) -> tuple[str, ...]:
    """Names of the plug-ins of a group; nothing is imported."""
    return tuple(_found(group))


@cache
def load_group(group: str) -> Plugins:
    """Every plug-in of a group, imported once per process; one that fails does not stop others."""
    plugins = Plugins()
    for name, point in _found(group).items():
        try:
            plugins.loaded[name] = point.load()
        except Exception as exc:  # it is someone else's module: whatever it raises
            plugins.failed[name] = f"{point.value}{_dist(point)}: {type(exc).__name__}: {exc}"
    return plugins


def load_one(group: str, name: str) -> object:
    """One plug-in of a group; the others are not imported.

    Raises
    ------
    NotFoundError
        Where no plug-in has this name.
    BackendError
        Where its module fails to import.
    """
    found = _found(group)
    if name not in found:
        listed = ", ".join(found) or "none"
        raise NotFoundError(
            kind=f"plug-in of {group}", got=name, known=found, hint=f"Installed: {listed}."
        )
    point = found[name]
    try:
        return point.load()
    except Exception as exc:  # it is someone else's module: whatever it raises
        raise BackendError(
            f"Plug-in '{name}' of {group} ({point.value}{_dist(point)}) cannot be loaded: "
            f"{type(exc).__name__}: {exc}. Expected a module that imports; update or uninstall it."
        ) from exc


def _found(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in sorted(_points(group), key=lambda p: (p.name, p.value))}


def _points(group: str) -> Iterable[EntryPoint]:
    return entry_points(group=group)


def _dist(point: EntryPoint) -> str:
    dist = getattr(point, "dist", None)
    return f" of {dist.name} {dist.version}" if dist is not None else ""
