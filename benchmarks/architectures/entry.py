"""One line of docs/coverage.md before it is measured: an architecture of a library, as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Architecture"]


@dataclass(frozen=True)
class Architecture:
    """What an author would give to `zoo pack` for it.

    Attributes
    ----------
    name
        Its name in the table, unique.
    family
        The kind of network, as in the published models: what the table is sorted by.
    source
        ``"module:callable"``.
    kwargs
        Arguments of the callable; plain values, as YAML can hold them.
    axes
        Of the one input, ``"bcyx"`` or ``"bczyx"``.
    channels
        Of the input.
    size
        Edge of the sample along every space axis, or one edge per axis.
    note
        What a reader should know about it; printed below the table.
    outputs
        Which outputs the package has, of a network that returns more; empty: all.
    heavy
        Much larger than the rest, or slower to export: gets more time and memory.
    """

    name: str
    family: str
    source: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    axes: str = "bcyx"
    channels: int = 1
    size: int | tuple[int, ...] = 64
    note: str = ""
    outputs: tuple[int | str, ...] = ()
    heavy: bool = False

    @property
    def library(self) -> str:
        """The top package of `source`."""
        return self.source.split(".")[0].split(":")[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the sample, batch 1."""
        nd = len(self.axes) - 2
        edges = (self.size,) * nd if isinstance(self.size, int) else self.size
        assert len(edges) == nd, f"{self.name}: one edge per space axis"
        return (1, self.channels, *edges)
