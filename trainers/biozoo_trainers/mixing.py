"""Weights between parent and child, where the child forgets too much.

Averaging the weights of a model before and after it was trained on keeps much of both (WiSE-FT:
Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022). How much of each is chosen on
images that were learned from, never on held-out ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from biozoo.errors import UsageError

if TYPE_CHECKING:
    from .gate import Forgetting

__all__ = ["Mixed", "Weights", "parse_share"]

#: Parts of the trained weights that are tried, the most trained first.
SHARES = (0.8, 0.6, 0.4)

#: A mixture may lose so much of what was gained on the images that were learned from.
GIVEN_UP = 0.05


def parse_share(given: str | float) -> float | None:
    """None for "auto", else a part above 0, at most 1.

    Raises
    ------
    UsageError
        For anything else.
    """
    if given == "auto":
        return None
    try:
        share = float(given)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise UsageError(
            f"The part of the new weights is above 0 and at most 1, or auto; not '{given}'. 1 "
            "leaves the parent's weights out, 0.5 takes half of each."
        )
    return share


@dataclass(frozen=True)
class Mixed:
    """What was chosen: the share, and a sentence where it is not 1."""

    share: float
    note: str = ""


class Weights:
    """The trained weights of a module, and those before, to be mixed in place.

    Parameters
    ----------
    module
        Trained, a `torch.nn.Module`.
    before
        Names of its state dict -> values before the training; what is not there did not change.
    """

    def __init__(self, module: Any, before: Mapping[str, Any]) -> None:
        state = module.state_dict(keep_vars=False)
        self._now = {n: state[n] for n in before if n in state}
        self._after = {n: v.detach().clone() for n, v in self._now.items()}
        self._before = {n: before[n].to(v.device) for n, v in self._now.items()}

    def set(self, share: float) -> None:
        """Put so much of the trained weights into the module, the rest being those before."""
        import torch

        with torch.no_grad():
            for name, value in self._now.items():
                after = self._after[name]
                if share >= 1 or not value.is_floating_point():
                    value.copy_(after)
                else:
                    value.copy_(torch.lerp(self._before[name].to(after.dtype), after, share))

    @contextmanager
    def parent(self) -> Iterator[None]:
        """The weights before, while the block runs."""
        self.set(0.0)
        try:
            yield
        finally:
            self.set(1.0)


def choose(
    weights: Weights,
    forgetting: Callable[[], Sequence[Forgetting]],
    score: Callable[[], float],
    before: Callable[[], float],
) -> Mixed:
    """The largest share of the trained weights that forgets no more than the limit.

    Parameters
    ----------
    weights
        With the trained ones in the module; the chosen mixture is in it afterwards.
    forgetting
        Measures the module on the parent's own data.
    score
        Measures it on images that were learned from.
    before
        Measures the parent on the same.
    """
    if not any(f.beyond for f in forgetting()):
        return Mixed(1.0)
    full = old = None  # measured once a mixture is worth it
    for share in SHARES:
        weights.set(share)
        if any(f.beyond for f in forgetting()):
            continue
        if full is None or old is None:
            mixture = score()
            weights.set(1.0)
            full, old = score(), before()
            weights.set(share)
        else:
            mixture = score()
        if mixture >= full - GIVEN_UP * max(full - old, 0.0):
            return Mixed(
                share,
                f"{share:.0%} of the new weights with {1 - share:.0%} of the parent's: less is "
                "forgotten, at little loss on your images",
            )
    weights.set(1.0)
    return Mixed(
        1.0, "no mixture of old and new weights forgets less without losing on your images"
    )
