"""`zoo check`: every "no" says why and what to do, and one does not hide the next."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import biozoo
import biozoo_runners
from biozoo.errors import MissingFileError
from biozoo_runners import check
from biozoo_runners.check import CheckReport
from packages import ZERO_MEAN, change_rdf, make_package, read_rdf


def answers(report: CheckReport) -> dict[str, str]:
    """Worst answer by topic."""
    rank = {"yes": 0, "note": 1, "no": 2}
    found: dict[str, str] = {}
    for item in report.items:
        if rank[item.status] >= rank[found.get(item.topic, "yes")]:
            found[item.topic] = item.status
    return found


def test_a_fitting_image(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", preprocessing=[ZERO_MEAN])
    report = check(folder, np.zeros((40, 40), "uint8"), device="cpu")
    assert report.ok
    assert report.exit_code == 0
    found = answers(report)
    for topic in ("code", "weights", "axes", "channels", "size", "values", "memory"):
        assert found[topic] == "yes"
    assert "tiny will run on the image" in str(report)
    json.dumps(report.to_dict())


def test_without_an_image_only_the_machine_is_checked(tmp_path: Path) -> None:
    report = check(make_package(tmp_path / "p"), device="cpu")
    assert report.ok
    assert set(answers(report)) == {"code", "weights"}


def test_a_channel_must_be_chosen(tmp_path: Path) -> None:
    rgb = xr.DataArray(
        np.zeros((20, 20, 3), "uint8"),
        dims=["y", "x", "channel"],
        coords={"channel": ["red", "green", "blue"]},
    )
    folder = make_package(tmp_path / "p")
    report = check(folder, rgb)
    assert not report.ok
    assert report.exit_code == 1
    assert answers(report)["channels"] == "no"
    assert "1 (green)" in str(report)
    assert check(folder, rgb, channel="green").ok


def test_axes_that_do_not_fit(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", axes="bczyx")
    report = check(folder, np.zeros((20, 20)))
    assert answers(report)["axes"] == "no"
    assert "'z' is missing" in str(report)
    assert answers(check(folder, np.zeros((4, 20, 20))))["image"] == "no"  # axes not given
    assert check(folder, np.zeros((8, 20, 20)), axes="zyx").ok


def test_how_the_size_is_met(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", size=32, halo=4)
    small = check(folder, np.zeros((10, 40)))
    assert small.ok
    assert answers(small)["size"] == "note"
    assert "padded along y from 10 to 24" in str(small)
    bad = check(folder, np.zeros((40, 40)), tile={"x": 30})
    assert answers(bad)["size"] == "no"
    assert "exactly 32" in str(bad)


@pytest.mark.parametrize(
    ("dtype", "scale", "status"),
    [("uint8", 255, "yes"), ("uint16", 60000, "note"), ("float32", 1, "note")],
)
def test_values_outside_what_the_model_describes(
    tmp_path: Path, dtype: str, scale: float, status: str
) -> None:
    folder = make_package(tmp_path / "p", dtype="uint8")
    image = (np.random.default_rng(0).random((40, 40)) * scale).astype(dtype)
    report = check(folder, image)
    assert report.ok  # it runs; whether it is right is for the person to say
    assert answers(report)["values"] == status


def test_values_do_not_matter_to_a_model_that_normalises(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", dtype="uint8", preprocessing=[ZERO_MEAN])
    assert answers(check(folder, np.ones((40, 40)) * 1e5))["values"] == "yes"


def test_pixel_sizes_are_compared_where_both_are_known(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", pixel_size={"y": 0.5, "x": 0.5})

    def image(size: float) -> xr.DataArray:
        attrs = {
            "pixel_size": {"y": size, "x": size},
            "unit": {"y": "micrometer", "x": "micrometer"},
        }
        return xr.DataArray(np.zeros((20, 20)), dims=["y", "x"], attrs=attrs)

    assert answers(check(folder, image(0.6)))["pixel size"] == "yes"
    report = check(folder, image(2.0))
    assert answers(report)["pixel size"] == "note"
    assert "Rescale the image by 4" in str(report)


def test_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from biozoo_runners import devices

    machine = devices.detect()
    folder = make_package(tmp_path / "p")
    for free, status in ((10**6, "note"), (10**4, "no")):
        from dataclasses import replace

        small = replace(machine, memory_available=free)
        monkeypatch.setattr(devices, "detect", lambda small=small: small)
        report = check(folder, np.zeros((100, 100), "uint8"))
        assert answers(report)["memory"] == status


def test_finding_objects_takes_memory_too(tmp_path: Path) -> None:
    """Of a large image it is most of what is needed: the results alone would mislead."""
    image = np.broadcast_to(np.zeros((), "uint8"), (12_000, 9_000))
    report = check("nuclei-fluo", image, device="cpu")
    memory = next(i.what for i in report.items if i.topic == "memory")
    assert re.search(r"results 4\.\d", memory), memory


def test_objects_that_a_model_cannot_make_are_told(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p")
    change_rdf(folder, config={"biozoo": {"instances": {"output": "gone", "foreground": 0}}})
    for image in (None, np.zeros((40, 40), "uint8")):
        report = check(folder, image, device="cpu")
        assert answers(report)["description"] == "no"
        assert "config.biozoo.instances" in str(report)


def test_it_says_where_the_axes_come_from(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p")
    stack = tmp_path / "stack.npy"
    np.save(stack, np.zeros((2, 40, 40), "uint8"))
    assert "z, y, x, as you named them" in str(check(folder, stack, axes="zyx"))
    np.save(stack, np.zeros((40, 40), "uint8"))
    assert "y, x, as in every file of this kind" in str(check(folder, stack))


def test_weights_that_nothing_here_executes(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p")
    weights = read_rdf(folder)["weights"]["onnx"]
    del weights["opset_version"]
    change_rdf(folder, weights={"torchscript": {**weights, "pytorch_version": "2.1"}})
    report = check(folder, np.zeros((3, 20, 20)))
    assert answers(report)["weights"] == "no"
    assert answers(report)["image"] == "no"  # and the image's fault is told as well
    assert "torchscript" in str(report)


def test_a_missing_card(tmp_path: Path) -> None:
    report = check(make_package(tmp_path / "p"), device="cuda:99")
    assert answers(report)["device"] == "no"


def test_code_of_the_author(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p")
    (folder / "net.py").write_text("raise SystemExit('this must not run')")
    weights = read_rdf(folder)["weights"]["onnx"]
    del weights["opset_version"]
    architecture = {"source": "net.py", "sha256": _sha(folder / "net.py"), "callable": "Net"}
    state = {**weights, "pytorch_version": "2.1", "architecture": architecture}
    change_rdf(folder, weights={"pytorch_state_dict": state})
    report = check(folder)
    assert answers(report)["code"] == "no"
    assert "net.py" in str(report)


def _sha(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_invalid_description_is_an_item(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p")
    change_rdf(folder, inputs="nothing")
    report = check(folder, np.zeros((20, 20)))
    assert answers(report)["description"] == "no"


def test_an_image_that_does_not_exist_is_an_item(tmp_path: Path) -> None:
    report = check(make_package(tmp_path / "p"), tmp_path / "none.tif")
    assert answers(report)["image"] == "no"
    with pytest.raises(MissingFileError):
        check(tmp_path / "no-such-package")


def test_names_of_the_package_are_lazy_and_complete() -> None:
    """Importing biozoo_runners imports no framework; `check` stays a function."""
    code = (
        "import sys, biozoo_runners, biozoo_runners.check\n"
        "heavy = {'torch', 'onnxruntime', 'gradio', 'fastapi', 'xarray', 'scipy', 'skimage',"
        " 'bioimageio.core', 'bioimageio.spec'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert callable(biozoo_runners.check)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    for name in biozoo_runners.__all__:
        assert getattr(biozoo_runners, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = biozoo_runners.no_such_name  # type: ignore[attr-defined]


@pytest.mark.shared
@pytest.mark.parametrize("name", ["nuclei-broad", "brain-meshnet3d", "multi-tensor"])
def test_shared_models_can_be_checked(shared: Path, name: str) -> None:
    package = biozoo.open(shared / "models" / name)
    axes: Any = "zyx" if name.startswith("brain") else "yx"
    image = np.random.default_rng(0).random((64,) * len(axes))
    given: Any = {"input0": image, "input1": image} if name == "multi-tensor" else image
    report = check(package, given, axes=axes)
    assert report.ok == ("onnx" in package.summary.weights)
    assert answers(report)["size"] in ("yes", "note")
