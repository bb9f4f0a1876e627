"""`zoo check`: every "no" says why and what to do, and one does not hide the next."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import biozoo
import biozoo_runners
from biozoo.consent import grant
from biozoo.errors import MissingFileError
from biozoo.files import size_text
from biozoo.package import ModelPackage
from biozoo_runners import check
from biozoo_runners.base import Backend
from biozoo_runners.check import TOPICS, CheckItem, CheckReport
from biozoo_runners.devices import CudaDevice
from biozoo_runners.onnx import OnnxBackend
from biozoo_ui.cli.app import app
from coded import CodeBackend, TorchBackend, with_code, with_step
from loopback import Loopback
from packages import ZERO_MEAN, change_rdf, make_package, read_rdf
from test_collection import publish, set_index


def answers(report: CheckReport) -> dict[str, str]:
    """Worst answer by topic."""
    rank = {"yes": 0, "note": 1, "no": 2}
    found: dict[str, str] = {}
    for item in report.items:
        if rank[item.status] >= rank[found.get(item.topic, "yes")]:
            found[item.topic] = item.status
    return found


def item(report: CheckReport, topic: str) -> CheckItem:
    """The first answer on a topic."""
    return next(i for i in report.items if i.topic == topic)


def machine(monkeypatch: pytest.MonkeyPatch, **facts: Any) -> None:
    """Let the check look at another machine."""
    from biozoo_runners import devices

    found = devices.Machine(cores=4, memory=8 * 10**9, memory_available=8 * 10**9, **facts)
    monkeypatch.setattr(devices, "detect", lambda: found)


def backends(monkeypatch: pytest.MonkeyPatch, *classes: type[Backend]) -> None:
    """Let these be the backends there are."""
    from biozoo_runners import pipeline

    known = {c.name: c for c in classes}
    monkeypatch.setattr(pipeline, "known_backends", lambda: (known, {}))


class Elsewhere(TorchBackend):
    """Another backend for ONNX."""

    name: ClassVar[str] = "elsewhere"
    weights_formats: ClassVar[tuple[str, ...]] = ("onnx",)


def test_a_fitting_image(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", preprocessing=[ZERO_MEAN])
    report = check(folder, np.zeros((40, 40), "uint8"), device="cpu")
    assert report.ok
    assert report.exit_code == 0
    found = answers(report)
    for topic in (
        "format", "licence", "weights", "dependency", "trust", "device", "axes", "channels", "size",
        "dtype", "intensity", "memory",
    ):  # fmt: skip
        assert found[topic] == "yes", topic
    assert "tiny will run on the image" in str(report)
    json.dumps(report.to_dict())


def test_without_an_image_only_the_machine_is_checked(tmp_path: Path) -> None:
    report = check(make_package(tmp_path / "p"), device="cpu")
    assert report.ok
    about = {"format", "licence", "weights", "dependency", "trust", "device", "memory"}
    assert set(answers(report)) == about


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
    assert answers(report)["intensity"] == status


def test_values_do_not_matter_to_a_model_that_normalises(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", dtype="uint8", preprocessing=[ZERO_MEAN])
    image = np.random.default_rng(0).random((40, 40)) * 1e5
    found = answers(check(folder, image))
    assert (found["intensity"], found["dtype"]) == ("yes", "yes")


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
        assert answers(report)["format"] == "no"
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
    change_rdf(folder, weights={"tensorflow_js": {**weights, "tensorflow_version": "2.1"}})
    report = check(folder, np.zeros((3, 20, 20)))
    assert answers(report)["weights"] == "no"
    assert answers(report)["image"] == "no"  # and the image's fault is told as well
    assert "tensorflow_js" in str(report)
    assert item(report, "weights").todo.startswith("Ask its author for ONNX weights")


def test_every_candidate_that_is_not_taken_has_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = with_code(make_package(tmp_path / "p"), keep=("onnx",))
    backends(monkeypatch, OnnxBackend, CodeBackend, Elsewhere)
    machine(monkeypatch, libraries={"onnxruntime": "1.32", "torch": "2.14"})
    report = check(folder)
    weights = item(report, "weights")
    assert weights.what == "onnx with onnxruntime on cpu"
    assert weights.details == (
        "not onnx on elsewhere: onnx on onnxruntime comes first",
        "not pytorch_state_dict: onnx on onnxruntime comes first",
    )
    assert [r["obstacle"] for r in weights.facts["rejected"]] == ["later", "later"]
    other = item(check(folder, backend="elsewhere"), "weights")
    assert other.what == "onnx with elsewhere on cpu"
    assert "onnxruntime" in other.details[0]


def test_a_missing_library_is_a_dependency_with_its_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = with_code(make_package(tmp_path / "p"))
    backends(monkeypatch, CodeBackend)
    machine(monkeypatch)
    report = check(folder)
    assert item(report, "dependency").status == "no"
    assert "torch is not installed" in item(report, "dependency").what
    assert item(report, "dependency").todo == "Install it: pip install torch"
    assert "pip install torch" in item(report, "weights").todo
    assert "zoo trust" in item(report, "trust").todo  # which would be the next obstacle


@pytest.mark.parametrize("there", [True, False])
def test_libraries_of_the_postprocessing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    from biozoo_runners import check_machine

    folder = make_package(tmp_path / "p", out_channels=3, validate=False)
    outputs = read_rdf(folder)["outputs"]
    flows = {
        "id": "cellpose_flow_dynamics",
        "kwargs": {"cellprob_threshold": 0, "flow_threshold": 0.4, "do_3D": False, "min_size": 9},
    }
    outputs[0]["postprocessing"] = [flows]
    change_rdf(folder, outputs=outputs)
    found = {"cellpose": "4.2"} if there else {}
    monkeypatch.setattr(check_machine, "installed", lambda names: found)
    report = check(folder, device="cpu")
    told = [i for i in report.items if i.topic == "dependency"][-1]
    assert told.status == ("yes" if there else "no"), str(report)
    assert "output 'prediction' is made by cellpose_flow_dynamics" in told.what
    assert there or "[cellpose]" in told.todo


# ---------------------------------------------------------------------------------------- device


def test_a_missing_card(tmp_path: Path) -> None:
    report = check(make_package(tmp_path / "p"), device="cuda:99")
    assert answers(report)["device"] == "no"
    assert answers(report)["weights"] == "note"  # what would run elsewhere
    assert "No device is called" in str(check(make_package(tmp_path / "p"), device="gpu"))


def test_the_card_that_would_be_used_and_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = (CudaDevice(0, "NVIDIA A", 8 * 10**9), CudaDevice(1, "NVIDIA B", 10**6))
    machine(monkeypatch, cuda=cards, driver="580.1", libraries={"onnxruntime-gpu": "1.32"})
    folder = make_package(tmp_path / "p")
    report = check(folder, np.zeros((40, 40), "uint8"), device="cuda")
    assert report.ok
    assert item(report, "device").what == "cuda, NVIDIA A (8 GB), driver 580.1, as asked"
    host, card = [i for i in report.items if i.topic == "memory"]
    assert card.what.startswith("on cuda about")
    assert "it has 8 GB" in card.what
    assert "features" not in host.facts["parts"]
    small = check(folder, np.zeros((500, 500), "uint8"), device="cuda:1")
    assert [i.status for i in small.items if i.topic == "memory"] == ["yes", "note"]
    assert small.ok  # tiles are halved


def test_a_card_that_the_installed_library_cannot_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends(monkeypatch, OnnxBackend)
    cards = (CudaDevice(0, "NVIDIA A", 8 * 10**9),)
    machine(monkeypatch, cuda=cards, libraries={"onnxruntime": "1.32"})
    folder = make_package(tmp_path / "p")
    asked = check(folder, device="cuda")
    assert answers(asked)["device"] == "no"
    assert "this onnxruntime has no CUDA" in item(asked, "device").what
    auto = check(folder)
    assert auto.ok
    assert item(auto, "device").status == "note"
    assert "this onnxruntime has no CUDA" in item(auto, "device").what


# ----------------------------------------------------------------------------------------- trust


def test_code_of_the_author_before_and_after_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = with_code(make_package(tmp_path / "p"), "raise SystemExit('this must not run')\n")
    backends(monkeypatch, CodeBackend)
    machine(monkeypatch, libraries={"torch": "2.14"})
    report = check(folder)
    assert answers(report)["trust"] == "no"
    assert "architecture net.py:Net" in item(report, "trust").what
    assert f"zoo trust {folder}" in item(report, "trust").todo
    assert item(report, "weights").what.endswith("once its code is allowed")
    grant(biozoo.open(folder))
    report = check(folder)
    assert report.ok
    assert item(report, "trust").status == "yes"
    assert "as allowed on 20" in item(report, "trust").what
    (folder / "net.py").write_text("changed = 1\n")
    changed = check(ModelPackage.from_folder(folder))
    assert answers(changed)["trust"] == "no"
    assert "not the one described" in item(changed, "trust").what


def test_code_that_is_not_needed_stands_against_nothing(tmp_path: Path) -> None:
    folder = with_code(make_package(tmp_path / "p"), keep=("onnx",))
    report = check(folder, device="cpu")
    assert report.ok
    assert "architecture net.py:Net is not needed" in item(report, "trust").what


def test_a_custom_step_stands_against_every_run(tmp_path: Path) -> None:
    report = check(with_step(make_package(tmp_path / "p")), device="cpu")
    assert answers(report)["trust"] == "no"
    assert "custom step step from step.py" in str(report)


# --------------------------------------------------------------------------------------- licence


@pytest.mark.parametrize(
    ("licence", "status", "word"),
    [
        ("MIT", "yes", "MIT"),
        ("CC-BY-NC-4.0", "note", "commercial"),
        ("CC-BY-NC-SA-4.0", "note", "commercial"),
        ("PolyForm-Noncommercial-1.0.0", "note", "commercial"),
        ("ask me", "note", "no SPDX licence"),
        (None, "note", "names none"),
    ],
)
def test_licence(tmp_path: Path, licence: str | None, status: str, word: str) -> None:
    folder = make_package(tmp_path / "p", validate=False)
    change_rdf(folder, license=licence)
    found = item(check(folder, device="cpu"), "licence")
    assert found.status == status
    assert word in found.what
    assert bool(found.todo) == (status == "note")


# ------------------------------------------------------------------------------------- intensity


def test_values_far_from_the_models_own_test_image(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p")  # its test image has 0 to 1
    rng = np.random.default_rng(0)
    for scale, shift, status in ((1, 0, "yes"), (2, 0, "yes"), (60000, 0, "note"), (1, 9, "note")):
        image = rng.random((64, 64)) * scale + shift
        found = item(check(folder, image, device="cpu"), "intensity")
        assert found.status == status, (scale, shift)
    assert "the model's own test image has 0.0" in found.what
    assert "Scale the image" in found.todo
    assert found.facts["test"]["p99"] < 1 < found.facts["image"]["p1"]


def test_an_image_of_another_type(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", dtype="uint8")
    values = np.random.default_rng(0).integers(0, 255, (40, 40))
    found = item(check(folder, values.astype("uint8"), device="cpu"), "dtype")
    assert (found.status, found.what) == ("yes", "uint8, as the model describes")
    found = item(check(folder, values.astype("float32"), device="cpu"), "dtype")
    assert found.status == "note"
    assert "float32, the model describes uint8" in found.what


# ---------------------------------------------------------------------------------------- memory


def test_how_memory_was_estimated_and_for_what(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", size=(8, 4), test_size=24)
    found = item(check(folder, device="cpu"), "memory")
    assert found.what.startswith("for an image of 24 x 24: about")
    assert "float32 values per pixel" in found.details[0]
    assert found.facts["need"] == pytest.approx(sum(found.facts["parts"].values()))
    (folder / "test_raw.npy").unlink()
    package = ModelPackage.from_folder(folder)
    assert "512 x 512" in item(check(package, device="cpu"), "memory").what
    volume = make_package(tmp_path / "v", axes="bczyx", size={"z": 16, "y": (8, 4), "x": (8, 4)})
    (volume / "test_raw.npy").unlink()
    package = ModelPackage.from_folder(volume)
    assert "16 x 128 x 128" in item(check(package, device="cpu"), "memory").what


# ---------------------------------------------------------------------- what is not on the machine


@pytest.fixture
def published(loopback: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A collection of one model, kind-blur, that is not on this machine; its folder."""
    monkeypatch.setenv("BIOZOO_INDEX_URL", loopback.url("/index.json"))
    folder = make_package(tmp_path / "blur", id="kind-blur", version="1.2")
    set_index(loopback, publish(loopback, folder, "kind-blur"))
    return folder


