"""What a learning curve says of more labels, and which images it is made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from biozoo_trainers.curves import CurveReport, CurveRow
from biozoo_trainers.forecasting import forecast
from biozoo_trainers.gate import GateRule, Measured, judge


def scores(mean: float, images: int = 12, spread: float = 0.02, metric: str = "AP50") -> Measured:
    values = mean + spread * np.linspace(-1, 1, images)
    return Measured(metric, tuple(map(str, range(images))), tuple(map(float, values)))


def law(sizes: Sequence[int], a: float, b: float) -> dict[int, Measured]:
    """Scores whose error falls as a power of the number of images."""
    return {n: scores(1 - a * n**-b) for n in sizes}


def test_a_power_law_is_continued() -> None:
    found = forecast(law((5, 10, 20, 40), a=0.9, b=0.3))
    assert found is not None
    assert found.size == 80
    assert found.score == pytest.approx(1 - 0.9 * 80**-0.3, abs=1e-6)
    assert found.low < found.score < found.high
    assert "From 20 to 40 images AP50 rose by" in found.text
    assert "more labels would help." in found.text


def test_a_flat_curve_says_that_more_hardly_helps() -> None:
    found = forecast({n: scores(0.8) for n in (5, 10, 20)})
    assert found is not None
    assert found.score == pytest.approx(0.8)
    assert "stayed the same" in found.text
    assert "hardly help" in found.text


def test_a_falling_curve_is_told() -> None:
    found = forecast({5: scores(0.8), 10: scores(0.7)})
    assert found is not None
    assert found.last == pytest.approx(-0.1)
    assert "fell by 0.100" in found.text


def test_decibels_have_no_upper_end() -> None:
    found = forecast({n: scores(20 + 2 * np.log2(n), metric="PSNR") for n in (4, 8, 16)})
    assert found is not None
    assert found.score == pytest.approx(30, abs=1e-6)


def test_images_that_disagree_make_a_wide_interval() -> None:
    rng = np.random.default_rng(0)
    names = tuple(map(str, range(8)))

    def noisy(mean: float) -> Measured:
        return Measured("AP50", names, tuple(np.clip(mean + rng.normal(0, 0.2, 8), 0, 1)))

    tight, wide = forecast(law((5, 10, 20), 0.9, 0.3)), forecast({5: noisy(0.4), 10: noisy(0.5)})
    assert tight is not None
    assert wide is not None
    assert wide.high - wide.low > 5 * (tight.high - tight.low)


def test_too_little_for_a_forecast() -> None:
    assert forecast({5: scores(0.5)}) is None
    assert forecast({5: scores(0.5, images=1), 10: scores(0.6, images=1)}) is None


def test_the_table_reads_from_before_to_most_images() -> None:
    before, after = scores(0.1), scores(0.6)
    gate = judge(before, after, GateRule("AP50"))
    rows = (CurveRow(0, before), CurveRow(5, after, gate, steps=300, seconds=125.0))
    report = CurveReport("nuclei 1.0", "AP50", rows, before.names, None, None, 200.0)
    lines = str(report).splitlines()
    assert lines[0] == "nuclei 1.0, measured on 12 held-out images"
    assert lines[1].split() == ["images", "AP50", "better", "on", "trained", "for"]
    assert lines[2].split() == ["before", "0.100"]
    assert lines[3].split() == [
        "5",
        "0.600",
        "12",
        "of",
        "12",
        "2",
        "min",
        "5",
        "s,",
        "300",
        "steps",
    ]
    assert report.passed
    assert report.exit_code == 0
