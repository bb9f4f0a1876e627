"""StarDist's and Cellpose's postprocessing, and the author's own, against bioimageio.core.

The networks pass their input through, one pixel of every `grid`: what is given as the image is the
prediction of a perfect network, made of discs whose labels are known.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import xarray as xr

import biozoo
from biozoo.consent import grant
from biozoo.errors import (
    BackendError,
    InvalidPackageError,
    MissingDependencyError,
    NoBackendError,
    UntrustedCodeError,
    UsageError,
)
from biozoo_runners import load, run_batch, steps_external
from biozoo_runners.processing import postprocessing
from biozoo_runners.program import from_plain, to_plain
from biozoo_runners.steps import Block
from biozoo_runners.steps_external import count_objects, required_libraries
from biozoo_runners.testing import run_whole, test_package
from packages import _file, _validate, make_package, read_rdf, write_rdf

RAYS = 16
SPACE = ("z", "y", "x")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    from loguru import logger

    logger.disable("bioimageio")
    monkeypatch.setenv("TQDM_DISABLE", "1")


# --------------------------------------------------------------------------------------- packages


def stardist(grid: Sequence[int] = (1, 1), **more: Any) -> dict[str, Any]:
    kwargs = {"prob_threshold": 0.5, "nms_threshold": 0.3, "n_rays": RAYS, "b": 0} | more
    return {"id": "stardist_postprocessing", "kwargs": {"grid": list(grid), **kwargs}}


def cellpose(**more: Any) -> dict[str, Any]:
    kwargs = {"cellprob_threshold": 0.0, "flow_threshold": 0.4, "do_3D": False} | more
    return {"id": "cellpose_flow_dynamics", "kwargs": kwargs}


def passing(
    folder: Path,
    steps: Sequence[Mapping[str, Any]],
    *,
    axes: str = "bcyx",
    channels: int = RAYS + 1,
    made: int = 1,
    grid: Mapping[str, int] | None = None,
    describes: str = "labels",
    halo: int = 0,
    size: Any = (16, 16),
    dtype: str = "int32",
    fixed: Mapping[str, int] | None = None,
    test: tuple[np.ndarray, np.ndarray] | None = None,
) -> Path:
    """A package whose network gives its input, one pixel of every `grid` along y, x (and z).

    `describes` says whether the output's axes are those of the labels or of the network; `made` is
    the number of channels that the description gives; `fixed` sizes stand in it as plain numbers.
    """
    grid = grid or {}
    network = describes == "network"
    make_package(
        folder, axes=axes, channels=channels, size=size, network="pointwise", validate=False,
        halo={a: halo // (grid.get(a, 1) if network else 1) for a in axes if a in "zyx"},
    )  # fmt: skip
    (folder / "weights.onnx").write_bytes(_pass_through(axes, grid))
    rdf = read_rdf(folder)
    rdf["weights"]["onnx"] |= _file(folder, "weights.onnx")
    output = rdf["outputs"][0]
    for axis in output["axes"]:
        if axis["type"] == "channel":
            axis["channel_names"] = [f"made{i}" for i in range(made)]
        elif (g := grid.get(axis["id"], 1)) > 1 and network:
            axis["scale"] = float(g)
        if fixed and axis["id"] in fixed:
            axis |= {"size": fixed[axis["id"]], "scale": 1.0}
            axis.pop("halo", None)
    output["postprocessing"] = [dict(s) for s in steps]
    output["data"] = {"type": dtype}
    if test is not None:
        for tensor, array in zip((rdf["inputs"][0], output), test, strict=True):
            np.save(folder / tensor["test_tensor"]["source"], array)
            tensor["test_tensor"] = _file(folder, tensor["test_tensor"]["source"])
    write_rdf(folder, rdf)
    _validate(folder, rdf)
    return folder


def _pass_through(axes: str, grid: Mapping[str, int]) -> bytes:
    """A graph of one pooling of one pixel."""
    from onnx import TensorProto, helper

    space = [a for a in axes if a in "zyx"]
    inner = [a for a in ("b", "c", *space) if a in axes]
    there, back = [axes.index(a) for a in inner], [inner.index(a) for a in axes]
    steps = [grid.get(a, 1) for a in space]
    nodes = [helper.make_node("Transpose", ["raw"], ["ordered"], perm=there)]
    kept = "ordered"
    if max(steps) > 1:
        ones = [1] * len(steps)
        nodes.append(helper.make_node("MaxPool", [kept], ["few"], kernel_shape=ones, strides=steps))
        kept = "few"
    nodes.append(helper.make_node("Transpose", [kept], ["prediction"], perm=back))
    ports = [
        helper.make_tensor_value_info(i, TensorProto.FLOAT, [f"{i}_{a}" for a in axes])
        for i in ("raw", "prediction")
    ]
    graph = helper.make_graph(nodes, "pass", ports[:1], ports[1:])
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    return bytes(model.SerializeToString())


# ------------------------------------------------------------------------------------------ truth


def discs(*shape: int, seed: int = 0, count: int = 14, radius: tuple[int, int] = (6, 11)) -> Any:
    """Labels of discs (balls) that do not overlap, anywhere, also across the edge."""
    rng = np.random.default_rng(seed)
    where = np.indices(shape)
    labels, placed = np.zeros(shape, np.int32), 0
    for _ in range(4000):
        if placed == count:
            break
        centre = [rng.integers(0, n) for n in shape]
        r = rng.integers(*radius)
        ball = sum((w - c) ** 2 for w, c in zip(where, centre, strict=True)) < r**2
        wide = sum((w - c) ** 2 for w, c in zip(where, centre, strict=True)) < (r + 2) ** 2
        if not labels[wide].any():
            placed += 1
            labels[ball] = placed
    assert placed == count
    return labels


def rays_of(labels: np.ndarray) -> np.ndarray:
    """Probability and distances (channel first) as StarDist's network is trained to make them."""
    from stardist import Rays_GoldenSpiral, edt_prob, star_dist, star_dist3D

    if labels.ndim == 2:
        distances = star_dist(labels, RAYS)
    else:
        distances = star_dist3D(labels, Rays_GoldenSpiral(RAYS, anisotropy=(1, 1, 1)))
    maps = np.concatenate([edt_prob(labels)[..., None], np.maximum(distances, 1e-3)], axis=-1)
    return np.moveaxis(maps, -1, 0).astype(np.float32)


