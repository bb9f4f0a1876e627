"""What `zoo pack` says of outputs: labels, ranges, pixel sizes, whole numbers, odd returns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml

import biozoo
import biozoo_converters
from biozoo.errors import ConversionError, NetworkError, StorageError, UsageError
from biozoo_converters.conversion.base import Attempt
from biozoo_converters.conversion.drafts import Draft
from biozoo_converters.conversion.proving import first_proven
from biozoo_converters.conversion.writing import check_target
from biozoo_converters.packing.finishing import advice
from biozoo_converters.packing.label_outputs import labels_of
from biozoo_converters.packing.pack_options import Options, merge
from biozoo_converters.packing.packed import PackReport, tensor_lines
from biozoo_converters.packing.processing_text import check_steps
from biozoo_runners import load
from biozoo_runners.sizes import AxisGeometry, FixedSize, SizeReference, TensorGeometry
from packages import make_package

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

NET = """
import torch
from torch import nn
from torch.nn import functional as F


class Discs(nn.Module):
    '''StarDist's channels, half as large as the image: bright pixels are objects of one size.'''

    def __init__(self, rays=8, last=True):
        super().__init__()
        self.rays, self.last, self.radius = rays, last, nn.Parameter(torch.tensor(6.0))

    def forward(self, x):
        small = F.avg_pool2d(x, 2)
        far = (0 * small + self.radius).expand(-1, self.rays, -1, -1)
        made = torch.cat([torch.sigmoid(20 * (small - 0.8)), far], 1)
        return made.movedim(1, -1) if self.last else made


class Flows(nn.Module):
    '''Cellpose's channels: up to the middles of bright discs.'''

    def __init__(self):
        super().__init__()
        slope = torch.zeros(2, 1, 5, 5)
        slope[0, 0, 4, 2], slope[0, 0, 0, 2] = 50.0, -50.0
        slope[1, 0, 2, 4], slope[1, 0, 2, 0] = 50.0, -50.0
        self.slope = nn.Parameter(slope)

    def forward(self, x):
        return torch.cat([F.conv2d(x, self.slope, padding=2), 10 * (x - 0.3)], 1)


class Classes(Flows):
    def forward(self, x):
        return super().forward(x).argmax(1, keepdim=True)


class Near(Flows):
    '''Within 0 and 1 on the sample, and nowhere else by right.'''

    def forward(self, x):
        return super().forward(x) * 1e-3 + 0.5


class Bent(Flows):
    def forward(self, x):
        return torch.tanh(super().forward(x))


class Guided(Flows):
    '''A second input of half the size.'''

    def forward(self, image, guide):
        return super().forward(image) * F.interpolate(guide, scale_factor=2.0)


class Finer(Flows):
    def forward(self, x):
        return F.interpolate(super().forward(x), scale_factor=2.0)


class Named(Flows):
    def forward(self, x):
        return {"fg": x * 2, "note": None, "flow": super().forward(x)}
