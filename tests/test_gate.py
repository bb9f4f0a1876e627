"""The gate: when a retrained model may take its parent's place, and what is said of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biozoo.errors import UsageError
from biozoo_trainers.gate import Forgetting, GateRule, Measured, chance_of, judge

RULE = GateRule("AP50", margin=0.01, forgetting=0.1)


def measured(*values: float, metric: str = "AP50") -> Measured:
    return Measured(metric, tuple(f"image {n}" for n in range(len(values))), values)


def test_a_child_that_is_better_on_every_image_passes() -> None:
    verdict = judge(measured(0.1, 0.2, 0.1, 0.3), measured(0.5, 0.6, 0.4, 0.7), RULE)
    assert verdict.passed
    assert verdict.gain == pytest.approx(0.375)
    assert (verdict.better, verdict.worse) == (4, 0)
    assert "AP50 0.550 against 0.175 before, on 4 held-out images" in verdict.why


def test_a_worse_child_is_refused() -> None:
    verdict = judge(measured(0.5, 0.6, 0.4), measured(0.1, 0.0, 0.2), RULE)
    assert not verdict.passed
    assert "worse than its parent" in verdict.why


def test_a_child_that_changes_nothing_is_refused() -> None:
    verdict = judge(measured(0.5, 0.6), measured(0.5, 0.6), RULE)
    assert not verdict.passed
    assert "no better" in verdict.why
    assert verdict.chance == 1


def test_a_gain_below_the_margin_is_refused() -> None:
    verdict = judge(measured(0.500, 0.600, 0.5), measured(0.505, 0.605, 0.505), RULE)
    assert not verdict.passed
    assert "less than 0.01" in verdict.why


def test_a_gain_on_one_image_and_losses_on_others_may_be_an_accident() -> None:
    verdict = judge(measured(0.5, 0.5, 0.5, 0.5), measured(0.9, 0.45, 0.45, 0.48), RULE)
    assert verdict.gain > RULE.margin
    assert not verdict.passed
    assert "accident" in verdict.why
    assert "more can be held out" in verdict.why


def test_one_image_can_pass_and_says_little() -> None:
    verdict = judge(measured(0.1), measured(0.6), RULE)
    assert verdict.passed
    assert verdict.chance == 0.5
    assert "1 held-out image says little" in verdict.notes[0]


def test_forgetting_is_told_and_does_not_decide() -> None:
    lost = Forgetting("AP50", "the test image of nuclei", 1.0, 0.4, limit=0.1)
    verdict = judge(measured(0.1, 0.1), measured(0.6, 0.6), RULE, forgetting=[lost])
    assert verdict.passed
    assert verdict.forgot
    assert "(more than 0.1 is forgotten)" in str(lost)
    kept = Forgetting("AP50", "the test image of nuclei", 1.0, 0.95, limit=0.1)
    assert not kept.beyond
    assert Forgetting("AP50", "x", 0.5, 0.8, 0.1).lost == 0


def test_scores_of_other_images_cannot_be_compared() -> None:
    with pytest.raises(UsageError, match="same images"):
        judge(measured(0.1, 0.2), measured(0.5), RULE)
    with pytest.raises(UsageError, match="0 scores"):
        judge(measured(), measured(), RULE)


@given(st.lists(st.integers(-40, 40), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_chance_is_the_share_of_sign_flips_that_do_as_well(gains: list[int]) -> None:
    flips = list(itertools.product((1, -1), repeat=len(gains)))
    as_well = sum(sum(s * g for s, g in zip(f, gains, strict=True)) >= sum(gains) for f in flips)
    expected = as_well / len(flips) if any(gains) else 1.0
    assert chance_of(np.array(gains) / 100) == pytest.approx(expected)


def test_chance_for_many_images_is_the_same_every_time_and_near_the_exact_one() -> None:
    rng = np.random.default_rng(1)
    gains = rng.normal(0.02, 0.1, 40)
    assert chance_of(gains) == chance_of(gains)
    total, draws = gains.sum(), rng.choice((1, -1), (40_000, 40))
    assert chance_of(gains) == pytest.approx(float(np.mean(draws @ gains >= total)), abs=0.01)


def test_the_report_is_plain_values() -> None:
    import json

    lost = Forgetting("AP50", "its test image", 1.0, 0.4, limit=0.1)
    verdict = judge(measured(0.1, 0.1), measured(0.6, 0.6), RULE, forgetting=[lost])
    facts = json.loads(json.dumps(verdict.to_dict()))
    assert facts["passed"] is True
    assert facts["child"]["mean"] == pytest.approx(0.6)
    assert facts["forgetting"][0]["lost"] == pytest.approx(0.6)


def test_an_image_with_nothing_to_score_says_nothing() -> None:
    """A clean image without a number has no PSNR: no gain, no loss, and no verdict of its own."""
    nan = float("nan")
    verdict = judge(measured(0.2, nan, 0.3), measured(0.6, nan, 0.5), RULE)
    assert verdict.passed
    assert verdict.gain == pytest.approx(0.3)
    assert any("1 held-out images have nothing to score" in n for n in verdict.notes)
    nothing = judge(measured(nan, nan), measured(nan, nan), RULE)
    assert not nothing.passed
    assert "No held-out image has anything to score" in nothing.why