def flows_of(labels: np.ndarray) -> np.ndarray:
    """flow_y, flow_x, cellprob: to the middle of each disc, as Cellpose's network points."""
    where = np.indices(labels.shape).astype(float)
    flow = np.zeros((2, *labels.shape))
    for i in range(1, labels.max() + 1):
        inside = labels == i
        to = np.stack([w[inside].mean() - w[inside] for w in where])
        flow[:, inside] = to / np.maximum(np.hypot(*to), 1)
    inside = np.where(labels > 0, 5.0, -5.0)
    return np.concatenate([5 * flow, inside[None]]).astype(np.float32)


def as_image(maps: np.ndarray) -> xr.DataArray:
    return xr.DataArray(maps, dims=["channel", *SPACE[-(maps.ndim - 1) :]])


def ap50(truth: np.ndarray, found: np.ndarray) -> float:
    """Matches at half overlap, of all objects that are in one of the two."""
    shared: np.ndarray = np.histogram2d(
        truth.ravel(), found.ravel(), [np.arange(a.max() + 2) for a in (truth, found)]
    )[0]
    union = shared.sum(1, keepdims=True) + shared.sum(0, keepdims=True) - shared
    hits = int((shared[1:, 1:] > 0.5 * union[1:, 1:]).sum())
    objects = [int((shared.sum(axis) > 0)[1:].sum()) for axis in (0, 1)]
    return hits / (sum(objects) - hits)


