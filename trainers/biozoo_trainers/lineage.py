"""Where a retrained package comes from: `config.biozoo.lineage`, one entry per round of training.

Layout (a key in brackets is left out where it says nothing):

    format: 1
    rounds:                          oldest first; the last one made this package
      - method: retraining           or "live head"
        parent: {id, version, sha256}   what was trained on from; sha256 of its description, weights
                                     and code as they ran (`biozoo_runners.kept_tiles.model_digest`)
        [trained]: [sha256, ...]     of the images that were learned from
        [held_out]: [sha256, ...]    of the images that were measured on and never learned from
        [metric]: AP50
        [scores]: {parent: 0.12, child: 0.61}      means over the held-out images
        [forgetting]: {metric: AP50, score: 0.93, on: its own test image}
        [target]: foreground-distance-boundary
        [steps]: 400
        [seconds]: 180
        [replayed]: 4                of `trained` that had the parent's own results as labels
        [inverted]: true             the images are the negative of what the parent knew
        [share]: 0.75                of the trained weights, where the parent's were mixed in
        [strokes]: 5, [pixels]: 812  of a live head: what was painted

Images are told by a hash of their pixels alone: nothing of them is in the package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from biozoo.errors import InvalidPackageError

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

__all__ = ["LIVE_HEAD", "RETRAINING", "Ancestor", "Lineage", "Round", "called"]

FORMAT = 1

#: How a round was made.
RETRAINING, LIVE_HEAD = "retraining", "live head"

_WHERE = "config.biozoo.lineage"


def called(package: ModelPackage) -> str:
    """Id and version of a package, the version where it declares one: ``nuclei-fluo 0.2.0``."""
    return f"{package.id} {package.raw.get('version') or ''}".strip()


@dataclass(frozen=True)
class Ancestor:
    """A package that was trained on from.

    Attributes
    ----------
    id, version
        As the zoo calls it; `version` is "" where it declares none.
    sha256
        Of its description, weights and code, as `biozoo_runners.kept_tiles.model_digest`.
    """

    id: str
    version: str = ""
    sha256: str = ""

    @classmethod
    def of(cls, package: ModelPackage) -> Ancestor:
        """The package as an ancestor; its files are read once."""
        from biozoo_runners.kept_tiles import model_digest

        return cls(package.id, str(package.raw.get("version") or ""), model_digest(package))

    def to_dict(self) -> dict[str, str]:
        """Plain values, without empty ones."""
        return {k: v for k, v in vars(self).items() if v}


@dataclass(frozen=True)
class Round:
    """One training: what it started from, what it saw, and what came of it.

    Attributes
    ----------
    method
        `RETRAINING` or `LIVE_HEAD`.
    parent
        What it started from.
    trained, held_out
        Hashes of the images that were learned from, and of those kept for measuring.
    metric, scores
        The main score ("AP50") and its means over the held-out images, of "parent" and "child".
    facts
        What else is told, plain values by name; see the module.
    """

    method: str
    parent: Ancestor
    trained: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    metric: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """What stands in the package, without empty values."""
        made: dict[str, Any] = {
            "method": self.method,
            "parent": self.parent.to_dict(),
            "trained": sorted(self.trained),
            "held_out": sorted(self.held_out),
            "metric": self.metric,
            "scores": {k: round(float(v), 4) for k, v in self.scores.items()},
            **self.facts,
        }
        return {k: v for k, v in made.items() if v not in ("", None, [], {}, ())}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Round:
        """What `to_dict` gave; raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        own = ("method", "parent", "trained", "held_out", "metric", "scores")
        parent = raw["parent"]
        return cls(
            method=str(raw["method"]),
            parent=Ancestor(*(str(parent.get(k) or "") for k in ("id", "version", "sha256"))),
            trained=tuple(str(d) for d in raw.get("trained") or ()),
            held_out=tuple(str(d) for d in raw.get("held_out") or ()),
            metric=str(raw.get("metric") or ""),
            scores={str(k): float(v) for k, v in (raw.get("scores") or {}).items()},
            facts={str(k): v for k, v in raw.items() if k not in own},
        )


@dataclass(frozen=True)
class Lineage:
    """All rounds that made a package, oldest first; empty for one that was never retrained here."""

    rounds: tuple[Round, ...] = ()

    @classmethod
    def of(cls, package: ModelPackage) -> Lineage:
        """The lineage that a package carries.

        Raises
        ------
        InvalidPackageError
            It is there and cannot be read, or is of a later format.
        """
        found: Any = package.raw
        for key in ("config", "biozoo", "lineage"):
            found = found.get(key) if isinstance(found, Mapping) else None
        return cls() if found is None else cls.from_dict(found)

    @classmethod
    def from_dict(cls, raw: Any) -> Lineage:
        """What `to_dict` gave.

        Raises
        ------
        InvalidPackageError
            It is something else, or of a later format.
        """
        hint = "Take the entry out of its description, or use a newer biozoo."
        if not isinstance(raw, Mapping) or raw.get("format") != FORMAT:
            got = raw.get("format") if isinstance(raw, Mapping) else raw
            why = f"its format is {got!r}, this biozoo reads {FORMAT}."
            raise InvalidPackageError(source=_WHERE, why=why, hint=hint)
        try:
            return cls(tuple(Round.from_dict(r) for r in raw["rounds"]))
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            why = f"it cannot be read ({type(exc).__name__}: {exc})."
            raise InvalidPackageError(source=_WHERE, why=why, hint=hint) from exc

    def to_dict(self) -> dict[str, Any]:
        """What stands in `config.biozoo.lineage`."""
        return {"format": FORMAT, "rounds": [r.to_dict() for r in self.rounds]}

    def then(self, made: Round) -> Lineage:
        """The same with one round more."""
        return Lineage((*self.rounds, made))

    @property
    def held_out(self) -> frozenset[str]:
        """Images that some round kept for measuring: never to be learned from, in any later one."""
        return frozenset(d for r in self.rounds for d in r.held_out)

    @property
    def trained(self) -> frozenset[str]:
        """Images that some round learned from."""
        return frozenset(d for r in self.rounds for d in r.trained)

    def told(self, digests: Iterable[str]) -> Sequence[str]:
        """Those of these images that an earlier round held out, in their order."""
        return [d for d in digests if d in self.held_out]
