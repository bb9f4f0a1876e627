"""Whether tiles give what the whole gives, and why not: reports, measured context, runs with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import biozoo
from biozoo.errors import UsageError
from biozoo_converters.seams.causes import global_operators
from biozoo_converters.seams.checking import check_seams
from biozoo_converters.seams.differences import compare_labels, compare_values
from biozoo_converters.seams.report import SeamReport
from biozoo_runners import load
from biozoo_runners.contexts import KnownContext, recall, remember
from biozoo_ui.cli.app import app
from packages import ZERO_MEAN, make_package
from pooled import change_graph, make_pooled

pytest.importorskip("onnx")

#: A box filter of 9 pixels: it looks at 4 pixels to each side.
KERNEL, REACH = 9, 4
SMALL = {"y": 64, "x": 64}


def image(size: int = 120, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((size, size)).astype(np.float32)


def small(folder: Path, **more: Any) -> Path:
    """A package with room for a halo of 4 in its smallest size."""
    return make_package(folder, **{"size": (16, 4), "validate": False, **more})


def seams(folder: Path, *, pixels: np.ndarray | None = None, **more: Any) -> SeamReport:
    given = image() if pixels is None else pixels
    return check_seams(folder, given, axes="yx", device="cpu", tile=SMALL, **more)


def normalised(folder: Path) -> Path:
    """A box filter of an image that the network itself normalises."""
    from onnx import helper

    made = small(folder, kernel=3, halo=2)
    node = helper.make_node("InstanceNormalization", ["raw", "one", "zero"], ["fed"])
    change_graph(made, [node], {"one": np.ones(1, np.float32), "zero": np.zeros(1, np.float32)})
    return made


# ----------------------------------------------------------------------------------------- reports


def test_a_halo_that_is_large_enough_gives_no_seams(tmp_path: Path) -> None:
    report = seams(small(tmp_path / "p", kernel=KERNEL, halo=REACH))
    assert report.ok, str(report)
    assert (report.exit_code, report.cause) == (0, "none")
    assert report.verdict == "no seams: tiles give what the whole gives"
    assert report.declared == {"y": REACH, "x": REACH}
    assert report.context is not None
    assert report.context.local
    assert report.context.halo == {"y": REACH, "x": REACH}
    (run,) = report.runs
    assert run.outputs[0].largest < 1e-5
    assert run.outputs[0].off_per_million == 0
    assert run.outputs[0].reach is None
    assert report.against == "the same in one piece"


def test_too_small_a_halo_is_found_and_its_place_told(tmp_path: Path) -> None:
    report = seams(small(tmp_path / "p", kernel=KERNEL, halo=1))
    assert not report.ok
    assert (report.exit_code, report.cause) == (1, "halo")
    assert "y 4, x 4" in report.verdict
    (run,) = report.runs
    (found,) = run.outputs
    assert found.largest > 0.01
    assert found.relative == pytest.approx(found.largest / (found.high - found.low))
    assert found.off_per_million > 1000
    # A pixel of the filter is lost at most 3 pixels from where two tiles meet.
    assert found.to_seam is not None
    assert found.to_seam < REACH
    assert found.reach is not None
    assert found.reach < REACH
    assert set(found.at) == {"channel", "y", "x"}
    starts = (58, 62)  # 120 pixels, tiles of 62 without their halo
    near = [abs(found.at[a] - s) for a in ("y", "x") for s in starts]
    assert min(near) <= REACH
    assert "largest difference" in str(report)


def test_statistics_are_those_of_the_whole_image(tmp_path: Path) -> None:
    """Normalised by each tile, the tiles of an image that grows brighter would differ."""
    pixels = image() + np.linspace(0, 50, 120, dtype=np.float32)[:, None]
    folder = small(tmp_path / "p", kernel=3, halo=1, preprocessing=[ZERO_MEAN])
    report = seams(folder, pixels=pixels)
    assert report.ok, str(report)
    with load(folder, device="cpu") as runner:
        run = runner(pixels, axes="yx", tile=SMALL)["prediction"]
    found = report.runs[0].outputs[0]
    assert (found.low, found.high) == pytest.approx((float(run.min()), float(run.max())), rel=1e-4)


def test_a_network_that_normalises_by_the_tile_is_named(tmp_path: Path) -> None:
    pixels = image() * np.linspace(0.2, 3, 120, dtype=np.float32)
    report = seams(normalised(tmp_path / "p"), pixels=pixels)
    assert not report.ok
    assert report.cause == "whole image"
    assert report.operators == ("InstanceNormalization",)
    assert "can never agree" in report.verdict
    assert "InstanceNormalization" in report.verdict
    assert f"{report.runs[-1].outputs[0].relative:.2g}" in report.verdict
    assert report.context is not None
    assert not report.context.local


@pytest.mark.parametrize(
    ("op", "axes", "seen"),
    [("ReduceMean", [2, 3], True), ("ReduceMean", [1], False), ("GlobalAveragePool", None, True)],
)
def test_only_operators_over_space_count(
    tmp_path: Path, op: str, axes: list[int] | None, seen: bool
) -> None:
    from onnx import helper

    folder = small(tmp_path / "p")
    constants = {} if axes is None else {"over": np.array(axes, np.int64)}
    nodes = [
        helper.make_node(op, ["raw", *constants], ["mean"]),
        helper.make_node("Sub", ["raw", "mean"], ["fed"]),
    ]
    change_graph(folder, nodes, constants)
    assert global_operators(biozoo.open(folder), "onnx") == ((op,) if seen else ())


def test_objects_are_compared_whole_and_tiled(tmp_path: Path) -> None:
    y, x = np.mgrid[:120, :120]
    pixels = np.zeros((120, 120), np.float32)
    # Objects of 10 pixels; those in the middle lie on the seam at 60.
    pixels[((y % 20) > 4) & ((y % 20) < 15) & ((x % 20) > 4) & ((x % 20) < 15)] = 1
    pixels[55:65, 20:100] = 1
    instances = {"output": "prediction", "foreground": 0, "distance": 0, "seed_threshold": 0.6}
    config = {"biozoo": {"instances": instances}}
    good = small(tmp_path / "a", kernel=5, halo=2, config=config)
    report = seams(good, pixels=pixels)
    (objects,) = report.runs[0].objects
    assert report.ok, str(report)
    assert objects.whole == objects.tiled == objects.same > 20
    bad = small(tmp_path / "b", kernel=KERNEL, config=config)
    known = KnownContext({"y": 0, "x": 0}, {"y": 1, "x": 1}, local=True)
    remember(biozoo.open(bad), known)  # so that nothing is done about it
    (objects,) = seams(bad, pixels=pixels).runs[0].objects
    assert objects.same < objects.whole
    assert objects.moved + objects.other > 0


def test_labels_are_equal_up_to_their_numbers() -> None:
    whole = np.zeros((8, 8), int)
    whole[:3, :3], whole[5:, 5:], whole[:3, 5:] = 1, 2, 3
    same = compare_labels("labels", np.where(whole > 0, whole % 3 + 1, 0), whole)
    assert (same.same, same.moved, same.other) == (3, 0, 0)
    assert same.ok
    cut = whole.copy()
    cut[0, 0], cut[5:, 5:] = 0, 0
    differs = compare_labels("labels", cut, whole)
    assert (differs.same, differs.moved, differs.other) == (1, 1, 1)
    assert not differs.ok


def test_values_say_where_they_differ_most() -> None:
    whole = np.linspace(0, 2, 400).reshape(1, 20, 20)
    tiled = whole.copy()
    tiled[0, 11, 3] += 0.5
    tiled[0, 10, 3] = np.nan
    found = compare_values(
        "out", np.nan_to_num(tiled, nan=0.7), whole, ("channel", "y", "x"), {"y": 100}, {"y": [10]}
    )
    assert dict(found.at) == {"channel": 0, "y": 111, "x": 3}
    assert found.to_seam == 1
    assert found.largest == pytest.approx(0.5)
    assert found.relative == pytest.approx(0.25)
    assert found.off_per_million == pytest.approx(2 / 400 * 1e6)
    tiled[0, 11, 3] = whole[0, 11, 3]
    tiled[0, 7, 3] += 0.5
    before = compare_values(
        "out", np.nan_to_num(tiled, nan=0.9), whole, ("channel", "y", "x"), {}, {"y": [10]}
    )
    assert (before.at["y"], before.to_seam) == (7, 2)
    lost = compare_values("out", tiled, whole, ("channel", "y", "x"), {}, {})
    assert lost.largest == np.inf
    assert lost.to_seam is None


# ------------------------------------------------------------------------------ measured contexts


def test_context_is_measured_once_and_used_by_runs(tmp_path: Path, biozoo_home: Path) -> None:
    folder = small(tmp_path / "p", kernel=KERNEL)
    with load(folder, device="cpu") as runner:
        before = runner(image(), axes="yx", tile=SMALL)
        whole = runner(image(), axes="yx")["prediction"]
    assert "seams may show" in str(before.report)
    report = seams(folder)
    assert report.ok
    assert report.declared == {"y": 0, "x": 0}
    assert [r.measured for r in report.runs] == [False, True]
    assert [r.ok for r in report.runs] == [False, True]
    assert report.runs[1].halo == {"y": REACH, "x": REACH}
    assert "with the measured halo" in report.verdict
    assert report.measured_how.startswith("measured now")
    assert len(list((biozoo_home / "contexts").iterdir())) == 1
    again = seams(folder)
    assert again.measured_how == "measured earlier"
    assert again.context == report.context
    with load(folder, device="cpu") as runner:
        after = runner(image(), axes="yx", tile=SMALL)
        alone = runner(image(), axes="yx")
    assert "the context that was measured" in str(after.report)
    assert "seams may show" not in str(after.report)
    inside = (slice(None), slice(REACH, -REACH), slice(REACH, -REACH))  # the border is padded
    np.testing.assert_allclose(after["prediction"][inside], whole[inside], atol=1e-6)
    assert not np.allclose(before["prediction"][inside], whole[inside], atol=1e-3)
    # One tile needs no context: what the author made is left alone.
    np.testing.assert_array_equal(alone["prediction"], whole)
    assert "measured" not in str(alone.report)


def test_a_context_belongs_to_the_weights_it_was_measured_with(tmp_path: Path) -> None:
    one = small(tmp_path / "a", kernel=3)
    other = small(tmp_path / "b", kernel=5)
    known = KnownContext({"y": 1, "x": 1}, {"y": 1, "x": 1}, True, notes=("as told",))
    remember(biozoo.open(one), known)
    assert recall(biozoo.open(one)) == known
    assert recall(biozoo.open(other)) is None


def test_a_damaged_file_is_as_none(tmp_path: Path, biozoo_home: Path) -> None:
    package = biozoo.open(small(tmp_path / "p"))
    remember(package, KnownContext({"y": 1}, {"y": 1}, True))
    (file,) = (biozoo_home / "contexts").iterdir()
    for text in ("{", "[]", '{"version": 0}', '{"version": 1, "notes": []}'):
        file.write_text(text)
        assert recall(package) is None, text


def test_a_tile_without_room_for_the_context_is_run_as_declared(tmp_path: Path) -> None:
    folder = small(tmp_path / "p", size=8, kernel=KERNEL)
    remember(biozoo.open(folder), KnownContext({"y": 4, "x": 4}, {"y": 1, "x": 1}, True))
    with load(folder, device="cpu") as runner:
        result = runner(image(20), axes="yx")
    assert "seams may show" in str(result.report)


# ------------------------------------------------------------------------------ sizes and surfaces


def test_a_network_of_one_size_is_compared_with_a_tile_across_a_seam(tmp_path: Path) -> None:
    good = small(tmp_path / "a", size=64, kernel=KERNEL, halo=REACH)
    report = check_seams(good, image(200), axes="yx", device="cpu")
    assert report.ok, str(report)
    assert "laid across a seam" in report.against
    bad = small(tmp_path / "b", size=64, kernel=KERNEL, halo=1)
    report = check_seams(bad, image(200), axes="yx", device="cpu")
    assert report.cause == "halo"
    found = report.runs[0].outputs[0]
    assert found.reach is not None
    assert found.reach < REACH


def test_an_image_of_one_tile_is_cut_for_the_check(tmp_path: Path) -> None:
    folder = small(tmp_path / "p", kernel=3, halo=1)
    report = check_seams(folder, image(100), axes="yx", device="cpu")
    assert report.ok
    assert "in one tile, so it has no seams" in str(report)
    with pytest.raises(UsageError, match="too small for two"):
        check_seams(folder, image(6), axes="yx", device="cpu")


def test_the_part_is_the_end_of_the_image_as_much_as_memory_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from biozoo_converters.seams import checking

    monkeypatch.setitem(checking.MOST, 2, 130 * 130)
    rows = np.repeat(np.arange(300, dtype=np.float32)[:, None], 300, axis=1)
    report = seams(small(tmp_path / "p", kernel=3, halo=1), pixels=rows)
    assert report.ok, str(report)
    first, last = report.part["y"]
    assert last == 300
    assert 170 <= first < 300 - 64
    assert report.runs[0].outputs[0].high == pytest.approx(299, rel=0.02)
    assert report.runs[0].outputs[0].low == pytest.approx(first, rel=0.02)
    monkeypatch.setitem(checking.MOST, 2, 80 * 80)
    smaller = seams(small(tmp_path / "q", kernel=3, halo=1), pixels=rows)
    assert "smaller tiles than those of a run" in str(smaller)
    monkeypatch.setitem(checking.MOST, 2, 10)
    with pytest.raises(UsageError, match="do not fit into memory"):
        seams(small(tmp_path / "r", kernel=3, halo=1), pixels=rows)


@pytest.mark.parametrize("size", [120, 121])
def test_tiles_on_the_declared_steps_lie_on_the_strides(tmp_path: Path, size: int) -> None:
    """Of an odd image the last tile goes beyond its end."""
    report = seams(make_pooled(tmp_path / "p", 2, size=(16, 2), halo=2), pixels=image(size))
    assert report.ok, str(report)
    assert report.context is not None
    assert report.context.unit == {"y": 2, "x": 2}
    assert report.runs[0].outputs[0].largest == 0


def test_tiles_off_the_strides_are_told(tmp_path: Path) -> None:
    """Any size is declared, so the last tile ends with the image, and takes other pixels."""
    folder = make_pooled(tmp_path / "p", 2, size=(16, 1), halo=2)
    assert seams(folder, pixels=image(120)).ok
    report = seams(folder, pixels=image(121))
    assert report.cause == "strides"
    assert report.context is not None
    assert report.context.unit == {"y": 2, "x": 2}
    assert "whole strides (y 2, x 2 pixels) apart" in report.verdict
    assert "declare" in report.todo
    reach = report.runs[0].outputs[0].reach
    assert reach is not None
    assert reach > 2


def test_measured_strides_lay_tiles_as_declared_steps_do(tmp_path: Path) -> None:
    """The tiles of a network whose context was measured lie as if it were all declared."""
    declared = make_pooled(tmp_path / "a", 4, size=(16, 4), halo=4)
    bare = make_pooled(tmp_path / "b", 4, size=(16, 1))
    remember(biozoo.open(bare), KnownContext({"y": 4, "x": 4}, {"y": 4, "x": 4}, True))
    plans = []
    for folder in (declared, bare):
        with load(folder, device="cpu") as runner:
            plans.append(runner.plan(image(121), axes="yx", tile=SMALL))
    assert plans[0].grid == plans[1].grid
    assert plans[0].grid[0].starts == (0, 56, 68)


def test_with_measured_strides_the_last_tile_lies_on_them_too(tmp_path: Path) -> None:
    """Any size is declared; what was measured of the network says more."""
    folder = small(tmp_path / "p", size=(16, 1), kernel=5)
    known = KnownContext({"y": 2, "x": 2}, {"y": 2, "x": 2}, True)
    remember(biozoo.open(folder), known)
    with load(folder, device="cpu") as runner:
        plan = runner.plan(image(121), axes="yx", tile=SMALL)
        result = runner(image(121), axes="yx", tile=SMALL)["prediction"]
        whole = runner(image(121), axes="yx")["prediction"]
    assert [g.starts for g in plan.grid] == [(0, 60, 62), (0, 60, 62)]
    assert result.shape == whole.shape
    inside = (slice(None), slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(result[inside], whole[inside], atol=1e-6)


def test_a_context_that_makes_runs_many_times_slower_is_not_used(tmp_path: Path) -> None:
    folder = small(tmp_path / "p", size=16, kernel=13)
    remember(biozoo.open(folder), KnownContext({"y": 6, "x": 6}, {"y": 1, "x": 1}, True))
    with load(folder, device="cpu") as runner:
        result = runner(image(64), axes="yx")
    assert "is not used, as the run would take 16 times as long" in str(result.report)
    assert result.report.tiles == 16
    report = check_seams(folder, image(64), axes="yx", device="cpu")
    assert [r.measured for r in report.runs] == [False]
    assert report.cause == "halo"
    assert "runs do not use the measured context" in str(report)


def test_the_middle_of_a_stack_is_taken(tmp_path: Path) -> None:
    folder = small(tmp_path / "p", kernel=3, halo=1)
    stack = np.stack([image(seed=i) for i in range(3)])
    report = check_seams(folder, stack, axes="zyx", device="cpu", tile=SMALL)
    assert report.part["z"] == (1, 2)
    assert report.ok


@pytest.mark.parametrize("scale", [2, 0.5])
def test_outputs_of_another_scale(tmp_path: Path, scale: float) -> None:
    folder = small(tmp_path / "p", kernel=3, halo=2, scale=scale)
    report = seams(folder)
    assert report.ok, str(report)
    assert report.context is not None
    assert report.context.local
    assert 1 <= report.context.halo["y"] <= 4


def test_valid_convolutions_need_no_halo(tmp_path: Path) -> None:
    folder = small(tmp_path / "p", kernel=5, valid=True)
    report = seams(folder)
    assert report.ok, str(report)
    assert [r.measured for r in report.runs] == [False]


def test_on_the_command_line(tmp_path: Path) -> None:
    folder = small(tmp_path / "p", kernel=KERNEL, halo=1)
    np.save(tmp_path / "image.npy", image())
    arguments = [
        "check",
        "--seams",
        str(folder),
        str(tmp_path / "image.npy"),
        "--tile",
        "y=64,x=64",
    ]
    shown = CliRunner().invoke(app, [*arguments, "--axes", "yx", "--device", "cpu", "--json"])
    assert shown.exit_code == 1, shown.output
    facts = json.loads(shown.stdout)
    assert not facts["ok"]
    assert facts["cause"] == "halo"
    assert facts["context"]["halo"] == {"y": 4, "x": 4}
    assert facts["runs"][0]["outputs"][0]["at"].keys() == {"channel", "y", "x"}
    none = CliRunner().invoke(app, arguments[:3])
    assert none.exit_code == 2
    assert "none is given" in none.output