def test_a_model_of_the_collection_is_checked_without_its_weights(
    published: Path, loopback: Loopback
) -> None:
    report = check("kind-blur", np.random.default_rng(0).random((40, 40)), device="cpu")
    assert report.ok, str(report)
    assert report.model == "kind-blur"
    found = answers(report)
    assert found["weights"] == "note"
    assert "are not here yet" in str(report)
    assert "zoo add kind-blur" in str(report)
    assert (found["axes"], found["size"], found["trust"]) == ("yes", "yes", "yes")
    assert not [r for r in loopback.requests if not r.startswith(("/index", "/kind-blur/v0/rdf"))]
    shown = CliRunner().invoke(app, ["check", "kind-blur", "--json", "--device", "cpu"])
    assert shown.exit_code == 0
    facts = json.loads(shown.output)
    assert {i["topic"] for i in facts["items"]} >= {"format", "licence", "weights", "memory"}


def test_the_size_of_weights_is_told_where_the_server_tells_it(
    published: Path, loopback: Loopback
) -> None:
    loopback.heads = True
    report = check("kind-blur", device="cpu")
    size = (published / "weights.onnx").stat().st_size
    assert f"its onnx weights ({size_text(size)}) are not here yet" in str(report)
    assert item(report, "memory").facts["parts"]["weights"] == size
    assert not any("weights" in r for r in loopback.requests)


