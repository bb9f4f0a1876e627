"""Losses: what each promises, and its value where it can be worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from biozoo.errors import NotFoundError, UsageError
from biozoo_trainers.contract import LossContract
from biozoo_trainers.losses import make_loss

torch = pytest.importorskip("torch")
# What they are made of needs torch, and so do the modules.
from biozoo_trainers.losses.base import Loss  # noqa: E402
from biozoo_trainers.losses.bce import BCE  # noqa: E402
from biozoo_trainers.losses.cross_entropy import CrossEntropy  # noqa: E402
from biozoo_trainers.losses.dice import Dice  # noqa: E402
from biozoo_trainers.losses.focal import Focal  # noqa: E402
from biozoo_trainers.losses.regression import L1, MSE, Huber  # noqa: E402

KINDS: dict[str, type[Loss]] = {
    "bce": BCE,
    "cross-entropy": CrossEntropy,
    "dice": Dice,
    "focal": Focal,
    "huber": Huber,
    "l1": L1,
    "mse": MSE,
}


class TestOfProbabilities(LossContract):
    @pytest.fixture(
        params=[
            BCE(),
            Focal(),
            Focal(gamma=0.5),
            Dice(),
            Dice(activation="softmax"),
            Dice(activation="softmax", channels=[1]),
            CrossEntropy(),
            MSE(activation="sigmoid"),
        ],
        ids=["bce", "focal", "flat focal", "dice", "softmax dice", "one dice", "ce", "mse"],
    )
    def loss(self, request: pytest.FixtureRequest) -> Any:
        return request.param


class TestOfValues(LossContract):
    of = "value"

    @pytest.fixture(
        params=[MSE(), L1(), Huber(), Huber(delta=0.1), Dice(activation="none")],
        ids=["mse", "l1", "huber", "sharp huber", "dice"],
    )
    def loss(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    def material(self) -> Any:
        logits, target, weight = super().material()
        return logits.abs(), target, weight  # an overlap of values wants none below 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_recipe_names_a_loss(kind: str) -> None:
    assert type(make_loss(kind)) is KINDS[kind]


def test_unknown_kinds_and_options_are_named() -> None:
    with pytest.raises(NotFoundError, match="dice"):
        make_loss("dise")
    with pytest.raises(UsageError, match=r"'alpha'.*Its options: gamma"):
        make_loss("focal", {"alpha": 0.5})
    for kind, options, told in (
        ("focal", {"gamma": -1}, "0 or more"),
        ("dice", {"activation": "relu"}, "'sigmoid' or 'softmax' or 'none'"),
        ("dice", {"smooth": 0}, "more than 0"),
        ("huber", {"delta": 0}, "more than 0"),
        ("l1", {"activation": "softmax"}, "'none' or 'sigmoid'"),
    ):
        with pytest.raises(UsageError, match=told):
            make_loss(kind, options)


def row(*values: float) -> Any:
    """One image of one channel (1 1 1 n)."""
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # logits 0, log 3, 5; targets 0, 1, 1; weights 1, 3, 0: chances 1/2, 3/4, -
        (BCE(), (math.log(2) + 3 * math.log(4 / 3)) / 4),
        (Focal(gamma=2), (math.log(2) / 4 + 3 * math.log(4 / 3) / 16) / 4),
        (Dice(smooth=1.0), 1 - (2 * 0.75 + 1) / (0.5 + 0.75 + 1 + 1)),
        (MSE(), 3 * (math.log(3) - 1) ** 2 / 4),
        (L1(), 3 * (math.log(3) - 1) / 4),
        (Huber(delta=0.05), 3 * 0.05 * (math.log(3) - 1 - 0.025) / 4),
    ],
    ids=["bce", "focal", "dice", "mse", "l1", "huber"],
)
def test_values_by_hand(loss: Loss, expected: float) -> None:
    value = loss(row(0, math.log(3), 5), row(0, 1, 1), row(1, 3, 0))
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_a_cross_entropy_by_hand() -> None:
    """Two classes: the softmax of (0, log 3) is (1/4, 3/4)."""
    logits = torch.tensor([0.0, math.log(3)]).reshape(1, 2, 1, 1).expand(1, 2, 1, 3)
    target = torch.tensor([[1.0, 0, 1], [0, 1.0, 0]]).reshape(1, 2, 1, 3)
    value = CrossEntropy()(logits, target, row(1, 2, 0))
    assert float(value) == pytest.approx((math.log(4) + 2 * math.log(4 / 3)) / 3)


def test_the_overlap_of_a_channel_that_nobody_painted_counts_for_nothing() -> None:
    """A second channel without any weight leaves the Dice of the first as it is."""
    logits, target = torch.randn(1, 2, 4, 4), torch.ones(1, 2, 4, 4)
    weight = torch.ones(1, 2, 4, 4)
    weight[:, 1] = 0
    both = Dice()(logits, target, weight)
    assert torch.equal(both, Dice()(logits[:, :1], target[:, :1], weight[:, :1]))


def test_an_empty_channel_that_stays_empty_has_no_dice_loss() -> None:
    nothing = torch.zeros(1, 1, 8, 8)
    assert float(Dice()(nothing - 30, nothing, nothing + 1)) == pytest.approx(0, abs=1e-6)