def core_run(runner: Any, image: xr.DataArray, tile: Any = None) -> np.ndarray:
    """Core's labels of the whole image, or blockwise with our tile; y x (z first)."""
    from bioimageio.core import create_prediction_pipeline
    from bioimageio.core.digest_spec import create_sample_for_model

    descr = runner.package.descr
    sample = create_sample_for_model(descr, inputs={"raw": image.expand_dims("batch").copy()})
    with create_prediction_pipeline(descr, weights_format="onnx") as pipeline:
        if tile is None:
            found = pipeline.predict_sample_without_blocking(
                sample, skip_input_padding=True, skip_output_cropping=True
            )
        else:
            shapes = {t.id: dict(zip(t.dims, t.tile, strict=True)) for t in tile.inputs}
            found = pipeline.predict_sample_with_fixed_blocking(sample, shapes)
    return plane(next(iter(found.members.values())).data)


def plane(labels: xr.DataArray) -> np.ndarray:
    space = [d for d in SPACE if d in labels.dims]
    return np.asarray(labels.squeeze([d for d in labels.dims if d not in space]).transpose(*space))


# --------------------------------------------------------------------------------------- stardist


@pytest.mark.parametrize("axes", ["bcyx", "byxc", "cyx"])
def test_stardist_finds_the_discs_and_equals_core(tmp_path: Path, axes: str) -> None:
    truth = discs(96, 112)
    image = as_image(rays_of(truth))
    with load(passing(tmp_path / "p", [stardist()], axes=axes), device="cpu") as runner:
        whole = runner(image)
        tiled = runner(image, tile={"y": 48, "x": 32})
        assert (whole.report.tiles, tiled.report.tiles) == (1, 8)
        assert whole["prediction"].dtype == np.int32
        assert dict(whole["prediction"].sizes) == {"channel": 1, "y": 96, "x": 112}
        np.testing.assert_array_equal(tiled["prediction"], whole["prediction"])
        assert ap50(truth, plane(whole.main)) == 1.0
        assert whole.report.objects == truth.max()
        if "b" in axes:  # core's operator needs a batch axis
            np.testing.assert_array_equal(plane(whole.main), core_run(runner, image))
            reference = core_run(runner, image, runner.plan(image, tile={"y": 48, "x": 32}))
            np.testing.assert_array_equal(plane(whole.main), reference)


@pytest.mark.parametrize("describes", ["labels", "network"])
@pytest.mark.parametrize("halo", [0, 16])
def test_stardist_on_a_grid_in_both_readings(tmp_path: Path, describes: str, halo: int) -> None:
    """The labels are those of the image's pixels, whatever the description's axes are of."""
    truth = discs(128, 160, count=20)
    image = as_image(rays_of(truth))
    folder = passing(
        tmp_path / "p", [stardist((2, 4))], grid={"y": 2, "x": 4}, describes=describes,
        halo=halo, size=(48, 16),
    )  # fmt: skip
    image.attrs["pixel_size"] = {"y": 0.5, "x": 0.5}
    with load(folder, device="cpu") as runner:
        whole = runner(image)
        tiled = runner(image, tile={"y": 64, "x": 80})
        assert len(runner.plan(image, tile={"y": 64, "x": 80})) > 1
        assert dict(whole.main.sizes) == {"channel": 1, "y": 128, "x": 160}
        np.testing.assert_array_equal(tiled.main, whole.main)
        np.testing.assert_array_equal(plane(whole.main), core_run(runner, image))
        assert ap50(truth, plane(whole.main)) == 1.0
        if describes == "network":  # core runs the other reading whole only
            plan = runner.plan(image, tile={"y": 64, "x": 80})
            np.testing.assert_array_equal(plane(whole.main), core_run(runner, image, plan))


