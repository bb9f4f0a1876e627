"""Twins of the published descriptions run here, and as bioimageio.core has it, whole and tiled.

pytest -s tests/test_twins.py           prints the table (or: python benchmarks/twins.py)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import biozoo
from biozoo.errors import BackendError, ImageMismatchError
from biozoo.package import ModelPackage
from biozoo_runners.pipeline import load
from conftest import SHARED
from packages import change_rdf, make_package, read_rdf
from twins import build, images_of, sizes_of

torch = pytest.importorskip("torch")
pytest.importorskip("bioimageio.core.backends.torchscript_backend")

from twins_compare import Row, compare_description, descriptions, summary, table  # noqa: E402

PATHS = descriptions(SHARED)
#: Of the 101, whole images only: their outputs are vectors, objects or another volume.
ONE_TILE = {
    "ambitious-sloth",
    "diplomatic-bug",
    "greedy-whale",
    "humorous-crab",
    "modest-spider",
    "polite-pig",
    "straightforward-crocodile",
}
_ROWS: dict[Path, Row] = {}


@pytest.fixture(autouse=True)
def quick_and_quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from loguru import logger

    logger.disable("bioimageio")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small networks: threads would only wait for each other
    yield
    torch.set_num_threads(threads)


def row(path: Path) -> Row:
    if path not in _ROWS:
        _ROWS[path] = compare_description(path)
    return _ROWS[path]


# ------------------------------------------------------------------------------- the descriptions


@pytest.mark.shared
@pytest.mark.parametrize("path", PATHS, ids=[p.stem.removesuffix("__v0") for p in PATHS])
def test_a_twin_runs_and_agrees_with_core(path: Path) -> None:
    found = row(path)
    assert not found.faults
    assert found.runs, f"{found.whole}; {found.tiled}"
    assert (found.tiled.kind == "one tile") == (found.id in ONE_TILE)
    assert found.whole.kind == "agrees" or found.whole.instead  # core was asked in another way
    assert found.tiled.kind in ("agrees", "one tile") or found.tiled.instead


@pytest.mark.shared
def test_the_table_of_all_twins() -> None:
    rows = [row(path) for path in PATHS]
    print("\n" + table(rows))
    print(summary(rows))
    assert len(rows) == 101
    assert sum(r.runs for r in rows) == 101
    assert not [r.id for r in rows if r.faults]
    assert sum(r.inputs > 1 for r in rows) == 3
    # Where core needs help, that is known and few; where it needs none, we agree with it as it is.
    assert sum(r.whole.kind == "core cannot" for r in rows) <= 11
    assert sum(r.whole.kind == "agrees" and not r.whole.instead for r in rows) >= 81
    assert sum(r.tiled.kind == "agrees" for r in rows) >= 33


# -------------------------------------------------------------------------------------- the twins


def twin_of(folder: Path, **kwargs: Any) -> Any:
    return build(ModelPackage.from_folder(folder).descr, folder.with_name("twin"), **kwargs)


def test_a_twin_keeps_axes_sizes_halos_and_processing(tmp_path: Path) -> None:
    folder = make_package(
        tmp_path / "p",
        axes="bzyxc",
        channels=2,
        out_channels=3,
        size={"z": 8, "y": (16, 8), "x": 24},
        halo={"y": 4},
        dtype="uint8",
        postprocessing=[{"id": "sigmoid"}],
    )
    twin = twin_of(folder)
    made = ModelPackage.from_folder(twin.folder).descr
    for side in ("inputs", "outputs"):
        for a, b in zip(getattr(twin.descr, side), getattr(made, side), strict=True):
            assert (a.id, a.axes, a.data) == (b.id, b.axes, b.data)
    assert made.inputs[0].preprocessing == twin.descr.inputs[0].preprocessing
    assert made.outputs[0].postprocessing == twin.descr.outputs[0].postprocessing
    assert twin.haloed
    assert twin.context == {"z": 0, "y": 4, "x": 0}


def test_a_strict_twin_refuses_sizes_that_its_description_does_not_allow(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", size={"y": 16, "x": (16, 8)})
    twin = twin_of(folder)
    free = build(twin.descr, tmp_path / "free", strict=False)
    with load(biozoo.open(twin.folder), device="cpu") as runner:
        for y, x in ((17, 16), (16, 20)):
            with pytest.raises(BackendError, match="takes"):
                runner.backend.run({"raw": np.zeros((1, 1, y, x), np.float32)})
        assert runner.backend.run({"raw": np.zeros((1, 1, 16, 24), np.float32)})
    with load(biozoo.open(free.folder), device="cpu") as runner:
        made = runner.backend.run({"raw": np.zeros((1, 1, 17, 20), np.float32)})
        assert made["prediction"].shape == (1, 1, 17, 20)


def test_a_twin_looks_exactly_as_far_as_the_halo(tmp_path: Path) -> None:
    twin = twin_of(make_package(tmp_path / "p", size=(16, 4), halo=3))
    image = np.zeros((1, 1, 24, 24), np.float32)
    image[0, 0, 12, 12] = 64
    with load(biozoo.open(twin.folder), device="cpu") as runner:
        nothing = runner.backend.run({"raw": np.zeros_like(image)})["prediction"]
        changed = runner.backend.run({"raw": image})["prediction"] != nothing
    assert set(np.argwhere(changed)[:, 2]) == {9, 12, 15}


def test_a_twin_is_the_same_each_time(tmp_path: Path) -> None:
    descr = ModelPackage.from_folder(make_package(tmp_path / "p", size=16)).descr
    results = []
    for name in ("a", "b", "c"):
        twin = build(descr, tmp_path / name, seed=name == "c")
        with load(biozoo.open(twin.folder), device="cpu") as runner:
            images = images_of(descr, sizes_of(descr, {}).whole)
            results.append(runner(images)["prediction"].values)
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


# -------------------------------------------------------------------- faults that the twins showed


@pytest.mark.parametrize("times", [2, 4])
def test_an_enlarging_model_of_fixed_sizes_is_tiled(tmp_path: Path, times: int) -> None:
    """Super-resolution models of format 0.4 say 128 and 256, and no scale."""
    folder = make_package(tmp_path / "p", size=16, scale=1 / times, network="blur")
    outputs = read_rdf(folder)["outputs"]
    for axis in outputs[0]["axes"][2:]:
        axis["size"] = 16 * times
        del axis["scale"]
    change_rdf(folder, outputs=outputs)
    image = xr.DataArray(
        np.random.default_rng(0).random((27, 20), np.float32),
        dims=["y", "x"],
        attrs={"pixel_size": {"y": 0.5, "x": 0.5}, "unit": {"y": "micrometer", "x": "micrometer"}},
    )
    with load(biozoo.open(folder), device="cpu") as runner:
        result = runner(image)
        assert result.report.tiles == 4
        made = result["prediction"]
        assert dict(made.sizes) == {"channel": 1, "y": 27 * times, "x": 20 * times}
        assert made.attrs["pixel_size"]["y"] == 0.5 / times
        whole = runner.backend.run({"raw": image.values[None, None, :16, :16]})["prediction"]
    inside = 11 * times  # where the next tile has not yet come
    np.testing.assert_allclose(
        made.values[0, :inside, : 4 * times], whole[0, 0, :inside, : 4 * times]
    )


def test_a_smaller_output_of_fixed_size_is_not_taken_for_the_same_field(tmp_path: Path) -> None:
    """It may be the middle of it: such a model runs on images of its size only."""
    folder = make_package(tmp_path / "p", size=16, scale=2)
    outputs = read_rdf(folder)["outputs"]
    for axis in outputs[0]["axes"][2:]:
        axis["size"] = 8
        del axis["scale"]
    change_rdf(folder, outputs=outputs)
    with load(biozoo.open(folder), device="cpu") as runner:
        assert runner(np.zeros((16, 16), np.float32))["prediction"].shape == (1, 8, 8)
        with pytest.raises(ImageMismatchError, match="does not follow"):
            runner(np.zeros((20, 16), np.float32))


def own_axes(folder: Path) -> Path:
    """A package whose second input has an axis called "object"."""
    make_package(folder, inputs=2, size=16)
    raw = read_rdf(folder)
    raw["inputs"][1]["axes"][2] = {"type": "index", "id": "object", "size": {"min": 1, "step": 1}}
    raw["inputs"][1]["optional"] = True
    change_rdf(folder, inputs=raw["inputs"])
    return folder


def test_an_axis_of_the_models_own_is_given_by_name(tmp_path: Path) -> None:
    """Segment Anything takes boxes by "object" and points by "object" and "point"."""
    twin = twin_of(own_axes(tmp_path / "p"))
    image = xr.DataArray(np.ones((16, 16), np.float32), dims=["y", "x"])
    boxes = xr.DataArray(np.ones((3, 16), np.float32), dims=["object", "x"])
    with load(biozoo.open(twin.folder), device="cpu") as runner:
        without = runner({"raw": image})["prediction"]
        given = runner({"raw": image, "raw1": boxes})["prediction"]
        np.testing.assert_allclose(given.values, without.values + 0.125)
        for wrong in (boxes.rename(object="thing"), boxes.expand_dims(thing=2)):
            with pytest.raises(ImageMismatchError, match="object"):
                runner({"raw": image, "raw1": wrong})


def test_an_output_may_have_the_name_of_an_input(tmp_path: Path) -> None:
    """Segment Anything takes and gives "embeddings"."""
    image = np.random.default_rng(0).random((26, 40), np.float32)
    results = {}
    for name in ("prediction", "raw"):
        folder = make_package(tmp_path / name / "p", size={"y": 16, "x": 24})
        output = read_rdf(folder)["outputs"][0]
        axes = [a if a["type"] != "space" else {**a, "size": s} for a, s in
                zip(output["axes"], (None, None, 16, 24), strict=True)]  # fmt: skip
        output |= {"id": name, "axes": [axes[k] for k in (0, 1, 3, 2)]}
        change_rdf(folder, outputs=[output])
        with load(biozoo.open(twin_of(folder).folder), device="cpu") as runner:
            results[name] = runner(image)[name]
    assert results["raw"].dims == ("channel", "x", "y")
    np.testing.assert_array_equal(results["raw"].values, results["prediction"].values)
