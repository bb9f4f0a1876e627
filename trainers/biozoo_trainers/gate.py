"""The gate: whether a retrained model may take its parent's place.

    verdict = judge(parent, child, GateRule("AP50", margin=0.01))
    if not verdict.passed: print(verdict.why)

Both are measured on the same held-out images, so they are compared image by image. The child
passes where its mean is better by the margin and the gain is no accident: chance alone, by the
paired sign-flip permutation test (R. A. Fisher, The Design of Experiments, 1935, chapter 21),
would give as large a gain in at most one of four comparisons. What it forgot of the parent's own
world is told and does not decide: somebody who has other images now may not care.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from biozoo.errors import UsageError

__all__ = ["CHANCE", "Forgetting", "GateReport", "GateRule", "Measured", "chance_of", "judge"]

#: A gain passes where chance would give one as large at most this often.
CHANCE = 0.25

#: Up to so many images every sign flip is tried; beyond, so many random ones.
_EXACT, _DRAWS = 14, 20_000

#: Sums of rounded scores that are equal but for the last bits are equal.
_SAME = 1e-9


@dataclass(frozen=True)
class GateRule:
    """What a child must reach.

    Attributes
    ----------
    metric
        The score that counts, higher is better: "AP50", "Dice", "PSNR".
    margin
        By how much its mean over the held-out images must be better than the parent's, in units of
        the metric.
    forgetting
        How much it may lose on the parent's own data before that is told as too much.
    """

    metric: str
    margin: float = 0.01
    forgetting: float = 0.1


@dataclass(frozen=True)
class Measured:
    """The scores of one model on several images.

    Attributes
    ----------
    metric
        What `values` are, higher is better.
    names
        The images.
    values
        One score per image; nan where there is nothing to score.
    further
        Means of other scores over the same images, by name.
    objects
        Found objects of all images, None where none are counted.
    """

    metric: str
    names: tuple[str, ...]
    values: tuple[float, ...]
    further: Mapping[str, float] = field(default_factory=dict)
    objects: int | None = None

    @property
    def mean(self) -> float:
        """Over the images that have a score; nan where none has."""
        known = [v for v in self.values if not math.isnan(v)]
        return float(np.mean(known)) if known else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "mean": self.mean}


@dataclass(frozen=True)
class Forgetting:
    """How well a child still does what its parent did.

    Attributes
    ----------
    metric
        Of `score`.
    on
        On what, in words: "its own test image".
    parent, child
        Means; the parent's is 1 for AP50 and Dice where its own result is taken as the truth.
    limit
        How much may be lost.
    """

    metric: str
    on: str
    parent: float
    child: float
    limit: float

    @property
    def lost(self) -> float:
        """In units of the metric, 0 where nothing was lost."""
        return max(self.parent - self.child, 0.0)

    @property
    def beyond(self) -> bool:
        """Whether more was lost than the limit."""
        return self.lost > self.limit

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "lost": self.lost, "beyond": self.beyond}

    def __str__(self) -> str:
        text = f"{self.metric} {self.child:.3f} on {self.on}, the parent {self.parent:.3f}"
        return f"{text} (more than {self.limit:g} is forgotten)" if self.beyond else text


@dataclass(frozen=True)
class GateReport:
    """The verdict, and what it rests on.

    Attributes
    ----------
    passed
        Whether the child may take the parent's place.
    why
        In a sentence.
    rule
        What it had to reach.
    parent, child
        Their scores on the same held-out images.
    chance
        How often chance alone gives as large a gain, 0 to 1.
    forgetting
        On the parent's own data, per kind of it; empty where it has none.
    notes
        What a person should know.
    """

    passed: bool
    why: str
    rule: GateRule
    parent: Measured
    child: Measured
    chance: float
    forgetting: tuple[Forgetting, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def gain(self) -> float:
        """The child's mean minus the parent's."""
        return self.child.mean - self.parent.mean

    @property
    def better(self) -> int:
        """Images on which the child is better."""
        pairs = zip(self.parent.values, self.child.values, strict=True)
        return sum(c > p + _SAME for p, c in pairs)

    @property
    def worse(self) -> int:
        """Images on which the child is worse."""
        pairs = zip(self.parent.values, self.child.values, strict=True)
        return sum(c < p - _SAME for p, c in pairs)

    @property
    def forgot(self) -> bool:
        """Whether more was forgotten than the rule allows."""
        return any(f.beyond for f in self.forgetting)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "passed": self.passed,
            "why": self.why,
            "rule": asdict(self.rule),
            "parent": self.parent.to_dict(),
            "child": self.child.to_dict(),
            "gain": self.gain,
            "chance": self.chance,
            "forgetting": [f.to_dict() for f in self.forgetting],
            "forgot": self.forgot,
            "notes": list(self.notes),
        }


def judge(
    parent: Measured,
    child: Measured,
    rule: GateRule,
    *,
    forgetting: Sequence[Forgetting] = (),
    notes: Sequence[str] = (),
) -> GateReport:
    """Compare a child with its parent on the same held-out images.

    Parameters
    ----------
    parent, child
        Of the same images in the same order, by the rule's metric.
    rule
        What the child must reach.
    forgetting
        What was measured on the parent's own data; told, and of no weight in the verdict.
    notes
        Passed on.

    Raises
    ------
    UsageError
        If there are no images, or they are not the same for both.
    """
    if not parent.values or parent.names != child.names:
        raise UsageError(
            f"The gate compares two models on the same images; the parent has "
            f"{len(parent.values)} scores, the child {len(child.values)}. Measure both on the "
            "held-out images."
        )
    gains = np.subtract(child.values, parent.values)
    gains = gains[np.isfinite(gains)]  # an image with nothing to score says nothing
    gain = float(gains.mean()) if len(gains) else math.nan
    chance = chance_of(gains)
    images = "image" if len(gains) == 1 else "images"
    both = f"{rule.metric} {child.mean:.3f} against {parent.mean:.3f} before"
    where = f"on {len(gains)} held-out {images}"
    told = list(notes)
    if (odd := len(parent.values) - len(gains)) and len(gains):
        told.append(f"{odd} held-out images have nothing to score: the verdict rests on the others")
    if not len(gains):
        passed, why = False, f"No held-out image has anything to score ({rule.metric})."
    elif gain <= _SAME:
        passed, how = False, "no better than" if gain >= -_SAME else "worse than"
        why = f"It is {how} its parent: {both}, {where}."
    elif gain + _SAME < rule.margin:
        passed = False
        why = f"It is better by less than {rule.margin:g}: {both}, {where}."
    elif len(gains) > 1 and chance > CHANCE:
        passed = False
        why = (
            f"The gain may be an accident ({_often(chance)} as large by chance): {both}, {where}. "
            "Label more images, so that more can be held out."
        )
    else:
        passed, why = True, f"It is better than its parent: {both}, {where}."
    if 0 < len(gains) < 3:
        told.append(
            f"{len(gains)} held-out {images} say{'s' if len(gains) == 1 else ''} little: with more "
            "labelled images the verdict is surer"
        )
    return GateReport(passed, why, rule, parent, child, chance, tuple(forgetting), tuple(told))


def chance_of(gains: Sequence[float] | np.ndarray) -> float:
    """How often a mean gain as large comes up where both models are equally good.

    If they were, each image's gain could as well have had the other sign. Of all choices of signs
    (of 20,000 random ones beyond 14 images, always the same), the share whose mean is at least the
    one seen: the one-sided p-value of the paired sign-flip permutation test.

    Parameters
    ----------
    gains
        Differences child minus parent, one per image.
    """
    values = np.asarray(gains, float)
    values = values[np.abs(values) > _SAME]  # no sign to flip
    if not len(values):
        return 1.0
    total = values.sum()
    if len(values) <= _EXACT:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(values))))
    else:
        rng = np.random.Generator(np.random.PCG64(0))
        signs = rng.choice((1.0, -1.0), (_DRAWS - 1, len(values)))
        signs = np.vstack([np.ones(len(values)), signs])  # the one seen is one of them
    return float(np.mean(signs @ values >= total - _SAME))


def _often(chance: float) -> str:
    """``1 of 3 comparisons``."""
    return f"1 of {round(1 / chance)} comparisons is" if chance < 0.4 else "every second one is"