def test_stardist_labels_cover_an_image_that_the_grid_does_not_divide(tmp_path: Path) -> None:
    truth = discs(61, 83, count=8)
    maps = rays_of(truth)
    folder = passing(tmp_path / "p", [stardist((2, 2))], grid={"y": 2, "x": 2})
    with load(folder, device="cpu") as runner:
        for tile in (None, {"y": 32, "x": 32}):
            labels = runner(as_image(maps), tile=tile).main
            assert (labels.sizes["y"], labels.sizes["x"]) == (61, 83)
            assert ap50(truth, plane(labels)) == 1.0
            edge = plane(labels)[60] > 0
            assert (edge == (truth[60] > 0)).mean() > 0.95


@pytest.mark.parametrize(("fixed", "size"), [({"y": 64, "x": 64}, 64), ({"y": 32, "x": 32}, 64)])
def test_stardist_sizes_as_plain_numbers(tmp_path: Path, fixed: dict[str, int], size: int) -> None:
    truth = discs(96, 100, count=10)
    folder = passing(
        tmp_path / "p", [stardist((2, 2))], grid={"y": 2, "x": 2}, size=size, fixed=fixed
    )
    with load(folder, device="cpu") as runner:
        result = runner(as_image(rays_of(truth)))
        assert result.report.tiles == 4
        assert ap50(truth, plane(result.main)) == 1.0


def test_stardist_in_space_equals_core(tmp_path: Path) -> None:
    truth = discs(24, 48, 40, count=6, radius=(5, 8))
    image = as_image(rays_of(truth))
    step = stardist((1, 2, 2), anisotropy=[1.0, 1.0, 1.0])
    folder = passing(
        tmp_path / "p", [step], axes="bzyxc", grid={"y": 2, "x": 2}, size=(8, 8), halo=0
    )
    with load(folder, device="cpu") as runner:
        whole = runner(image)
        tiled = runner(image, tile={"z": 16, "y": 32, "x": 24})
        assert dict(whole.main.sizes) == {"z": 24, "y": 48, "x": 40, "channel": 1}
        np.testing.assert_array_equal(tiled.main, whole.main)
        np.testing.assert_array_equal(plane(whole.main), core_run(runner, image))
        assert ap50(truth, plane(whole.main)) > 0.9


def test_sizes_that_are_neither_of_labels_nor_of_the_network_are_told(tmp_path: Path) -> None:
    folder = passing(tmp_path / "p", [stardist((4, 4))], grid={"y": 2, "x": 2}, describes="network")
    with pytest.raises(InvalidPackageError, match=r"pixels per pixel of the input: y 1/2, x 1/2"):
        load(folder, device="cpu")


def test_a_network_of_other_channels_is_told(tmp_path: Path) -> None:
    folder = passing(tmp_path / "p", [stardist(n_rays=RAYS + 3)])
    image = as_image(rays_of(discs(48, 48, count=3)))
    with load(folder, device="cpu") as runner, pytest.raises(BackendError, match=r"\(1, 17, .*20,"):
        runner(image)


# --------------------------------------------------------------------------------------- cellpose


def test_cellpose_finds_the_discs_and_equals_core(tmp_path: Path) -> None:
    truth = discs(96, 112)
    image = as_image(flows_of(truth))
    folder = passing(tmp_path / "p", [cellpose(min_size=20)], channels=3, dtype="uint16")
    with load(folder, device="cpu") as runner:
        whole = runner(image)
        tiled = runner(image, tile={"y": 48, "x": 64})
        assert tiled.report.tiles > 1
        assert whole.main.dtype == np.uint16
        np.testing.assert_array_equal(tiled.main, whole.main)
        np.testing.assert_array_equal(plane(whole.main), core_run(runner, image))
        plan = runner.plan(image, tile={"y": 48, "x": 64})
        np.testing.assert_array_equal(plane(whole.main), core_run(runner, image, plan))
        assert ap50(truth, plane(whole.main)) == 1.0
        assert whole.report.objects == truth.max()


