"""The vocabulary of axes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biozoo.axes import CANONICAL, IDS, LETTERS, letters, parse_axes
from biozoo.errors import AxesError


@pytest.mark.parametrize(
    "given_axes",
    ["bcyx", "BCYX", " bcyx ", "batch,channel,y,x", ("batch", "channel", "y", "x"), "b, c, y, x"],
)
def test_letters_ids_and_lists_name_the_same_axes(given_axes: str | tuple[str, ...]) -> None:
    assert parse_axes(given_axes) == ("batch", "channel", "y", "x")


@given(st.permutations(sorted(LETTERS)).flatmap(lambda p: st.integers(1, 7).map(lambda n: p[:n])))
def test_letters_and_ids_are_inverse(chosen: list[str]) -> None:
    ids = parse_axes("".join(chosen))
    assert letters(ids) == "".join(chosen)
    assert parse_axes(ids) == ids


def test_canonical_order_holds_every_axis_once() -> None:
    assert sorted(CANONICAL) == sorted(IDS)


@pytest.mark.parametrize(
    ("axes", "ndim", "told"),
    [
        ("qyx", None, "unknown 'q'"),
        ("yyx", None, "y stands more than once"),
        ("yx", 3, "name 2 dimensions, the array has 3"),
        ("", 2, "name 0 dimensions, the array has 2"),
        ("depth,y,x", None, "unknown 'depth'"),
    ],
)
def test_what_names_no_axes_is_an_error_with_an_example(
    axes: str, ndim: int | None, told: str
) -> None:
    with pytest.raises(AxesError, match=told) as caught:
        parse_axes(axes, ndim=ndim)
    assert caught.value.exit_code == 2
