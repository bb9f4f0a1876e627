"""Weights between parent and child: what is mixed, and when a mixture is taken."""

from __future__ import annotations

from typing import Any

import pytest

from biozoo.errors import UsageError
from biozoo_trainers.gate import Forgetting
from biozoo_trainers.mixing import Weights, choose, parse_share

torch = pytest.importorskip("torch")


@pytest.fixture
def weights() -> tuple[Any, Weights]:
    """A layer whose weights went from 0 to 1, and a count that only goes up."""
    module = torch.nn.BatchNorm1d(2)
    before = {n: torch.zeros_like(v) for n, v in module.state_dict().items()}
    with torch.no_grad():
        for value in module.state_dict().values():
            value.fill_(1)
    return module, Weights(module, before)


def test_a_share_of_the_trained_weights_is_set(weights: tuple[Any, Weights]) -> None:
    module, mixed = weights
    for share in (0.25, 1.0, 0.0, 0.7):
        mixed.set(share)
        assert module.weight[0].item() == pytest.approx(share)
        assert float(module.running_var[1]) == pytest.approx(share)
        assert int(module.num_batches_tracked) == 1  # a count cannot be mixed
    with mixed.parent():
        assert module.weight[0].item() == 0
    assert module.weight[0].item() == 1


def world(module: Any, forgets: float, learns: float) -> tuple[Any, Any]:
    """What the layer forgets and learns, in proportion to its weight."""

    def share() -> float:
        value: float = module.weight[0].item()
        return value

    def forgetting() -> list[Forgetting]:
        return [Forgetting("AP50", "its test image", 1.0, 1 - forgets * share(), limit=0.1)]

    def score() -> float:
        return learns * min(1.0, share() * 1.3)  # most is learned before the end of the way

    return forgetting, score


def test_nothing_is_mixed_where_little_is_forgotten(weights: tuple[Any, Weights]) -> None:
    module, mixed = weights
    forgetting, score = world(module, forgets=0.05, learns=0.5)
    made = choose(mixed, forgetting, score, lambda: 0.0)
    assert made.share == 1
    assert not made.note
    assert module.weight[0].item() == 1


def test_the_largest_share_within_the_limit_is_taken(weights: tuple[Any, Weights]) -> None:
    module, mixed = weights
    forgetting, score = world(module, forgets=0.12, learns=0.5)
    made = choose(mixed, forgetting, score, lambda: 0.0)
    assert made.share == 0.8
    assert module.weight[0].item() == pytest.approx(0.8)
    assert "80% of the new weights with 20% of the parent's" in made.note


def test_a_mixture_that_loses_what_was_learned_is_not_taken(weights: tuple[Any, Weights]) -> None:
    module, mixed = weights
    forgetting, score = world(module, forgets=0.24, learns=0.5)  # 0.4 forgets little, and learns
    made = choose(mixed, forgetting, score, lambda: 0.0)  # only half of it
    assert made.share == 1
    assert "no mixture" in made.note
    assert module.weight[0].item() == 1


@pytest.mark.parametrize(("given", "share"), [("auto", None), ("0.5", 0.5), (1, 1.0), ("1", 1.0)])
def test_shares_as_people_write_them(given: str | float, share: float | None) -> None:
    assert parse_share(given) == share


@pytest.mark.parametrize("given", ["0", "-1", "1.5", "half", "nan"])
def test_other_shares_are_told(given: str) -> None:
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        parse_share(given)