def test_cellpose_with_the_channels_last_and_described_as_the_networks(tmp_path: Path) -> None:
    """Core wants them second; the result is the same."""
    truth = discs(64, 80, count=6)
    image = as_image(flows_of(truth))
    kinds = {"first": "bcyx", "last": "bxyc"}
    made = {}
    for name, axes in kinds.items():
        folder = passing(
            tmp_path / name, [cellpose()], axes=axes, channels=3, made=3, dtype="float32"
        )
        with load(folder, device="cpu") as runner:
            result = runner(image)
            assert result.main.sizes["channel"] == 1
            assert result.report.objects == 6
            made[name] = plane(result.main)
    np.testing.assert_array_equal(made["first"], made["last"])
    assert ap50(truth, made["last"].astype(int)) == 1.0


def test_more_objects_than_the_described_type_holds_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = np.array([[[[70000]]]], np.uint32)
    monkeypatch.setattr(steps_external, "_operate", lambda *args: many)
    descr = biozoo.open(passing(tmp_path / "p", [cellpose()], channels=3)).descr
    step = postprocessing(descr).chains["prediction"].steps[0]
    told = r"70000 objects were found.*uint16, up to 65535"
    with pytest.raises(BackendError, match=told):
        step.apply(many, Block(("batch", "channel", "y", "x")), own=False)


def test_labels_are_not_cast_to_a_type_too_small_for_them(tmp_path: Path) -> None:
    """Core's cast gives objects 1 and 257 one number."""
    tiny = np.zeros((RAYS + 1, 60, 60), np.float32)
    tiny[0, ::3, ::3] = np.linspace(0.9, 1.0, 400).reshape(20, 20)
    tiny[1:] = 0.6
    with load(passing(tmp_path / "p", [stardist()], dtype="int32"), device="cpu") as runner:
        assert runner(as_image(tiny)).report.objects == 400
    with (
        load(passing(tmp_path / "p", [stardist()], dtype="uint8"), device="cpu") as runner,
        pytest.raises(BackendError, match=r"400 objects were found.*uint8, up to 255"),
    ):
        runner(as_image(tiny))


def test_cellpose_of_a_volume_is_refused(tmp_path: Path) -> None:
    folder = passing(tmp_path / "p", [cellpose(do_3D=True)], axes="bczyx", channels=3, size=8)
    with pytest.raises(NoBackendError, match="for planes only"):
        load(folder, device="cpu")


# -------------------------------------------------------------------------------- labels as results


def test_labels_are_the_main_result_and_are_counted_plane_by_plane(tmp_path: Path) -> None:
    planes = [discs(64, 64, seed=s, count=n) for s, n in ((1, 3), (2, 5))]
    stack = xr.DataArray(np.stack([rays_of(p) for p in planes]), dims=["z", "channel", "y", "x"])
    # the specification casts to the described type at the end
    folder = passing(tmp_path / "p", [stardist()], dtype="uint16")
    with load(folder, device="cpu") as runner:
        assert (runner.label_images, runner.main) == (("prediction",), "prediction")
        result = runner(stack)
        assert result.label_images == ("prediction",)
        assert result.main.dtype == np.uint16
        assert result.report.objects == 8
        for z, truth in enumerate(planes):
            assert ap50(truth, plane(result.main.isel(z=z)).astype(int)) == 1.0
        with pytest.raises(UsageError, match="makes its objects by its own postprocessing"):
            runner(stack, min_size=5)
        np.save(tmp_path / "maps.npy", stack.isel(z=0).values)
        report = run_batch(runner, [tmp_path / "maps.npy"], tmp_path / "out.tif", axes="cyx")
        written = biozoo_image(report.files[0].written[0])
        np.testing.assert_array_equal(written, plane(result.main.isel(z=0)))


