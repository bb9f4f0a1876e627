"""Live mode: features once, a head after each stroke, maps and objects from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import biozoo
from biozoo.errors import Cancelled, UsageError
from biozoo_runners import load
from biozoo_trainers.live import LiveModel, open_live
from livable import INSTANCES, discs, livable, strokes

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

Array = np.ndarray[Any, Any]


def image_of(pixels: Array, dims: str = "yx") -> xr.DataArray:
    return xr.DataArray(pixels, dims=tuple(dims))


def wrong(live: LiveModel, maps: xr.DataArray, labels: Array) -> float:
    return float(((maps.values[0] > 0.5) != (labels > 0)).mean())


def test_before_any_stroke_it_shows_what_a_run_gives(tmp_path: Path) -> None:
    package = livable(tmp_path / "p", channels=2, config={"biozoo": {"instances": INSTANCES}})
    pixels, _ = discs(side=97)  # no size of the model: padded
    with load(package, device="cpu") as runner, open_live(package) as live:
        run = runner(image_of(pixels))
        shown = live.result(live.features(image_of(pixels))).tensors
    assert set(shown) == {"prediction", "labels"}
    np.testing.assert_allclose(shown["prediction"], run["prediction"], atol=1e-5)
    np.testing.assert_array_equal(shown["labels"], run["labels"])
    assert shown["prediction"].dims == run["prediction"].dims
    assert list(shown["prediction"].channel.values) == ["channel0", "channel1"]


def test_a_few_strokes_teach_a_model_of_bright_objects_dark_ones(tmp_path: Path) -> None:
    pixels, labels = discs(dark=True)
    with open_live(livable(tmp_path / "p")) as live:
        assert live.classes == ("background", "object")
        features = live.features(image_of(pixels))
        head = live.refit(features, strokes(labels))
        before, after = (live.apply(features, h) for h in (None, head))
    assert wrong(live, before, labels) > 0.5  # it takes the ground for the objects
    assert wrong(live, after, labels) < 0.1
    assert head.refitted == ("channel0",)
    assert head.pixels == {
        0: int((strokes(labels) == 0).sum()),
        1: int((strokes(labels) == 1).sum()),
    }
    assert head.trust < 0.3


def test_a_stroke_where_the_model_is_right_leaves_the_rest_as_it_is(tmp_path: Path) -> None:
    pixels, labels = discs()
    with open_live(livable(tmp_path / "p")) as live:
        features = live.features(image_of(pixels))
        before = live.apply(features)
        one = np.full(labels.shape, -1, np.int32)
        one[30:34, 3:40] = np.where(labels[30:34, 3:40] == 0, 0, -1)
        head = live.refit(features, one)
        after = live.apply(features, head)
    assert wrong(live, before, labels) < 0.05
    assert wrong(live, after, labels) <= wrong(live, before, labels) + 0.01
    assert head.trust > 0.5
    assert any("only background is painted" in note for note in head.notes)


def test_strokes_on_objects_alone_do_not_make_everything_an_object(tmp_path: Path) -> None:
    pixels, labels = discs()
    dim = np.isin(labels, [3, 6, 9, 12])
    pixels[dim] -= 240  # a fifth as bright as the others: missed
    with open_live(livable(tmp_path / "p")) as live:
        features = live.features(image_of(pixels))
        before = live.apply(features).values[0] > 0.5
        painted = np.where((strokes(labels, objects=6, background=0) == 1) & dim, 1, -1)
        after = live.apply(features, live.refit(features, painted)).values[0] > 0.5
    assert before[dim].mean() < 0.3
    assert after[dim].mean() > 0.7
    assert after[labels == 0].mean() < 0.3


def test_the_same_strokes_give_the_same_head(tmp_path: Path) -> None:
    pixels, labels = discs(dark=True)
    with open_live(livable(tmp_path / "p")) as live:
        features = live.features(image_of(pixels))
        heads = [live.refit(features, strokes(labels)) for _ in range(2)]
    np.testing.assert_array_equal(heads[0].weight, heads[1].weight)


def test_strokes_on_two_places_are_learned_from_together(tmp_path: Path) -> None:
    pixels, labels = discs(dark=True)
    painted = strokes(labels)
    only_objects, only_ground = (np.where(painted == v, v, -1) for v in (1, 0))
    with open_live(livable(tmp_path / "p")) as live:
        features = [live.features(image_of(pixels + more)) for more in (0, 5)]
        head = live.refit([(features[0], only_objects), (features[1], only_ground)])
        found = live.apply(features[1], head)
    assert head.pixels == {v: int((painted == v).sum()) for v in (0, 1)}
    assert wrong(live, found, labels) < 0.1


def test_classes_of_a_softmax_are_painted_by_their_channels(tmp_path: Path) -> None:
    pixels, labels = discs(dark=True)
    x = np.arange(96)
    three = np.where(labels > 0, 1 + (x > 48), 0)
    pixels = np.where(three == 2, 900, pixels).astype(np.float32)
    painted = np.where(strokes(labels, objects=16, background=3) >= 0, three, -1)
    with open_live(livable(tmp_path / "p", tail="softmax", channels=3)) as live:
        assert live.classes == ("channel0", "channel1", "channel2")
        features = live.features(image_of(pixels))
        maps = live.apply(features, live.refit(features, painted.astype(np.int32)))
    np.testing.assert_allclose(maps.sum("channel"), 1, atol=1e-5)
    assert (maps.values.argmax(0) == three).mean() > 0.97


def test_objects_follow_the_new_foreground_where_the_models_own_seeds_are_elsewhere(
    tmp_path: Path,
) -> None:
    package = livable(tmp_path / "p", channels=2, config={"biozoo": {"instances": INSTANCES}})
    pixels, labels = discs(dark=True)
    with open_live(package) as live:
        features = live.features(image_of(pixels))
        head = live.refit(features, strokes(labels))
        found = live.result(features, head).tensors["labels"].values
        good = live.refit(live.features(image_of(discs()[0])), strokes(labels))
    assert head.instances is not None
    assert head.instances.distance == head.instances.foreground
    assert found.max() == labels.max()
    assert good.instances == live.parent.instances  # where it was right it stays as it was


def test_a_channel_that_is_one_minus_the_layer_is_painted_as_it_is_seen(tmp_path: Path) -> None:
    config = {"biozoo": {"instances": {**INSTANCES, "distance": "channel0"}}}
    package = livable(tmp_path / "p", tail="both", channels=2, config=config)
    pixels, labels = discs()  # the foreground is 1 - sigmoid here: what is dark
    with open_live(package) as live:
        features = live.features(image_of(pixels))
        head = live.refit(features, strokes(labels))
        before, after = (live.apply(features, h) for h in (None, head))
    assert wrong(live, before, labels) > 0.5
    assert wrong(live, after, labels) < 0.1
    assert head.refitted == ("channel0", "channel1")


def test_a_region_sees_the_brightness_of_the_whole_image(tmp_path: Path) -> None:
    pixels, _ = discs(side=128)
    pixels[:, 100:] += 2000  # far from the region: changes the mean of the whole
    with open_live(livable(tmp_path / "p")) as live:
        whole = live.apply(live.features(image_of(pixels)))
        part = live.features(image_of(pixels), region={"y": (8, 72), "x": (4, 68)})
        seen = live.apply(part)
    assert part.shape == (64, 64)
    assert part.region == {"y": (8, 72), "x": (4, 68)}
    inner = slice(8, -8)  # beyond the context of a pixel
    np.testing.assert_allclose(
        seen.values[:, inner, inner], whole.values[:, 16:64, 12:60], atol=1e-4
    )


def test_a_rescaled_image_is_painted_and_shown_in_its_own_pixels(tmp_path: Path) -> None:
    pixels, labels = discs(dark=True)
    large, truth = (np.kron(a, np.ones((2, 2))).astype(a.dtype) for a in (pixels, labels))
    painted = np.kron(strokes(labels), np.ones((2, 2), np.int32))
    with open_live(livable(tmp_path / "p")) as live:
        features = live.features(image_of(large), scale=0.5)
        shown = live.result(features, live.refit(features, painted)).tensors["prediction"]
    assert features.values.shape[1:] == (96, 96)
    assert features.shape == shown.shape[1:] == (192, 192)
    assert wrong(live, shown, truth) < 0.1


def test_one_plane_of_a_stack_at_a_time(tmp_path: Path) -> None:
    pixels, _ = discs()
    stack = image_of(np.stack([pixels, pixels * 2]), "zyx")
    with open_live(livable(tmp_path / "p")) as live:
        plane = live.features(stack, region={"z": (1, 2)})
        alone = live.features(image_of(pixels * 2))
        np.testing.assert_allclose(plane.values, alone.values, atol=1e-5)
        assert plane.values.dims == ("channel", "y", "x")
        with pytest.raises(UsageError, match="one position along 'z'"):
            live.features(stack)


def test_a_volume_is_painted_as_a_volume(tmp_path: Path) -> None:
    pixels, labels = discs(dark=True, side=48)
    volume, truth = np.stack([pixels] * 16), np.stack([labels] * 16)
    with open_live(livable(tmp_path / "p", axes="bczyx")) as live:
        features = live.features(image_of(volume, "zyx"))
        head = live.refit(features, np.stack([strokes(labels)] * 16))
        maps = live.apply(features, head)
    assert maps.dims == ("channel", "z", "y", "x")
    assert wrong(live, maps, truth) < 0.1


@pytest.mark.parametrize(
    ("scribbles", "said"),
    [
        (np.full((96, 96), -1, np.int32), "Nothing is painted"),
        (np.zeros((96, 90), np.int32), "the region has"),
        (np.full((96, 96), 2, np.int32), "holds? the value 2"),
        (np.zeros((96, 96), np.float32), "whole numbers"),
    ],
)
def test_scribbles_that_cannot_be_meant(tmp_path: Path, scribbles: Array, said: str) -> None:
    with open_live(livable(tmp_path / "p")) as live:
        features = live.features(image_of(discs()[0]))
        with pytest.raises(UsageError, match=said):
            live.refit(features, scribbles)


def test_a_region_outside_the_image_and_a_stop(tmp_path: Path) -> None:
    with open_live(livable(tmp_path / "p")) as live:
        with pytest.raises(UsageError, match="not inside the image"):
            live.features(image_of(discs()[0]), region={"y": (0, 200)})
        with pytest.raises(UsageError, match="names the axis 'z'"):
            live.features(image_of(discs()[0]), region={"z": (0, 1)})
        with pytest.raises(Cancelled):
            live.features(image_of(discs()[0]), cancelled=lambda: True)


def test_importing_it_costs_nothing() -> None:
    code = "import sys, biozoo_trainers.live; print({'onnx', 'numpy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.shared
@pytest.mark.parametrize("model", ["nuclei-fluo", "nuclei-histology", "em-membrane", "broad"])
def test_the_real_models_open(shared: Path, model: str) -> None:
    source = shared / "models" / "nuclei-broad" if model == "broad" else model
    with open_live(biozoo.open(str(source))) as live:
        assert live.classes == ("background", "object")


@pytest.mark.shared
def test_five_strokes_on_a_stained_image(shared: Path) -> None:
    import tifffile

    folder = shared / "data" / "nuclei" / "stained"
    stem = "0c2550a23b8a0f29"
    labels = tifffile.imread(folder / "labels" / f"{stem}.tif").astype(np.int32)
    painted = np.full(labels.shape, -1, np.int32)
    for number in (1, 20, 40):  # three nuclei, and the ground at two corners
        rows, columns = np.nonzero(labels == number)
        middle = (abs(np.arange(256) - rows.mean()) <= 3)[:, None]
        painted[middle & (labels == number)] = 1
        assert len(columns)
    for row in (60, 200):
        stripe = np.zeros(labels.shape, bool)
        stripe[row - 3 : row + 4, 100:160] = True
        painted[stripe & (labels == 0)] = 0
    with open_live("nuclei-fluo") as live:
        features = live.features(folder / "images" / f"{stem}.png", channel="gray")
        before = wrong(live, live.apply(features), labels)
        after = wrong(live, live.apply(features, live.refit(features, painted)), labels)
    assert after < before * 2 / 3
