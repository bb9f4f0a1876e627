"""The score between epochs, on images kept from the training ones (never on held-out ones)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from biozoo_runners.base import ran_out_of_memory

from ..logits import activated
from ..patches import covered
from ..rules import objects_of, tune
from ..scores import score, score_classes
from ..splits import place
from ..targets.blind_spot import BlindSpot

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biozoo_runners.instances import InstancesConfig

    from ..items import Item
    from ..pairs import Pair
    from ..targets.base import Target

__all__ = ["LEAST", "Validation", "kept_aside"]

#: With fewer training images none is kept for a look: each is worth more for the training.
LEAST = 8

#: Most images that are looked at, and most pixels of one.
MOST, PIXELS = 12, 640 * 640


def kept_aside(pairs: Sequence[Pair], share: float) -> tuple[list[Pair], list[Pair]]:
    """Pairs to train on, and those to look at between epochs: by their content, as a split is."""
    if len(pairs) < LEAST or share <= 0:
        return list(pairs), []
    count = min(max(1, round(share * len(pairs))), MOST, len(pairs) - 1)
    # Hashed once more, so that this order is not that of the held-out images.
    order = sorted(pairs, key=lambda p: place(f"look {p.digest}"))
    aside = {id(p) for p in order[:count]}
    return [p for p in pairs if id(p) not in aside], [p for p in pairs if id(p) in aside]


@dataclass(frozen=True)
class View:
    """A region of an item, as it is looked at every time."""

    image: NDArray[np.float32]  # c, spatial axes; padded to what the network takes
    labels: NDArray[Any]
    start: tuple[int, ...]  # where the labels lie in it


class Validation:
    """Scores a network on fixed regions.

    Parameters
    ----------
    items
        Of the pairs that are kept aside.
    target
        Decodes the maps.
    metric
        The score of `scores` that counts.
    size, multiple
        Of patches, by spatial axis.
    rule
        How objects are made of maps; its thresholds are chosen anew for each look, as they are
        after the training. None: the target decodes.
    exact
        Whether the network takes regions of the size of a patch only.
    """

    def __init__(
        self,
        items: Sequence[Item],
        target: Target,
        metric: str,
        size: Mapping[str, int],
        multiple: Mapping[str, int],
        *,
        rule: InstancesConfig | None = None,
        exact: bool = False,
    ) -> None:
        self.target, self.metric, self.rule = target, metric, rule
        self.scribbles = any(i.scribbles for i in items)
        chosen = _spread(items)
        self._views = [_view(item, target, size, multiple, exact) for item in chosen]

    def __len__(self) -> int:
        return len(self._views)

    def score(self, module: torch.nn.Module, device: Any) -> float | None:
        """Mean over the regions, higher is better; None where there is none, or no memory."""
        maps = self.maps(module, device) if self._views else None
        if maps is None:
            return None
        labels = [v.labels for v in self._views]
        if self._tunable is not None:
            return tune(self._tunable, maps, labels, self._score)[1]
        found = [self._score(t, self._decoded(m)) for t, m in zip(labels, maps, strict=True)]
        return float(np.nanmean(found)) if not np.isnan(found).all() else None

    def tuned(self, module: torch.nn.Module, device: Any) -> InstancesConfig | None:
        """The rule with the settings that suit these regions; None where there is no rule."""
        maps = self.maps(module, device) if self._views and self._tunable is not None else None
        if maps is None or self._tunable is None:
            return self.rule
        return tune(self._tunable, maps, [v.labels for v in self._views], self._score)[0]

    @property
    def _tunable(self) -> InstancesConfig | None:
        """Scribbles do not tell how many objects there are, so not which thresholds suit."""
        return None if self.scribbles else self.rule

    def maps(self, module: torch.nn.Module, device: Any) -> list[NDArray[np.float32]] | None:
        """What the network makes of each region (c, then spatial axes); None without memory."""
        training = module.training
        module.eval()
        try:
            with torch.no_grad():
                return [self._maps(module, device, view) for view in self._views]
        except Exception as exc:
            if ran_out_of_memory(exc):
                return None
            raise
        finally:
            module.train(training)

    def _maps(self, module: torch.nn.Module, device: Any, view: View) -> NDArray[np.float32]:
        logits = module(torch.from_numpy(view.image[None]).to(device)).float()
        maps = activated(logits, self.target.activation_of(logits.ndim - 2))[0].cpu().numpy()
        shape = view.labels.shape[-(maps.ndim - 1) :]
        lost = [(a - b) // 2 for a, b in zip(view.image.shape[1:], maps.shape[1:], strict=True)]
        start = [s - n for s, n in zip(view.start, lost, strict=True)]
        return covered(maps, start, shape, "constant")

    def _decoded(self, maps: NDArray[Any]) -> NDArray[Any]:
        return self.target.decode(maps) if self.rule is None else objects_of(maps, self.rule)

    def _score(self, labels: NDArray[Any], found: NDArray[Any]) -> float:
        if self.scribbles and self.target.supplies == "instances":
            return score_classes(labels, (found > 0).astype(np.int32))[self.metric]
        return score(self.target.supplies, labels, found)[self.metric]


def _spread(items: Sequence[Item]) -> list[Item]:
    """At most `MOST` items, of as many images as there are."""
    by_image: dict[str, list[Item]] = {}
    for item in items:
        by_image.setdefault(item.digest, []).append(item)
    each = max(1, MOST // max(1, len(by_image)))
    found = []
    for several in by_image.values():
        step = max(1, len(several) // each)
        found += several[step // 2 :: step][:each]
    return found[:MOST]


def _view(
    item: Item,
    target: Target,
    size: Mapping[str, int],
    multiple: Mapping[str, int],
    exact: bool,
) -> View:
    """The whole item, or the part of it with most to see."""
    want = [size[a] for a in item.spatial]
    if not exact and math.prod(item.shape) <= PIXELS:
        want = list(item.shape)
    elif not exact:
        factor = max(1.0, (PIXELS / math.prod(want)) ** (1 / len(want)))
        want = [
            max(multiple[a], int(w * factor) // multiple[a] * multiple[a])
            for a, w in zip(item.spatial, want, strict=True)
        ]
    want = [min(w, n) for w, n in zip(want, item.shape, strict=True)]
    middle = [n // 2 for n in item.shape]
    places = item.places(np.random.default_rng(0))
    if len(places):
        middle = [int(m) for m in np.median(places, axis=0)]
    start = [
        int(np.clip(m - w // 2, 0, n - w)) for m, w, n in zip(middle, want, item.shape, strict=True)
    ]
    region = tuple(slice(s, s + w) for s, w in zip(start, want, strict=True))
    image, labels = item.read(region)
    if isinstance(target, BlindSpot):  # asked for is what was hidden, always the same pixels
        image, truth, asked = target.mask(image, np.random.default_rng(0))
        labels = np.where(asked > 0, truth, np.float32(np.nan))
    padded = [
        size[a] if exact else -(-w // multiple[a]) * multiple[a]
        for a, w in zip(item.spatial, want, strict=True)
    ]
    before = [(p - w) // 2 for p, w in zip(padded, want, strict=True)]
    return View(
        covered(image, [-b for b in before], padded, "symmetric"), np.array(labels), tuple(before)
    )