def biozoo_image(path: Path) -> np.ndarray:
    from biozoo_runners import open_image

    return plane(open_image(path).read({}))


def test_steps_before_and_after_run_too(tmp_path: Path) -> None:
    """Scaling back before, a mask after: no labels any more, and nothing is counted."""
    truth = discs(64, 64, count=4)
    maps = rays_of(truth) * 4
    steps = [
        {"id": "scale_linear", "kwargs": {"gain": 0.25}},
        stardist(),
        {"id": "binarize", "kwargs": {"threshold": 0.5}},
    ]
    with load(passing(tmp_path / "p", steps, dtype="uint8"), device="cpu") as runner:
        result = runner(as_image(maps), tile={"y": 32, "x": 32})
        assert result.main.dtype == bool
        assert result.report.objects is None
        assert (plane(result.main) == (truth > 0)).mean() > 0.97


def test_zoo_test_covers_the_step(tmp_path: Path) -> None:
    truth = discs(64, 48, count=4)
    given = rays_of(truth)[None]
    with load(passing(tmp_path / "p", [stardist()]), device="cpu") as runner:
        inputs = {"raw": xr.DataArray(given, dims=["batch", "channel", "y", "x"])}
        expected = run_whole(runner, inputs)["prediction"]
    assert expected.shape == (1, 1, 64, 48)
    good = passing(tmp_path / "good", [stardist()], test=(given, expected))
    assert test_package(good).ok
    bad = passing(tmp_path / "bad", [stardist()], test=(given, expected[..., ::-1]))
    assert not test_package(bad).ok


def test_objects_are_distinct_numbers() -> None:
    labels = xr.DataArray([[[0, 7, 7], [3, 0, 0]], [[0, 0, 0], [-1, 0, 1]]], dims=["z", "y", "x"])
    assert count_objects(labels, ["z"]) == 3
    assert count_objects(labels.astype("float32"), []) == 3
    assert count_objects(labels[:, :0], ["z"]) == 0


# ------------------------------------------------------------------------- libraries and refusals


@pytest.mark.parametrize(
    ("step", "channels", "library"),
    [(stardist(), RAYS + 1, "stardist"), (cellpose(), 3, "cellpose")],
)
def test_an_absent_library_is_told_before_weights_are_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: dict[str, Any],
    channels: int,
    library: str,
) -> None:
    folder = passing(tmp_path / "p", [step], channels=channels)
    (folder / "weights.onnx").write_bytes(b"no graph")
    rdf = read_rdf(folder)
    rdf["weights"]["onnx"] |= _file(folder, "weights.onnx")
    write_rdf(folder, rdf)
    descr = biozoo.open(folder).descr
    assert required_libraries(descr) == {library: f"output 'prediction' is made by {step['id']}"}
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not there
    with pytest.raises(MissingDependencyError, match=rf"{step['id']}.*\[{library}\]") as e:
        load(folder, device="cpu")
    assert e.value.library == library


def test_the_steps_are_kept_as_plain_values(tmp_path: Path) -> None:
    step = stardist((1, 2, 2), anisotropy=[2.0, 1.0, 1.0], b=[[1, 2], [3, 4], [5, 6]])
    folder = passing(tmp_path / "p", [step], axes="bczyx", grid={"y": 2, "x": 2}, size=(8, 8))
    made = postprocessing(biozoo.open(folder).descr)
    assert from_plain(to_plain(made)) == made


def test_two_label_steps_and_missing_axes_are_faults_of_the_package(tmp_path: Path) -> None:
    with pytest.raises(InvalidPackageError, match="labels of an earlier step"):
        load(passing(tmp_path / "two", [stardist(), cellpose()]), device="cpu")
    volume = stardist((1, 1, 1), anisotropy=[1.0, 1.0, 1.0])
    with pytest.raises(InvalidPackageError, match="it takes the axes channel, z, y, x"):
        load(passing(tmp_path / "axes", [volume]), device="cpu")


