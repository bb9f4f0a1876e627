"""What is held out: decided by the pixels, and the same in every later round."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biozoo.errors import UsageError
from biozoo_runners.images.base import Image
from biozoo_trainers.pairs import Pair
from biozoo_trainers.splits import place, split

IMAGE = Image.from_array(np.zeros((2, 2)))


def pairs(*names: str) -> list[Pair]:
    return [Pair(n, IMAGE, None, hashlib.sha256(n.encode()).hexdigest()) for n in names]


def many(count: int, prefix: str = "image") -> list[Pair]:
    return pairs(*(f"{prefix}{n}" for n in range(count)))


def stems(found: tuple[Pair, ...]) -> set[str]:
    return {p.stem for p in found}


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 60), share=st.floats(0.05, 0.6), prefix=st.text(min_size=1, max_size=4))
def test_both_sides_have_images_and_share_none(count: int, share: float, prefix: str) -> None:
    given_pairs = many(count, prefix)
    found = split(given_pairs, share)
    assert found.train
    assert found.held_out
    assert stems(found.train) | stems(found.held_out) == stems(tuple(given_pairs))
    assert not stems(found.train) & stems(found.held_out)
    assert len(found.held_out) <= max(1, share * count * 1.5 + 1)


def test_order_and_names_do_not_matter() -> None:
    some = many(30)
    renamed = [Pair(f"z{p.stem}", IMAGE, None, p.digest) for p in reversed(some)]
    one, two = split(some), split(renamed)
    assert {p.digest for p in one.held_out} == {p.digest for p in two.held_out}


def test_an_image_keeps_its_side_when_others_are_added() -> None:
    some, more = many(40), many(80)
    before, after = split(some), split(more)
    assert not before.notes
    assert not after.notes
    assert stems(before.held_out) <= stems(after.held_out)
    assert stems(before.train) <= stems(after.train)


def test_earlier_rounds_decide() -> None:
    """With three images chance gives no held-out one; what was chosen then stays."""
    first = split(many(3), 0.1)
    assert len(first.held_out) == 1
    assert "by their content alone" in first.notes[0]
    held, trained = ({p.digest for p in side} for side in (first.held_out, first.train))
    later = split(many(60), 0.1, held, trained)
    assert stems(first.held_out) <= stems(later.held_out)
    assert stems(first.train) <= stems(later.train)


def test_an_image_that_was_trained_on_is_never_measured_with() -> None:
    some = many(20)
    out = {p.digest for p in split(some).held_out}
    again = split(some, trained=out)
    assert not {p.digest for p in again.held_out} & out


def test_what_cannot_be_split() -> None:
    with pytest.raises(UsageError, match="one image only"):
        split(many(1))
    with pytest.raises(UsageError, match="above 0 and below 1"):
        split(many(5), 1.0)
    some = many(4)
    with pytest.raises(UsageError, match="All of these images were trained on"):
        split(some, trained={p.digest for p in some})


def test_places_are_spread_evenly() -> None:
    found = [place(p.digest) for p in many(400)]
    counts, _ = np.histogram(found, bins=4, range=(0, 1))
    assert counts.min() > 70
