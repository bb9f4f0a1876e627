"""Comparing models: the region, which take part, the ranking, and the sheet that people look at."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray as xr
from PIL import Image as Pillow

import biozoo
import biozoo_runners
from biozoo.errors import Cancelled, ImageMismatchError, NoBackendError, NotFoundError, UsageError
from biozoo.samples import simulate
from biozoo_runners import compare
from biozoo_runners.comparison import Comparison
from biozoo_runners.comparison.region import settle
from biozoo_runners.images import Image
from command import Zoo, run_zoo
from packages import change_rdf, make_package, read_rdf, sha256

CELLS = simulate("nuclei", (128, 160), seed=3)


def tiny(folder: Path, **wishes: Any) -> Path:
    """A blur of 3 x 3: of an image within 0..1 it gives what may be a probability."""
    return make_package(folder, validate=False, **({"id": folder.name} | wishes))


@pytest.fixture(scope="module")
def squares() -> tuple[np.ndarray, np.ndarray]:
    """An image of 0 and 1, and the numbers of its squares."""
    labels = np.zeros((64, 80), np.int32)
    for number, (y, x) in enumerate([(4, 4), (4, 40), (30, 10), (34, 50)], start=1):
        labels[y : y + 16, x : x + 20] = number
    return (labels > 0).astype(np.float32), labels


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """The built-in model and one that gives a probability, against true labels."""
    folder = tmp_path_factory.mktemp("ranked")
    path = folder / "cells.tif"
    tifffile.imwrite(path, CELLS.image)
    # Within 0 and 1, so that Dice applies: the blur of an image scaled by its own range.
    steps = [
        {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
        {"id": "scale_range", "kwargs": {"axes": ["channel", "y", "x"], "max_percentile": 99}},
        {"id": "clip", "kwargs": {"min": 0.0, "max": 1.0}},
    ]
    blur = tiny(folder / "blur", preprocessing=steps)
    return compare(path, ["nuclei-fluo", blur], scales=(0.5, 1), labels=CELLS.labels, threads=1)


# --------------------------------------------------------------------------------------- region


def image(array: np.ndarray, axes: str = "yx") -> Image:
    return Image.from_array(array, axes)


def test_the_region_is_where_most_is_to_see() -> None:
    plane = np.full((1500, 1200), 50, np.uint16)
    plane[0, 0] = 60_000  # a single bright pixel is not much to see
    plane += np.arange(1200, dtype=np.uint16)  # nor is a slope
    rng = np.random.default_rng(0)
    plane[900:1300, 600:1000] += rng.integers(0, 40, (400, 400), dtype=np.uint16)
    region = settle(image(plane))
    y, x = region.slices["y"], region.slices["x"]
    assert (y.stop - y.start, x.stop - x.start) == (512, 512)
    assert y.start <= 900
    assert y.stop >= 1300
    assert x.start <= 600
    assert x.stop >= 1000
    assert region == settle(image(plane))


def test_a_small_image_is_taken_whole_and_stacks_at_their_middle() -> None:
    assert str(settle(image(np.zeros((40, 30))))) == "y=0:40, x=0:30"
    stack = settle(image(np.zeros((4, 9, 2, 40, 30)), "tzcyx"))
    assert str(stack) == "time=2, z=4, y=0:40, x=0:30"
    same = image(np.zeros((900, 700)))  # nothing to choose by: the most central place
    assert settle(same).slices["y"].start in range(100, 290)


def test_a_region_is_given_in_words_or_numbers() -> None:
    stack = image(np.zeros((9, 40, 30)), "zyx")
    assert str(settle(stack, "y=10:20, x=:5")) == "z=4, y=10:20, x=0:5"
    assert str(settle(stack, "x=7:")) == "z=4, y=0:40, x=7:30"
    assert str(settle(stack, {"y": (1, 5), "x": slice(2, None), "z": 8})) == "z=8, y=1:5, x=2:30"
    assert str(settle(stack, "all")) == "z=0:9, y=0:40, x=0:30"
    for wrong in ("y=10:50", "y=5:5", "y=9:2", "q=1", "y=a:b", "y", "", "y=1:3,y=2:4", "c=0"):
        with pytest.raises(UsageError, match="y=100:612,x=0:512"):
            settle(stack, wrong)
    with pytest.raises(UsageError, match="x is missing"):
        settle(image(np.zeros((3, 3)), "cy"))


def test_only_the_region_is_scored_and_shown(squares: Any, tmp_path: Path) -> None:
    pixels, labels = squares
    model = tiny(tmp_path / "blur")
    made = compare(pixels, [model], scales=(1,), labels=labels, region="y=0:24,x=0:30")
    assert made.picture is not None
    assert made.truth is not None
    assert made.picture.shape == made.truth.shape == (24, 30)
    assert np.unique(made.truth).tolist() == [0, 1]
    (entry,) = made.entries
    assert entry.values is not None
    assert entry.values.shape == (24, 30)


# ------------------------------------------------------------------------------- which take part


def test_models_that_do_not_fit_are_left_out_with_the_reason(tmp_path: Path, squares: Any) -> None:
    models = [
        tiny(tmp_path / "good"),
        tiny(tmp_path / "pair", inputs=2),
        tiny(tmp_path / "colour", channels=3),
        tiny(tmp_path / "solid", axes="bczyx"),
        tiny(tmp_path / "code"),
    ]
    rdf = read_rdf(models[-1])
    weights = {
        "source": "weights.onnx",
        "sha256": sha256(models[-1] / "weights.onnx"),
        "architecture": {"callable": "UNet", "import_from": "somewhere", "kwargs": {}},
        "pytorch_version": "2.6",
    }
    rdf["weights"] = {"pytorch_state_dict": weights}
    change_rdf(models[-1], weights=rdf["weights"])
    made = compare(squares[0], models, scales=(1,))
    assert made.models == ("good",)
    why = {s.model: s.why for s in made.skipped}
    assert list(why) == ["pair", "colour", "solid", "code"]
    assert "2 images (raw, raw1)" in why["pair"]
    assert "3 channels" in why["colour"]
    assert "'z' is missing" in why["solid"]
    assert "code" in why["code"]
    assert "left out: solid: " in str(made)


def test_without_names_all_models_here_are_compared(tmp_path: Path) -> None:
    biozoo.Zoo().add(make_package(tmp_path / "a", id="added"))
    biozoo.Zoo().add(make_package(tmp_path / "b", id="added", version="2.0"))
    made = compare(CELLS.image[:64, :64], scales=(1,))
    assert {"nuclei-fluo", "em-membrane"} <= set(made.models)
    (newest,) = made.of("added")
    assert newest.version == "2.0"


def test_no_model_left_is_an_error_with_all_reasons(tmp_path: Path, squares: Any) -> None:
    with pytest.raises(NoBackendError) as caught:
        compare(squares[0], [tiny(tmp_path / "solid", axes="bczyx")])
    assert caught.value.exit_code == 3
    assert "solid: " in caught.value.message
    assert "'z' is missing" in caught.value.message
    with pytest.raises(NotFoundError):
        compare(squares[0], ["no-such-model"])


def test_a_model_that_fails_does_not_stop_the_others(
    tmp_path: Path, squares: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from biozoo_runners.onnx import OnnxBackend

    run = OnnxBackend.run

    def fails(self: OnnxBackend, feed: Any) -> Any:
        if feed["raw"].shape[-1] == 160:
            raise RuntimeError("<b>boom</b>\nsecond line")
        return run(self, feed)

    monkeypatch.setattr(OnnxBackend, "run", fails)
    damaged = tiny(tmp_path / "damaged")
    (damaged / "weights.onnx").write_bytes(b"no network")
    change_rdf(
        damaged,
        weights={"onnx": {"source": "weights.onnx", "sha256": sha256(damaged / "weights.onnx"),
                          "opset_version": 17}},
    )  # fmt: skip
    models = [damaged, tiny(tmp_path / "first"), tiny(tmp_path / "second")]
    made = compare(squares[0], models, scales=(1, 2))
    assert [s.model for s in made.skipped] == ["damaged"]
    assert [bool(e.fault) for e in made.entries] == [False, True, False, True]
    assert "boom" in made.entries[1].fault
    assert made.ranked[-1].fault  # the last
    assert "FAILED: RuntimeError: <b>boom</b>; second line" in str(made)
    files = made.write(tmp_path / "out")
    text = files[1].read_text()
    assert "&lt;b&gt;boom&lt;/b&gt;" in text
    assert "<b>boom" not in text


def test_one_channel_choice_serves_models_that_need_it(tmp_path: Path) -> None:
    rgb = xr.DataArray(
        np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8),
        dims=("y", "x", "channel"),
        coords={"channel": ["red", "green", "blue"]},
    )
    models = [tiny(tmp_path / "colour", channels=3), tiny(tmp_path / "grey")]
    without = compare(rgb, models, scales=(1,))
    assert without.models == ("colour",)
    assert "--channel" in without.skipped[0].why
    assert compare(rgb, models, scales=(1,), channel="gray").models == ("colour", "grey")


def test_a_stack_model_gets_planes_around_the_one_that_is_scored(tmp_path: Path) -> None:
    stack = np.zeros((9, 24, 24), np.float32)
    stack[4, 5:15, 5:15] = 1
    truth = (stack > 0).astype(np.uint8)
    models = [tiny(tmp_path / "solid", axes="bczyx", kernel=1), tiny(tmp_path / "flat", kernel=1)]
    made = compare(Image.from_array(stack, "zyx"), models, scales=(1,), labels=truth)
    assert str(made.region) == "z=4, y=0:24, x=0:24"
    for entry in made.entries:
        assert entry.values is not None
        assert entry.values.shape == (24, 24)
        assert entry.score_text == "Dice 1.000"


# -------------------------------------------------------------------------------------- ranking


def test_objects_rank_before_foregrounds_and_the_scores_are_right(ranked: Comparison) -> None:
    measures = [e.measure for e in ranked.ranked]
    assert measures == ["AP50", "AP50", "Dice", "Dice"]
    for group in ("AP50", "Dice"):
        scores = [e.score for e in ranked.ranked if e.measure == group]
        assert scores == sorted(scores, reverse=True)
    from biozoo_runners.comparison.scores import average_precision, dice

    with biozoo_runners.load("nuclei-fluo", threads=1) as runner:
        labels = runner(CELLS.image)["labels"].values
    found = next(e for e in ranked.of("nuclei-fluo") if e.scale == 1)
    assert found.score == average_precision(CELLS.labels, labels, (0.5,)).average_precision[0]
    assert found.objects == labels.max()
    assert found.score > 0.8
    mask = next(e for e in ranked.of("blur") if e.scale == 1)
    assert mask.values is not None
    assert mask.score == dice(CELLS.labels > 0, mask.values > 0.5)
    assert mask.objects is None
    assert [e.model for e in ranked.best] == ["nuclei-fluo", "blur"]


def test_the_table_names_the_scores_and_says_why_they_are_apart(ranked: Comparison) -> None:
    text = str(ranked)
    head, rows = ranked.rows()
    assert head == ("MODEL", "SCALE", "OBJECTS", "SCORE", "SECONDS", "S/MPIXEL", "NOTE")
    assert rows[0][3].startswith("AP50 ")
    assert rows[-1][3].startswith("Dice ")
    assert "> 0.5" in rows[-1][-1]
    assert "not compared with each other" in text
    for entry in ranked.entries:
        assert entry.seconds is not None
        assert entry.seconds_per_megapixel == pytest.approx(entry.seconds / (128 * 160 / 1e6))


def test_a_mask_gives_dice_to_all(squares: Any, tmp_path: Path) -> None:
    pixels, labels = squares
    made = compare(pixels, ["nuclei-fluo", tiny(tmp_path / "blur")], scales=(1,), labels=labels > 0)
    assert {e.measure for e in made.entries} == {"Dice"}
    assert made.rows()[0][3] == "Dice"
    one = np.where(labels == 1, 1, 0)  # one object in one piece is an object
    assert compare(pixels, ["nuclei-fluo"], scales=(1,), labels=one).entries[0].measure == "AP50"


def test_what_is_no_probability_is_shown_and_not_scored(squares: Any, tmp_path: Path) -> None:
    model = tiny(tmp_path / "far", network="pointwise")
    made = compare(squares[0], [model], scales=(1,), labels=squares[1])
    (entry,) = made.entries
    assert (entry.score, entry.measure) == (None, "")
    assert "no probability (1 to 3)" in entry.note
    small = compare(squares[0], [tiny(tmp_path / "s", scale=2)], scales=(1,), labels=squares[1])
    assert "32 x 40 pixels, the labels 64 x 80" in small.entries[0].note


def test_stacks_of_labels_are_scored_plane_by_plane(tmp_path: Path) -> None:
    image = np.stack([CELLS.image[:96, :96]] * 2)
    truth = np.stack([CELLS.labels[:96, :96]] * 2)
    whole = compare(
        Image.from_array(image, "zyx"), ["nuclei-fluo"], scales=(1,), labels=truth, region="all"
    )
    one = compare(image[0], ["nuclei-fluo"], scales=(1,), labels=truth[0])
    assert whole.entries[0].score == one.entries[0].score
    assert whole.entries[0].objects == 2 * (one.entries[0].objects or 0) > 0


def test_labels_must_be_as_large_as_the_image_and_whole(squares: Any, tmp_path: Path) -> None:
    pixels, labels = squares
    model = tiny(tmp_path / "blur")
    with pytest.raises(ImageMismatchError, match="60 positions along y, the image has 64"):
        compare(pixels, [model], labels=labels[:60])
    with pytest.raises(ImageMismatchError, match="not whole"):
        compare(pixels, [model], labels=labels + 0.5)
    with pytest.raises(ImageMismatchError, match="3 channels"):
        compare(pixels, [model], labels=Image.from_array(np.stack([labels] * 3), "cyx"))
    assert compare(pixels, [model], scales=(1,), labels=labels.astype(float)).entries[0].score


# -------------------------------------------------------------------------------------- results


def test_the_sheet_is_a_picture_with_a_cell_per_entry(ranked: Comparison, tmp_path: Path) -> None:
    png, html, table = ranked.write(tmp_path / "out")
    with Pillow.open(png) as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    # The best are framed in one colour that nothing else has.
    frame = (abs(pixels - [0xC2, 0x50, 0x0A]).sum(-1) == 0).sum()
    assert frame > 4 * 4 * 250
    text = html.read_text()
    assert text.count("data:image/png;base64,") == 2 + 4  # image, annotation, four results
    assert text.count('class="best"') == 2
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["rank"] for r in rows] == ["1", "2", "3", "4"]
    assert float(rows[0]["score"]) == pytest.approx(ranked.ranked[0].score, abs=1e-5)


def test_the_page_asks_no_server_for_anything(ranked: Comparison, tmp_path: Path) -> None:
    (path,) = ranked.write(tmp_path / "one.html")
    text = path.read_text()
    assert "default-src 'none'" in text
    assert re.findall(r'(?:src|href)="(?!data:image/png)[^"]*"', text) == []
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert "<script" not in text
    assert [p.name for p in tmp_path.iterdir()] == ["one.html"]


def test_outlines_lie_on_the_objects(squares: Any) -> None:
    from biozoo_runners.comparison.drawing import outlined

    pixels, labels = squares
    drawn = np.asarray(outlined(pixels, labels, 160)).astype(int)  # twice the size
    coloured = drawn.max(-1) - drawn.min(-1) > 30
    assert coloured[8:40, 8:48].any()  # the first square
    assert not coloured[np.kron(labels == 0, np.ones((2, 2))) > 0].any()
    assert len({tuple(c) for c in drawn[coloured]}) == 4


def test_a_name_of_a_stranger_is_text(ranked: Comparison, tmp_path: Path) -> None:
    from dataclasses import replace

    evil = "<img src=http://x.org/a>\x1b[2J"
    entries = tuple(replace(e, model=evil, note="=1+1") for e in ranked.of("blur"))
    made = replace(ranked, entries=entries, image=f"/tmp/{evil}.tif", labels=evil)
    _, html, table = made.write(tmp_path / "out")
    assert "<img src=http" not in html.read_text()
    assert "\x1b" not in html.read_text() + str(made)
    assert "'=1+1" in table.read_text()


def test_where_it_may_be_written(ranked: Comparison, tmp_path: Path) -> None:
    for wrong in ("sheet.pdf", "sheet.tif"):
        with pytest.raises(UsageError, match=r"\.html"):
            ranked.write(tmp_path / wrong)
    picture = tmp_path / "cells.png"
    Pillow.fromarray(CELLS.labels.astype(np.uint8)).save(picture)
    from dataclasses import replace

    with pytest.raises(UsageError, match="input"):
        replace(ranked, sources=(picture,)).write(picture)


def test_plain_values_can_be_json(ranked: Comparison) -> None:
    facts = json.loads(json.dumps(ranked.to_dict()))
    assert facts["region"] == {"y": [0, 128], "x": [0, 160]}
    assert [e["best"] for e in facts["entries"]] == [True, False, True, False]
    assert "labels" not in facts["entries"][0]
    assert set(facts["measures"]) == {"AP50", "Dice"}


def test_progress_counts_all_runs_and_a_stop_is_obeyed(tmp_path: Path, squares: Any) -> None:
    seen: list[Any] = []
    models = [tiny(tmp_path / "a"), tiny(tmp_path / "b")]
    compare(squares[0], models, scales=(1, 2), on_progress=seen.append)
    done = [p.done for p in seen]
    assert done == sorted(done)
    assert (seen[-1].done, seen[-1].total) == (400, 400)
    assert "b at scale 2" in {p.stage for p in seen}
    with pytest.raises(Cancelled):
        compare(squares[0], models, cancelled=lambda: len(seen) > 0)


def test_importing_the_runners_imports_no_comparison() -> None:
    code = "import biozoo_runners, sys; print('biozoo_runners.comparison' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


# ---------------------------------------------------------------------------------- command line


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Zoo:
    """Run a verb in an empty folder that has an image and its labels."""
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("cells.tif", CELLS.image[:96, :96])
    tifffile.imwrite("labels.tif", CELLS.labels[:96, :96].astype(np.uint16))

    return run_zoo


def test_zoo_compare_writes_a_folder_named_by_the_image(zoo: Zoo) -> None:
    result = zoo("compare", "cells.tif", "--labels", "labels.tif", "--scales", "1,0.5")
    lines = result.stdout.splitlines()
    assert lines[0] == "cells.tif, y=0:96, x=0:96 (the whole plane)"
    assert " ".join(lines[1].split()) == "MODEL SCALE OBJECTS AP50 SECONDS S/MPIXEL NOTE"
    assert lines[2].startswith("nuclei-fluo")
    made = sorted(p.name for p in Path("compare-cells").iterdir())
    assert made == ["compare.csv", "compare.html", "compare.png"]
    assert "compare-cells/compare.html" in result.stderr


def test_zoo_compare_json_and_one_file(zoo: Zoo) -> None:
    result = zoo("compare", "cells.tif", "nuclei-fluo", "--scales", "1", "-o", "s.png", "--json")
    facts = json.loads(result.stdout)
    assert facts["written"] == ["s.png"]
    assert facts["entries"][0]["objects"] > 0
    assert not Path("compare-cells").exists()


def test_zoo_compare_refuses_in_words(zoo: Zoo, tmp_path: Path) -> None:
    solid = tiny(tmp_path / "solid", axes="bczyx")
    told = zoo("compare", "cells.tif", solid, code=3).stderr
    assert "No model can be compared on cells.tif" in told
    assert "'z' is missing" in told
    wrong = {
        ("--region", "y=0:1000"): "96 positions along y",
        ("--labels", "none.tif"): "label image none.tif does not exist",
        ("--scales", "0"): "not usable",
        ("-o", "cells.tif"): ".html",
    }
    for words, sentence in wrong.items():
        assert sentence in zoo("compare", "cells.tif", *words, code=2).stderr
    tifffile.imwrite("other.tif", CELLS.labels.astype(np.uint16))
    told = zoo("compare", "cells.tif", "--labels", "other.tif", code=2).stderr
    assert "Give labels of the same size" in told
    zoo("compare", "cells.tif", "no-such-model", code=2)
    assert not Path("compare-cells").exists()


def test_ctrl_c_ends_the_model_and_leaves_nothing_behind(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    from biozoo_runners.onnx import OnnxBackend

    runs, closed = [], []
    run, close = OnnxBackend.run, OnnxBackend.close

    def interrupted(self: OnnxBackend, feed: Any) -> Any:
        runs.append(feed)
        if len(runs) == 3:
            raise KeyboardInterrupt
        return run(self, feed)

    monkeypatch.setattr(OnnxBackend, "run", interrupted)
    monkeypatch.setattr(OnnxBackend, "close", lambda self: closed.append(self) or close(self))
    told = zoo("compare", "cells.tif", "nuclei-fluo", code=130).stderr
    assert "nothing half-written" in told
    assert closed
    assert not Path("compare-cells").exists()


# ------------------------------------------------------------------------------- real material


@pytest.mark.shared
def test_real_models_on_a_real_image(shared: Path, tmp_path: Path) -> None:
    nuclei = shared / "data" / "nuclei" / "fluo"
    stem = "150b0ffa318c87b3"
    made = compare(
        nuclei / "images" / f"{stem}.png",
        ["nuclei-fluo", shared / "models" / "nuclei-broad", shared / "models" / "multi-tensor"],
        scales=(1,),
        labels=nuclei / "labels" / f"{stem}.tif",
        region="y=0:256,x=100:356",
    )
    assert [e.measure for e in made.ranked] == ["AP50", "Dice"]
    assert all((e.score or 0) > 0.7 for e in made.entries)
    assert [s.model for s in made.skipped] == ["multi-tensor"]
    assert len(made.write(tmp_path / "out")) == 3