def test_loading_imports_neither_library(tmp_path: Path) -> None:
    folder = passing(tmp_path / "p", [stardist()])
    code = (
        "import sys, biozoo_runners\n"
        f"with biozoo_runners.load({str(folder)!r}, device='cpu'): pass\n"
        "names = ('stardist', 'cellpose', 'torch', 'bioimageio.core')\n"
        "print([n for n in names if n in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# ---------------------------------------------------------------------------------- author's code

SPREAD = """
import os

import numpy as np

MADE = []


class Spread:
    '''Divides by the largest value of what it is given, and knows how often it was called.'''

    def __init__(self, power=1, add=0.0):
        MADE.append(self)
        self.power, self.add, self.calls = power, add, 0

    def __call__(self, *arrays):
        assert len(arrays) == 1
        self.calls += 1
        return (arrays[0] / arrays[0].max()) ** self.power + self.add


def counted():
    def run(array):
        array[:] = 100 * len(MADE) + MADE[0].calls
        return array.astype(np.float64)

    return run


def pair():
    return lambda first, second: first


def misbehave():
    def run(array):
        match int(array.flat[0]):
            case 1:
                raise ValueError("seven is no power of two")
            case 2:
                return array.tolist()
            case 3:
                return array[..., :-1]
            case 4:
                return array.astype(object)
            case 5:
                while True:
                    pass
            case 6:
                print("goodbye")
                os._exit(3)
        return array

    return run
"""


def custom(name: str, **kwargs: Any) -> dict[str, Any]:
    return {"id": "custom", "callable": name, "source": "spread.py", "kwargs": kwargs}


def with_code(
    folder: Path, *steps: Mapping[str, Any], code: str = SPREAD, outputs: int = 1
) -> Path:
    """A package of the author's code, without context, for one channel."""
    make_package(folder, network="pointwise", outputs=outputs, size=(8, 8), validate=False)
    (folder / "spread.py").write_text(code)
    rdf = read_rdf(folder)
    for step in steps:
        of = rdf["outputs"][step.get("output", 0)]
        entry = {k: v for k, v in step.items() if k != "output"}
        of["postprocessing"].append(entry | _file(folder, "spread.py"))
    write_rdf(folder, rdf)
    _validate(folder, rdf)
    return folder


def noise(*shape: int, first: float = 0.0) -> xr.DataArray:
    values = np.random.default_rng(0).random((1, *shape)).astype("float32")
    values.flat[0] = first
    return xr.DataArray(values, dims=["channel", "y", "x"])


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # core, of the source
def test_code_runs_after_consent_only_and_on_the_whole(tmp_path: Path) -> None:
    folder = with_code(tmp_path / "p", custom("Spread", power=2, add=0.5))
    with pytest.raises(UntrustedCodeError, match=r"spread\.py.*zoo trust"):
        load(folder, device="cpu")
    grant(biozoo.open(folder))
    image = noise(40, 48)
    with load(folder, device="cpu") as runner:
        whole = runner(image)
        tiled = runner(image, tile={"y": 16, "x": 24})
        assert tiled.report.tiles == 6
        assert whole.report.objects is None
        assert whole.main.max() == pytest.approx(1.5)
        np.testing.assert_array_equal(tiled.main, whole.main)
        np.testing.assert_array_equal(plane(whole.main), core_run(runner, image))
        assert runner._custom is not None
        runner._custom._child.unprotected = ("the network is shut off",)
        told = " ".join(runner(image).report.notes)
        assert "ran without these protections: the network is shut off" in told
    given = (folder / "spread.py").read_text()
    (folder / "spread.py").write_text(given.replace("100 *", "101 *"))
    rdf = read_rdf(folder)
    rdf["outputs"][0]["postprocessing"][0] |= _file(folder, "spread.py")
    write_rdf(folder, rdf)
    with pytest.raises(UntrustedCodeError, match="not the code that was allowed before"):
        load(folder, device="cpu")


def test_steps_share_one_process_that_ends_with_the_runner(tmp_path: Path) -> None:
    """Made once each at loading, called once per plane, also of several outputs."""
    folder = with_code(
        tmp_path / "p", custom("Spread"), custom("counted"), {**custom("Spread"), "output": 1},
        outputs=2,
    )  # fmt: skip
    grant(biozoo.open(folder))
    stack = xr.concat([noise(16, 16), noise(16, 16), noise(16, 16)], "z")
    others = set(psutil.Process().children())
    with load(folder, device="cpu") as runner:
        result = runner(stack)
        seen = result["prediction"].isel(channel=0, y=0, x=0).values.astype(int)
        # both Spread are made, the first was called for this plane and those before
        np.testing.assert_array_equal(seen, [201, 202, 203])
        assert result["prediction"].dtype == np.float32  # what the description casts to
        assert result["prediction1"].max() == 1
        code = runner._custom
        assert code is not None
        assert code.peak_memory > 0
        (process,) = set(psutil.Process().children()) - others
    assert not process.is_running()
    code.close()
    with pytest.raises(BackendError, match="its process has ended"):
        code.run(0, np.zeros((1, 1, 2, 2), np.float32))


def test_code_that_misbehaves_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = with_code(tmp_path / "p", custom("misbehave"))
    grant(biozoo.open(folder))

    def run(case: int) -> None:
        runner(noise(16, 16, first=(case - 1) / 2))  # the network doubles and adds one

    with load(folder, device="cpu") as runner:
        run(0)
        with pytest.raises(BackendError, match=r"ValueError: seven is no power.*spread\.py, line"):
            run(1)
        with pytest.raises(BackendError, match=r"custom step misbehave.*returned list and"):
            run(2)
        with pytest.raises(BackendError, match=r"\(1, 1, 16, 16\) and returned \(1, 1, 16, 15\)"):
            run(3)
        with pytest.raises(BackendError, match="array of object and not of real numbers"):
            run(4)
        run(0)  # it lives on
        with pytest.raises(BackendError, match=r"exit code 3[^$]*goodbye"):
            run(6)
        with pytest.raises(BackendError, match="Load the model again"):
            run(0)
    monkeypatch.setenv("BIOZOO_CODE_SECONDS", "10")
    with load(folder, device="cpu") as runner:
        monkeypatch.setenv("BIOZOO_CODE_SECONDS", "0.5")
        with pytest.raises(BackendError, match=r"0\.5 s and was stopped"):
            run(5)


@pytest.mark.parametrize(
    ("step", "code", "told"),
    [
        (custom("pair"), SPREAD, r"takes \(first, second\).* called with one array"),
        (custom("absent"), SPREAD, "'absent' is not in it"),
        (custom("MADE"), SPREAD, "'MADE' is no class or function"),
        (custom("Spread", root=3), SPREAD, "unexpected keyword argument 'root'"),
        (
            custom("Spread"),
            "import no_such_library",
            r"'no_such_library', which .* ask its author\.$",
        ),
        (custom("Spread"), "def Spread():\n    return 3", "makes int, which cannot be called"),
    ],
)
def test_code_that_cannot_be_loaded_is_told(
    tmp_path: Path, step: dict[str, Any], code: str, told: str
) -> None:
    folder = with_code(tmp_path / "p", step, code=code)
    grant(biozoo.open(folder))
    with pytest.raises(BackendError, match=told):
        load(folder, device="cpu")


def test_arguments_that_would_change_on_the_way_are_refused(tmp_path: Path) -> None:
    folder = with_code(tmp_path / "p", custom("Spread", power={1: "a"}))
    grant(biozoo.open(folder))
    with pytest.raises(InvalidPackageError, match="mappings whose keys are text"):
        load(folder, device="cpu")