"""
FACTS = {
    "name": "Tiny net",
    "description": "Finds discs.",
    "authors": ["A. Uthor"],
    "license": "MIT",
    "cite": ["10.1234/discs"],
    "timing": False,
}
STAR = "stardist_postprocessing:prob_threshold=0.5,nms_threshold=0.4,n_rays=8,grid=[2,2],b=2"
POSE = "cellpose_flow_dynamics:cellprob_threshold=0.0,flow_threshold=0.0,do_3D=false"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """net.py and discs.npy: twelve bright discs."""
    folder = tmp_path_factory.mktemp("discs")
    (folder / "net.py").write_text(NET)
    y, x = np.mgrid[:72, :100]
    image = np.zeros(y.shape, np.float32)
    for cy in range(12, 72, 24):
        for cx in range(12, 100, 25):
            image = np.maximum(image, np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 40))
    np.save(folder / "discs.npy", image.astype(np.float32))
    return folder


def made(place: Path, source: str, *steps: str, dry: bool = True, **others: Any) -> PackReport:
    """Pack it; by default only as far as the description."""
    values = {
        "source": f"net.py:{source}",
        "inputs": [{"sample": "discs.npy"}],
        "outputs": [{"postprocessing": list(steps)}] if steps else [],
        **FACTS,
        **others,
    }
    return biozoo_converters.pack(
        values, None if dry else place / "out.zip", root=place, dry_run=dry
    )


# ------------------------------------------------------------------------------------------- labels


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_labels_of_stardist_have_the_images_pixels(place: Path) -> None:
    pytest.importorskip("stardist")
    report = made(place, "Discs", STAR, dry=False)
    _, y, x, channel = report.raw["outputs"][0]["axes"]
    assert channel["channel_names"] == ["prediction"]
    assert y["size"] == {"tensor_id": "raw", "axis_id": "y"}
    assert "scale" not in y
    assert x["size"] == {"tensor_id": "raw", "axis_id": "x"}
    from bioimageio.core import test_model
    from bioimageio.spec import ValidationContext

    with ValidationContext(perform_io_checks=False, log_warnings=False):
        summary = test_model(place / "out.zip")
    assert summary.status == "passed", summary.format()
    with load(biozoo.open(str(place / "out.zip")), device="cpu") as runner:
        labels = runner(place / "discs.npy")["prediction"].values.squeeze()
    assert labels.shape == (72, 100)
    assert labels.max() == 12


def test_labels_that_core_would_turn_around_are_refused(place: Path) -> None:
    with pytest.raises(NetworkError, match=r"movedim\(1, -1\)"):
        made(place, "Discs", STAR, kwargs={"last": False})


def test_labels_of_cellpose_are_one_channel(place: Path) -> None:
    pytest.importorskip("cellpose")
    report = made(place, "Flows", POSE)
    assert report.raw["outputs"][0]["axes"][1]["channel_names"] == ["prediction"]
    assert "int" in report.raw["outputs"][0]["data"]["type"]


def tensor(channels: int, scale: float = 2.0) -> TensorGeometry:
    names = tuple(f"c{i}" for i in range(channels))
    return TensorGeometry(
        "out",
        (
            AxisGeometry("y", "space", SizeReference("raw", "y"), scale=scale, halo=3),
            AxisGeometry("channel", "channel", FixedSize(channels), channels=names),
        ),
    )


def test_a_step_that_does_not_fit_the_network_is_refused() -> None:
    [step], _ = check_steps([STAR], "postprocessing")
    assert labels_of(tensor(9), [step]).axes[0].halo == 6
    with pytest.raises(NetworkError, match=r"takes 9 channels.*has 5"):
        labels_of(tensor(5), [step])
    with pytest.raises(NetworkError, match=r"a pixel for 4 .* grid 2"):
        labels_of(tensor(9, 4.0), [step])
    assert labels_of(tensor(5), []) == tensor(5)


def test_a_step_with_two_forms_asks_for_what_the_nearest_one_lacks() -> None:
    _, faults = check_steps([STAR.removesuffix(",b=2")], "postprocessing")
    assert faults[0] == "'stardist_postprocessing' cannot be used: b: must be given"


# ------------------------------------------------------------------------------------------- values


def test_only_a_range_that_cannot_be_left_is_declared(place: Path) -> None:
    near, bent = made(place, "Near"), made(place, "Bent")
    assert near.raw["outputs"][0]["data"] == {"type": "float32"}
    assert bent.raw["outputs"][0]["data"] == {"type": "float32", "range": [-1.0, 1.0]}
    assert any("lay between 0" in fact for fact in near.facts)
    assert any("lies between -1 and 1" in fact for fact in bent.facts)


def test_whole_numbers_of_eight_bytes(place: Path) -> None:
    report = made(place, "Classes", dry=False)
    assert report.raw["outputs"][0]["data"] == {"type": "int64"}
    assert report.raw["outputs"][0]["sample_tensor"]["source"] == "sample_prediction.tif"


def test_what_nobody_can_fill_is_not_advised() -> None:
    assert advice(["outputs.0.sample_tensor: Needs to be filled for FAIR compliance"], {}) == []
    assert advice(["x: do that"], {}) == ["bioimageio.spec warns of x: do that"]


# ------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_channels_that_are_not_so_many_are_refused(place: Path, side: str) -> None:
    parts = {"inputs": [{"sample": "discs.npy"}], "outputs": [{}]}
    parts[side][0]["channels"] = ["a", "b"]
    with pytest.raises(UsageError, match=r"has (1|3) channels?, 2 are named: a, b"):
        made(place, "Flows", **parts)


def test_channels_of_the_only_output_by_its_default_name(tmp_path: Path) -> None:
    options = Options(sample=["x.tif"], channels=["prediction=a,b"])
    values, _ = merge("net.py:Net", options, {}, folder=tmp_path)
    assert values["outputs"] == [{"id": "prediction", "channels": "a,b"}]
    assert "channels" not in values["inputs"][0]
    for wrong in (["x.tif"], ["cells=x.tif"]):
        with pytest.raises(UsageError, match="no tensor of that name"):
            merge("n.py:N", Options(sample=wrong, channels=["z=a"]), {}, folder=tmp_path)


def test_an_input_called_as_the_output_would_be(place: Path) -> None:
    inputs = [{"id": "prediction", "sample": "discs.npy"}]
    report = made(place, "Flows", inputs=inputs)
    assert report.raw["outputs"][0]["id"] == "prediction_out"
    with pytest.raises(UsageError, match="both called 'raw'"):
        made(place, "Flows", outputs=[{"id": "raw"}])


# -------------------------------------------------------------------------------------- pixel sizes


def test_an_input_that_follows_another_has_its_pixel_size(place: Path, tmp_path: Path) -> None:
    """Or the specification computes another size for it than it has."""
    image = np.load(place / "discs.npy")
    told = {"axes": "YX", "PhysicalSizeY": 0.65, "PhysicalSizeX": 0.65,
            "PhysicalSizeYUnit": "µm", "PhysicalSizeXUnit": "µm"}  # fmt: skip
    tifffile.imwrite(tmp_path / "a.ome.tif", image, metadata=told)
    tifffile.imwrite(tmp_path / "b.ome.tif", image[::2, ::2], metadata=told)
    report = made(
        place,
        "Guided",
        inputs=[
            {"id": "image", "sample": str(tmp_path / "a.ome.tif")},
            {"id": "guide", "sample": str(tmp_path / "b.ome.tif")},
        ],
    )
    image_y, guide_y = (t["axes"][2] for t in report.raw["inputs"])
    assert (image_y["scale"], image_y["unit"]) == (0.65, "micrometer")
    assert guide_y["size"] == {"tensor_id": "image", "axis_id": "y"}
    assert (guide_y["scale"], guide_y["unit"]) == (1.3, "micrometer")
    lines = tensor_lines(report.raw)
    assert "y / 2" in lines[1]
    assert "y /" not in lines[2]  # as large as the image, whatever a pixel measures


def test_an_output_of_twice_the_size_is_told_so(place: Path) -> None:
    report = made(place, "Finer")
    assert "y * 2" in tensor_lines(report.raw)[1]


# ------------------------------------------------------------------------------------------ returns


def test_outputs_that_are_no_tensors_are_told_with_those_that_are(place: Path) -> None:
    with pytest.raises(NetworkError) as told:
        made(place, "Named")
    assert "--outputs fg,flow" in told.value.message
    assert "axes" not in told.value.message  # no others would help
    report = made(place, "Named", keep_outputs=["fg", "flow"])
    assert [o["id"] for o in report.raw["outputs"]] == ["fg", "flow"]


def test_why_a_graph_may_be_wrong_is_told_with_the_fault(tmp_path: Path) -> None:
    """The network's own doubts about an export, which the comparison cannot know."""
    package = make_package(tmp_path / "given")
    raw = yaml.safe_load((package / "rdf.yaml").read_text())
    draft = Draft(package, raw)
    wrong = make_package(tmp_path / "wrong", kernel=5)

    def make(folder: Path) -> dict[str, Any]:
        (folder / "weights.onnx").write_bytes((wrong / "weights.onnx").read_bytes())
        return dict(raw["weights"]["onnx"])

    class Constant:
        def run(self, inputs: Any) -> dict[str, Any]:
            return {"prediction": np.full_like(next(iter(inputs.values())), 7)}

    attempt = Attempt("trace", make, doubts=lambda: ("Python decides by a size in net.py, line 3",))
    with pytest.raises(ConversionError, match=r"Python decides by a size in net\.py, line 3"):
        first_proven(draft, "onnx", [attempt], Constant())


# ------------------------------------------------------------------------------------------- places


def test_a_deep_folder_of_somebodys_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / "mine"
    folders = [deep.joinpath(*["d"] * n) for n in range(1100)]
    for folder in folders:
        folder.mkdir()
    thesis = folders[-1] / "thesis.txt"
    thesis.write_text("mine")
    try:
        with pytest.raises(StorageError, match="no part of a package"):
            check_target(deep)
    finally:  # pytest itself would not manage
        thesis.unlink()
        for folder in reversed(folders):
            folder.rmdir()