def test_what_was_opened_before_is_checked_whole(published: Path) -> None:
    biozoo.open("kind-blur")
    report = check("kind-blur", device="cpu")
    assert answers(report)["weights"] == "yes"
    assert "not here yet" not in str(report)


def test_code_of_a_model_that_is_not_here(
    loopback: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIOZOO_INDEX_URL", loopback.url("/index.json"))
    folder = with_code(make_package(tmp_path / "blur", id="kind-net"))
    set_index(loopback, publish(loopback, folder, "kind-net"))
    backends(monkeypatch, CodeBackend)
    machine(monkeypatch, libraries={"torch": "2.14"})
    report = check("kind-net")
    trust = item(report, "trust")
    assert trust.status == "no"
    assert "architecture net.py:Net" in trust.what
    assert trust.todo.endswith("zoo trust kind-net")
    assert not any("net.py" in r for r in loopback.requests)


def test_an_address_of_a_description(loopback: Loopback, tmp_path: Path) -> None:
    address = loopback.serve(make_package(tmp_path / "p"), "/tiny")
    report = check(address, device="cpu")
    assert report.ok
    assert f"zoo add {address}" in str(report)
    assert not any("weights" in r for r in loopback.requests)


def test_an_invalid_description_is_an_item(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p")
    change_rdf(folder, inputs="nothing")
    report = check(folder, np.zeros((20, 20)))
    assert answers(report)["format"] == "no"
    assert answers(report)["trust"] == "yes"  # one "no" does not hide the rest


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


def test_a_report_as_json_has_everything(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p")
    np.save(tmp_path / "image.npy", np.random.default_rng(0).random((40, 40)))
    arguments = ["check", str(folder), str(tmp_path / "image.npy"), "--json", "--device", "cpu"]
    shown = CliRunner().invoke(app, [*arguments, "--backend", "onnxruntime"])
    facts = json.loads(shown.output)
    assert facts["ok"]
    items = {i["topic"]: i for i in facts["items"]}
    assert set(items) <= set(TOPICS)
    assert items["weights"]["facts"]["chosen"]["backend"] == "onnxruntime"
    assert items["device"]["facts"]["asked"] == "cpu"
    assert items["memory"]["facts"]["how"]
    assert items["intensity"]["facts"]["test"]
    assert CliRunner().invoke(app, [*arguments, "--backend", "tvm"]).exit_code == 1


@pytest.mark.shared
@pytest.mark.parametrize("name", ["nuclei-broad", "brain-meshnet3d", "multi-tensor"])
def test_shared_models_can_be_checked(shared: Path, name: str) -> None:
    package = biozoo.open(shared / "models" / name)
    axes: Any = "zyx" if name.startswith("brain") else "yx"
    image = np.random.default_rng(0).random((64,) * len(axes))
    given: Any = {"input0": image, "input1": image} if name == "multi-tensor" else image
    report = check(package, given, axes=axes)
    assert answers(report)["trust"] == "yes"
    assert answers(report)["size"] in ("yes", "note")
