"""Fitting an image to a model: nothing is guessed, what is lossless is done, the rest is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xarray as xr

from biozoo.errors import AxesError, ChannelChoiceError, ImageMismatchError, UsageError
from biozoo_runners.images.base import Image
from biozoo_runners.prepare import as_image, fit, replace_not_finite
from biozoo_runners.sizes import (
    AxisGeometry,
    FixedSize,
    ModelGeometry,
    ParameterizedSize,
    TensorGeometry,
)

LETTERS = {"b": "batch", "t": "time", "c": "channel", "z": "z", "y": "y", "x": "x"}


def tensor(axes: str, *, channels: int = 1, id: str = "raw", **more: Any) -> TensorGeometry:
    def axis(letter: str) -> AxisGeometry:
        if letter == "b":
            return AxisGeometry("batch", "batch", FixedSize(1))
        if letter == "c":
            names = tuple(f"c{i}" for i in range(channels))
            return AxisGeometry("channel", "channel", FixedSize(channels), channels=names)
        return AxisGeometry(
            LETTERS[letter], "time" if letter == "t" else "space", ParameterizedSize(2, 1)
        )

    return TensorGeometry(id, tuple(map(axis, axes)), **more)


def model(axes: str, **more: Any) -> ModelGeometry:
    return ModelGeometry((tensor(axes, **more),), ())


def image(axes: str, shape: tuple[int, ...], channel_names: tuple[str, ...] = ()) -> Image:
    array = np.arange(np.prod(shape), dtype="uint16").reshape(shape)
    coords = {"channel": list(channel_names)} if channel_names else {}
    return Image.from_array(xr.DataArray(array, dims=[LETTERS[a] for a in axes], coords=coords))


RGB = {"channel_names": ("red", "green", "blue")}


@pytest.mark.parametrize("wanted", ["bcyx", "byxc", "cyx", "yxc", "yx", "xy", "xbyc", "bxy"])
def test_any_axis_order_of_the_model(wanted: str) -> None:
    """Values follow their axis names; batch and channel of one are added."""
    f = fit(model(wanted), image("yx", (3, 4)))
    pixels = f.inputs[0].read({})
    assert pixels.shape == tuple({"y": 3, "x": 4}.get(a, 1) for a in wanted)
    assert f.sizes["raw"] == dict(zip((LETTERS[a] for a in wanted), pixels.shape, strict=True))
    order = [a for a in wanted if a in "yx"]
    expected = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(pixels.squeeze(), expected if order == ["y", "x"] else expected.T)


def test_axes_the_model_lacks_are_looped_over_in_canonical_order() -> None:
    f = fit(model("bcyx"), image("zytx", (2, 4, 3, 5)))
    assert dict(f.loops) == {"time": 3, "z": 2}
    assert len(f) == 6
    items = list(f.items())
    assert items[:2] == [{"time": 0, "z": 0}, {"time": 0, "z": 1}]
    whole = np.arange(120).reshape(2, 4, 3, 5)
    np.testing.assert_array_equal(f.inputs[0].read(items[3])[0, 0], whole[1, :, 1, :])
    assert any("time (3), z (2)" in n for n in f.notes)


def test_a_batch_axis_of_the_image_is_looped_over() -> None:
    f = fit(model("bcyx"), image("byx", (3, 4, 5)))
    assert dict(f.loops) == {"batch": 3}
    assert f.inputs[0].read({"batch": 1}).shape == (1, 1, 4, 5)


def test_an_axis_the_model_has_is_not_looped_over() -> None:
    f = fit(model("bczyx"), image("tzyx", (2, 4, 4, 4)))
    assert dict(f.loops) == {"time": 2}
    f = fit(model("btcyx"), image("tyx", (3, 4, 4)))
    assert dict(f.loops) == {}
    assert f.sizes["raw"]["time"] == 3


def test_only_the_item_asked_for_is_read() -> None:
    """Lazily: one z plane and one channel of a stack."""
    asked = []
    whole = image("czyx", (3, 5, 4, 4))

    def reader(index: Any) -> Any:
        asked.append(index)
        return whole.reader(index)

    f = fit(model("bcyx"), replace(whole, reader=reader), channel=1)
    f.inputs[0].read({"z": 2})
    assert asked == [(slice(1, 2, 1), 2, slice(0, 4, 1), slice(0, 4, 1))]


def test_a_missing_axis_is_told_with_a_way_out() -> None:
    with pytest.raises(ImageMismatchError, match=r"has y, x \(4 x 4\), so 'z' is missing"):
        fit(model("bczyx"), image("yx", (4, 4)))
    with pytest.raises(ImageMismatchError, match=r"'z' is missing.* say so: --axes zyx"):
        fit(model("bczyx"), image("tyx", (3, 4, 4)))


def test_an_rgb_image_for_a_one_channel_model_asks_and_lists() -> None:
    rgb = image("yxc", (4, 4, 3), **RGB)
    with pytest.raises(ChannelChoiceError, match=r"0 \(red\), 1 \(green\), 2 \(blue\).* or gray"):
        fit(model("bcyx"), rgb)
    with pytest.raises(ChannelChoiceError):
        fit(model("byx"), rgb)


@pytest.mark.parametrize("channel", [1, "1", "green", "GREEN", ["green"], [1]])
def test_a_channel_by_number_or_name(channel: Any) -> None:
    rgb = image("yxc", (4, 4, 3), **RGB)
    f = fit(model("bcyx"), rgb, channel)
    expected = np.arange(48).reshape(4, 4, 3)[..., 1]
    np.testing.assert_array_equal(f.inputs[0].read({})[0, 0], expected)
    assert any("channel green is used" in n for n in f.notes)
    np.testing.assert_array_equal(fit(model("xy"), rgb, channel).inputs[0].read({}), expected.T)


def test_a_name_of_several_channels_asks_for_a_number() -> None:
    twice = image("cyx", (2, 4, 4), channel_names=("GFP", "GFP"))
    with pytest.raises(UsageError, match=r"Several channels .* 'gfp': 0 \(GFP\), 1 \(GFP\)"):
        fit(model("cyx"), twice, "gfp")
    assert fit(model("cyx"), twice, "1").inputs[0].channels == (1,)


def test_gray_is_the_mean_of_an_rgb_image() -> None:
    rgb = image("yxc", (4, 4, 3), **RGB)
    pixels = fit(model("cyx"), rgb, "gray").inputs[0].read({})
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels[0], np.arange(48).reshape(4, 4, 3).mean(-1))
    # In a folder of both kinds the gray of an image without colours is the image.
    plain = image("yx", (4, 4))
    np.testing.assert_array_equal(
        fit(model("cyx"), plain, "gray").inputs[0].read({})[0],
        fit(model("cyx"), plain).inputs[0].read({})[0],
    )
    with pytest.raises(UsageError, match="no RGB image"):
        fit(model("cyx"), image("cyx", (2, 4, 4)), "gray")


@pytest.mark.parametrize("channel", ["2,0", [2, 0], ("blue", "red")])
def test_several_channels_in_the_order_asked(channel: Any) -> None:
    rgb = image("cyx", (3, 4, 4), **RGB)
    pixels = fit(model("cyx", channels=2), rgb, channel).inputs[0].read({})
    np.testing.assert_array_equal(pixels, np.arange(48).reshape(3, 4, 4)[[2, 0]])


def test_as_many_channels_as_the_model_takes_pass() -> None:
    pixels = fit(model("byxc", channels=3), image("cyx", (3, 4, 5), **RGB)).inputs[0].read({})
    assert pixels.shape == (1, 4, 5, 3)


@pytest.mark.parametrize("channel", [3, "DAPI", -1, "0,1"])
def test_channels_that_do_not_exist_or_are_too_many(channel: Any) -> None:
    with pytest.raises(UsageError, match=r"0 \(red\), 1 \(green\), 2 \(blue\)"):
        fit(model("cyx"), image("cyx", (3, 4, 4), **RGB), channel)


def test_too_few_channels() -> None:
    with pytest.raises(ImageMismatchError, match=r"takes 3 channels, .* has 2: 0, 1"):
        fit(model("cyx", channels=3), image("cyx", (2, 4, 4)))
    with pytest.raises(ImageMismatchError, match="has no channel axis"):
        fit(model("cyx", channels=3), image("yx", (4, 4)))
    with pytest.raises(AxesError, match="Leave --channel out"):
        fit(model("cyx"), image("yx", (4, 4)), "DAPI")


def test_several_inputs_are_named() -> None:
    both = ModelGeometry((tensor("cyx", id="raw"), tensor("cyx", id="mask")), ())
    one = image("yx", (4, 4))
    with pytest.raises(UsageError, match="raw, mask"):
        fit(both, one)
    with pytest.raises(UsageError, match="'mask'"):
        fit(both, {"raw": one})
    with pytest.raises(UsageError, match="no input 'label'"):
        fit(both, {"raw": one, "mask": one, "label": one})
    two = image("cyx", (2, 4, 4), channel_names=("dapi", "gfp"))
    f = fit(both, {"raw": two, "mask": one}, "gfp")  # the choice is for the one that needs it
    assert f.inputs[0].channels == (1,)
    assert f.inputs[1].channels is None


def test_optional_inputs_may_be_left_out() -> None:
    both = ModelGeometry((tensor("cyx"), tensor("cyx", id="mask", optional=True)), ())
    assert list(fit(both, image("yx", (4, 4))).sizes) == ["raw"]


def test_an_input_without_the_looped_axis_is_used_at_every_position() -> None:
    both = ModelGeometry((tensor("cyx"), tensor("cyx", id="mask")), ())
    f = fit(both, {"raw": image("tyx", (3, 4, 4)), "mask": image("yx", (4, 4))})
    assert dict(f.loops) == {"time": 3}
    assert f.inputs[1].read({"time": 2}).shape == (1, 4, 4)
    with pytest.raises(ImageMismatchError, match="positions along 'time'"):
        fit(both, {"raw": image("tyx", (3, 4, 4)), "mask": image("tyx", (2, 4, 4))})


def test_arrays_need_axes_unless_they_are_planes() -> None:
    assert as_image(np.zeros((4, 5))).axes == ("y", "x")
    with pytest.raises(AxesError):
        as_image(np.zeros((3, 4, 5)))
    assert as_image(np.zeros((3, 4, 5)), "zyx").axes == ("z", "y", "x")


def test_pixels_that_are_no_numbers_are_replaced() -> None:
    pixels = np.array([[1.0, np.nan], [3.0, np.inf]], "float32")
    fixed, count = replace_not_finite(pixels)
    assert count == 2
    np.testing.assert_array_equal(fixed, [[1, 2], [3, 3]])
    assert np.isnan(pixels[0, 1])  # the caller's array is left alone
    whole = np.ones((2, 2), "float32")
    assert replace_not_finite(whole)[0] is whole
    with pytest.raises(ImageMismatchError, match="no finite pixel"):
        replace_not_finite(np.full((2, 2), np.nan))
