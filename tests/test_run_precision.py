"""Another precision runs only where it is proven on the image at hand, else its error is told."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import biozoo
from biozoo.errors import BackendError, NoBackendError, PrecisionError, UsageError
from biozoo_runners import Result, Runner, load, open_image, pipeline, run_batch
from biozoo_runners.instances import InstancesConfig
from biozoo_runners.kept_tiles import TileFolder
from biozoo_runners.onnx import OnnxBackend
from biozoo_runners.openvino import OpenVinoBackend
from biozoo_runners.precision import settling
from biozoo_runners.precision.changes import Changed, changed_objects, changed_pixels
from command import run_zoo
from packages import change_rdf, make_package, read_rdf, sha256

TILE = {"y": 16, "x": 16}


class Rounding(OnnxBackend):
    """Stands for a backend with a low precision: its bfloat16 is off by `error` where it is asked
    for, and by `on_bright` where the input is above 10.
    """

    name: ClassVar[str] = "rounding"
    error: ClassVar[float] = 0.0
    on_bright: ClassVar[float] = 0.0
    on_shape: ClassVar[tuple[int, ...] | None] = None
    calls: ClassVar[list[tuple[int, ...]]] = []

    @classmethod
    def precisions(cls, *_: Any, **__: Any) -> Mapping[str, str]:
        return {"bfloat16": "", "int8": "this processor has no VNNI"}

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        made = super().run(inputs)
        if not self.info.precision:
            return made
        given = next(iter(inputs.values()))
        type(self).calls.append(given.shape)
        error = self.error if self.on_shape in (None, given.shape) else 0.0
        return {i: a + error + self.on_bright * (given > 10).any() for i, a in made.items()}

    @classmethod
    def open_reduced(
        cls, package: Any, weights_format: str, precision: str, **more: Any
    ) -> OnnxBackend:
        made = cls.open(package, weights_format, **more)
        made._precision = precision
        return made


@pytest.fixture(autouse=True)
def two_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"onnxruntime": OnnxBackend, "rounding": Rounding}
    monkeypatch.setattr(pipeline, "known_backends", lambda: (known, {}))
    monkeypatch.setattr(Rounding, "calls", [])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_package(tmp_path / "p", validate=False)


def image(seed: int = 0, *, bright: bool = False) -> np.ndarray:
    pixels = np.random.default_rng(seed).random((40, 40), dtype=np.float32)
    return pixels + 20 * bright


def run(runner: Runner, pixels: np.ndarray) -> Result:
    return runner(pixels, axes="yx", tile=TILE)


def takes(monkeypatch: pytest.MonkeyPatch, **ratios: float) -> list[str]:
    """What a clock would say of each candidate, by precision: tests do not measure."""
    asked: list[str] = []

    def ratio(candidate: OnnxBackend, *_: object) -> float:
        asked.append(candidate.info.precision or "float32")
        return ratios[asked[-1]]

    monkeypatch.setattr(settling, "_ratio", ratio)
    return asked


# ------------------------------------------------------------------------------- one precision


def test_without_a_wish_nothing_changes(folder: Path) -> None:
    with load(folder) as runner:
        report = run(runner, image()).report
    assert (report.ran.backend, report.ran.precision) == ("onnxruntime", "")
    assert report.precision is None
    assert "precision" not in str(report.asked)


def test_what_agrees_is_used_and_says_by_how_much(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rounding, "error", 2e-4)
    with load(folder) as runner:
        expected = run(runner, image())["prediction"].values
    with load(folder, precision="bfloat16") as runner:
        result = run(runner, image())
    np.testing.assert_allclose(result["prediction"], expected + 2e-4, atol=1e-6)
    report = result.report
    assert (report.ran.backend, report.ran.precision) == ("rounding", "bfloat16")
    assert report.precision is not None
    (proof,) = report.precision.proofs
    assert proof.absolute_error == pytest.approx(2e-4, rel=0.01)
    assert proof.cases[0].name == "test tensors"
    assert len(proof.cases) == 4
    assert any("changes values by up to 0.0002 (0 per million" in note for note in report.notes)
    assert "precision bfloat16" in str(report.asked)
    assert report.to_dict()["precision"]["ran"] == "bfloat16 (onnx on rounding)"


def test_what_does_not_agree_is_refused_with_what_was_measured(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rounding, "error", 0.0051)
    with (
        load(folder, precision="bfloat16") as runner,
        pytest.raises(PrecisionError) as refused,
    ):
        run(runner, image())
    text = str(refused.value)
    assert "bfloat16 (onnx on rounding) changes values by up to 0.0051" in text
    assert "allowed: 0.001 + 0.001 of the value" in text
    assert text.endswith("accept the error: --tolerance 0.01")
    assert refused.value.exit_code == 1


@pytest.mark.parametrize(("tolerance", "ok"), [(0.01, True), (0.005, False)])
def test_the_user_may_accept_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tolerance: float, ok: bool
) -> None:
    monkeypatch.setattr(Rounding, "error", 0.0051)
    with load(folder, precision="bfloat16", tolerance=tolerance) as runner:
        if ok:
            assert run(runner, image()).report.ran.precision == "bfloat16"
        else:
            with pytest.raises(PrecisionError, match=r"allowed: 0\.005"):
                run(runner, image())


def test_the_package_says_how_much_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rounding, "error", 0.0051)
    allowed = {"relative_tolerance": 0.01, "absolute_tolerance": 0.01}
    config = {"bioimageio": {"reproducibility_tolerance": [allowed]}}
    folder = make_package(tmp_path / "lenient", validate=False, config=config)
    with load(folder, precision="bfloat16") as runner:
        assert run(runner, image()).report.ran.precision == "bfloat16"


def test_it_must_reproduce_the_test_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that shows on the author's input only is one of the network."""
    folder = make_package(tmp_path / "p", test_size=20, validate=False)
    monkeypatch.setattr(Rounding, "error", 0.1)
    monkeypatch.setattr(Rounding, "on_shape", (1, 1, 20, 20))
    with (
        load(folder, precision="bfloat16") as runner,
        pytest.raises(PrecisionError, match="test output prediction is not reproduced"),
    ):
        run(runner, image())


def test_a_network_that_fails_its_own_test_can_be_compared_on_what_it_gives(folder: Path) -> None:
    path = folder / "test_prediction.npy"
    np.save(path, np.load(path) + 1)
    outputs = read_rdf(folder)["outputs"]
    outputs[0]["test_tensor"]["sha256"] = sha256(path)
    change_rdf(folder, outputs=outputs)
    with load(folder, precision="bfloat16") as runner:
        assert run(runner, image()).report.ran.precision == "bfloat16"


def test_nan_is_refused_and_nothing_is_offered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rounding, "error", float("nan"))
    with load(folder, precision="bfloat16") as runner, pytest.raises(PrecisionError) as refused:
        run(runner, image())
    assert "--tolerance" not in str(refused.value)


def test_each_image_is_proven_and_the_runner_goes_on_after_one_that_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rounding, "on_bright", 1.0)
    with load(folder, precision="bfloat16") as runner:
        assert run(runner, image()).report.ran.precision == "bfloat16"
        with pytest.raises(PrecisionError):
            run(runner, image(bright=True))
        again = run(runner, image(1)).report
    assert again.ran.precision == "bfloat16"
    assert again.precision is not None
    assert again.precision.remembered


def test_a_later_run_checks_tiles_only(folder: Path) -> None:
    with load(folder, precision="bfloat16") as runner:
        run(runner, image())
        tiles = len(runner.plan(image(), axes="yx", tile=TILE))
    assert len(Rounding.calls) == tiles + 4  # three tiles and the test tensors
    Rounding.calls.clear()
    with load(folder, precision="bfloat16") as runner:
        report = run(runner, image(1)).report
    assert len(Rounding.calls) == tiles + 1
    assert report.precision is not None
    assert report.precision.remembered


def test_it_says_why_a_precision_cannot_run(folder: Path) -> None:
    with pytest.raises(NoBackendError) as refused:
        load(folder, precision="int8")
    text = str(refused.value)
    assert "onnx on rounding: this processor has no VNNI" in text
    assert "onnx on onnxruntime: the package has no int8 variant; zoo convert tiny" in text
    with pytest.raises(NoBackendError, match="rounding was asked for"):
        load(folder, precision="float16", backend="rounding")


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"precision": "half"}, "No precision is called 'half'. Use auto, float32"),
        ({"tolerance": 0.01}, "Ask for one: --precision auto"),
        ({"precision": "auto", "tolerance": 0.0}, "--tolerance 0.01"),
        ({"precision": "auto", "tolerance": float("nan")}, "--tolerance 0.01"),
    ],
)
def test_wishes_that_cannot_be_understood(folder: Path, wish: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        load(folder, **wish)


def test_another_process_may_have_proven_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rounding, "error", 1.0)
    with load(folder, backend="rounding", precision="bfloat16", proven=True) as runner:
        assert runner.info.precision == "bfloat16"
        assert run(runner, image()).report.precision is None


def test_kept_tiles_of_one_precision_are_not_those_of_another(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rounding, "error", 2e-4)
    kept, found = TileFolder(tmp_path / "tiles"), []
    for precision in ("float32", "bfloat16"):
        with load(folder, backend="rounding", precision=precision) as runner:
            found.append(runner(image(), axes="yx", tile=TILE, kept=kept)["prediction"].values)
    np.testing.assert_allclose(found[1] - found[0], 2e-4, atol=1e-6)


# ----------------------------------------------------------------------------------------- auto


def test_auto_takes_the_fastest_that_agrees(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = takes(monkeypatch, float32=0.8, bfloat16=0.5)
    with load(folder, precision="auto") as runner:
        report = run(runner, image()).report
    assert (report.ran.backend, report.ran.precision) == ("rounding", "bfloat16")
    assert report.precision is not None
    assert report.precision.seconds == {
        "float32 (onnx on rounding)": 0.8,
        "bfloat16 (onnx on rounding)": 0.5,
    }
    assert any("takes 0.50 of the first choice's time" in note for note in report.notes)
    assert sorted(timed) == ["bfloat16", "float32"]


def test_auto_never_takes_what_does_not_agree(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rounding, "error", 0.0051)
    timed = takes(monkeypatch, float32=0.8, bfloat16=0.1)
    with load(folder, precision="auto") as runner:
        report = run(runner, image()).report
    assert (report.ran.backend, report.ran.precision) == ("rounding", "")
    assert timed == ["float32"]


def test_auto_stays_where_nothing_is_faster_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes(monkeypatch, float32=1.2, bfloat16=0.97)
    with load(folder) as runner:
        expected = run(runner, image())["prediction"].values
    for told in ("nothing that agrees is faster", "nothing that was proven on this machine"):
        with load(folder, precision="auto") as runner:
            result = run(runner, image())
        assert result.report.ran.backend == "onnxruntime"
        assert any(told in note for note in result.report.notes)
        np.testing.assert_array_equal(result["prediction"], expected)


def test_auto_remembers_per_package_and_forgets_with_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = takes(monkeypatch, float32=0.8, bfloat16=0.5)

    def backend_of(folder: Path) -> str:
        with load(folder, precision="auto") as runner:
            return run(runner, image()).report.ran.precision

    folder = make_package(tmp_path / "p", validate=False)
    assert [backend_of(folder), backend_of(folder)] == ["bfloat16", "bfloat16"]
    assert len(timed) == 2
    make_package(folder, validate=False, kernel=5)
    assert backend_of(folder) == "bfloat16"
    assert len(timed) == 4


def test_auto_falls_back_for_an_image_where_it_does_not_agree(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rounding, "on_bright", 1.0)
    takes(monkeypatch, float32=1.0, bfloat16=0.5)
    with load(folder) as runner:
        expected = run(runner, image(bright=True))["prediction"].values
    with load(folder, precision="auto") as runner:
        assert run(runner, image()).report.ran.precision == "bfloat16"
        result = run(runner, image(bright=True))
        assert run(runner, image()).report.ran.precision == "bfloat16"
    assert result.report.ran.backend == "onnxruntime"
    assert any("float32 is used" in n and "up to 1 (" in n for n in result.report.notes)
    np.testing.assert_array_equal(result["prediction"], expected)


def test_auto_proves_nothing_for_a_few_tiles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    takes(monkeypatch)  # asking for a time would fail
    with load(folder, precision="auto") as runner:
        report = runner(image(), axes="yx").report
    assert report.ran.backend == "onnxruntime"
    assert any("too few to be worth a proof" in note for note in report.notes)


def test_auto_goes_on_when_a_candidate_cannot_be_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise BackendError("no such instruction")

    takes(monkeypatch, float32=0.8)
    monkeypatch.setattr(Rounding, "open_reduced", broken)
    with load(folder, precision="auto") as runner:
        report = run(runner, image()).report
    assert report.ran.backend == "rounding"
    assert report.precision is not None
    assert "no such instruction" in str(report.precision.proofs[-1])


def test_a_damaged_memory_is_made_anew(
    folder: Path, biozoo_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = takes(monkeypatch, float32=0.8, bfloat16=0.5)
    for _ in range(2):
        with load(folder, precision="auto") as runner:
            run(runner, image())
        (kept,) = (biozoo_home / "precisions").glob("*.json")
        kept.write_text('{"version": 1}')
    assert len(timed) == 4


# --------------------------------------------------------------------- what the differences mean


def test_pixels_on_the_other_side_of_a_threshold() -> None:
    expected = np.array([[[0.2, 0.4, 0.45, 0.8]], [[0.0, 0.0, 0.0, 0.0]]])
    got = expected + 0.15
    dims = ("channel", "y", "x")
    config = InstancesConfig(output="p", foreground=0, boundary=1)
    assert changed_pixels("p", got, expected, dims, config) == Changed(4, 2)
    high = config.model_copy(update={"foreground_threshold": 0.9})
    assert changed_pixels("p", got, expected, dims, high) == Changed(4, 1)
    assert changed_pixels("other", got, expected, dims, config) == Changed()
    assert changed_pixels("p", got[0], expected[0], ("y", "x"), None) == Changed(4, 2)
    assert changed_pixels("p", got * 9, expected * 9, dims, None) == Changed()  # no probability


def test_pixels_of_another_class() -> None:
    expected = np.array([[0.6, 0.3, 0.1], [0.2, 0.4, 0.4], [0.2, 0.3, 0.5]])
    got = expected + np.array([[0, 0.2, 0], [0, 0, 0], [0, 0, 0]])
    assert changed_pixels("p", got, expected, ("channel", "x"), None) == Changed(3, 1)


@pytest.mark.parametrize(
    ("got", "changed"),
    [
        ([7, 7, 7, 0, 5, 5, 5], 0),  # other numbers
        ([1, 1, 0, 0, 2, 2, 2], 0),  # an edge
        ([1, 1, 1, 0, 0, 0, 0], 1),  # lost
        ([1, 1, 1, 1, 1, 1, 1], 2),  # merged
        ([1, 1, 1, 3, 2, 2, 2], 1),  # made up
        ([0, 0, 0, 0, 0, 0, 0], 2),
    ],
)
def test_objects_that_change(got: list[int], changed: int) -> None:
    expected = np.array([1, 1, 1, 0, 2, 2, 2])
    assert changed_objects(np.array(got), expected) == Changed(2, changed)


def test_objects_of_the_tiles_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two squares of which one is barely bright enough: 0.01 less and it is gone."""
    config = {"instances": {"output": "prediction", "foreground": 0, "boundary": 1}}
    folder = make_package(
        tmp_path / "p",
        channels=2,
        out_channels=2,
        network="pointwise",
        config={"biozoo": config},
        validate=False,
    )
    pixels = np.full((2, 40, 40), -0.5, np.float32)  # the network gives 2 * x + 1
    for corner in (0, 20):
        pixels[0, corner + 2 : corner + 8, corner + 2 : corner + 8] = 0.0
    pixels[0, 22:28, 22:28] = -0.2495  # 0.501
    monkeypatch.setattr(Rounding, "error", -0.005)
    with (
        load(folder, precision="bfloat16") as runner,
        pytest.raises(PrecisionError) as refused,
    ):
        runner(pixels, axes="cyx", tile={"y": 40, "x": 40})
    assert "objects change" in str(refused.value)
    with load(folder, precision="bfloat16", tolerance=0.01) as runner:
        report = runner(pixels, axes="cyx", tile={"y": 40, "x": 40}).report
    assert report.precision is not None
    tile = report.precision.proofs[0].cases[1]
    assert tile.objects == Changed(2, 1)
    assert tile.pixels == Changed(1600, 36)


# ------------------------------------------------------------------------------- real backends


def with_variant(folder: Path, kind: str) -> Path:
    """A variant that is the weights themselves, as `zoo convert --to` keeps one."""
    name = f"weights.{kind}.onnx"
    (folder / name).write_bytes((folder / "weights.onnx").read_bytes())
    entry = {"source": name, "sha256": sha256(folder / name)}
    config = {**read_rdf(folder).get("config", {}), "biozoo": {"variants": {kind: entry}}}
    change_rdf(folder, config=config, attachments=[entry])
    return folder


def test_a_converted_variant_is_run(folder: Path) -> None:
    with load(with_variant(folder, "int8"), backend="onnxruntime", precision="int8") as runner:
        report = run(runner, image()).report
    assert (report.ran.backend, report.ran.precision) == ("onnxruntime", "int8")


def has_bfloat16() -> bool:
    openvino = pytest.importorskip("openvino")
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def test_openvino_says_what_its_layers_are_computed_in(folder: Path) -> None:
    package = biozoo.open(folder)
    known = OpenVinoBackend.precisions(package, "onnx", device="cpu")
    if not has_bfloat16():
        assert "does not compute in bfloat16 (it has no AVX512_BF16" in known["bfloat16"]
        with pytest.raises(BackendError, match="would compute it in float32"):
            OpenVinoBackend.open_reduced(package, "onnx", "bfloat16", device="cpu")
        return
    assert known["bfloat16"] == ""
    tile = {"raw": np.random.default_rng(0).random((1, 1, 32, 32), dtype=np.float32)}
    with OpenVinoBackend.open(package, "onnx", device="cpu") as backend:
        expected = backend.run(tile)["prediction"]
    with OpenVinoBackend.open_reduced(package, "onnx", "bfloat16", device="cpu") as backend:
        assert backend.info.precision == "bfloat16"
        assert backend.info.providers == ("CPU", "bfloat16")
        off = np.abs(backend.run(tile)["prediction"] - expected).max()
    assert 1e-5 < off < 2e-2  # it rounds to 8 bits


def test_openvino_refuses_what_it_would_not_compute_in(tmp_path: Path) -> None:
    """Without a convolution or matrix product nothing is computed in bfloat16."""
    pytest.importorskip("openvino")
    package = biozoo.open(make_package(tmp_path / "p", network="pointwise", validate=False))
    with pytest.raises(BackendError, match="not in bfloat16"):
        OpenVinoBackend.open_reduced(package, "onnx", "bfloat16", device="cpu")


@pytest.mark.parametrize("kind", ["traced", "scripted"])
def test_torch_computes_in_bfloat16_and_gives_float32(tmp_path: Path, kind: str) -> None:
    torch = pytest.importorskip("torch")
    from biozoo_runners.torchscript import TorchScriptBackend

    if not torch.cpu._is_avx512_bf16_supported():
        pytest.skip("this processor does not compute in bfloat16")
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Conv2d(4, 1, 3)).eval()
    with warnings.catch_warnings(action="ignore"):  # TorchScript is deprecated
        if kind == "traced":
            made = torch.jit.trace(network, torch.zeros(1, 1, 32, 32))
        else:
            made = torch.jit.script(network)
        made.save(str(tmp_path / "w.pt"))
    facts: Any = {"model": "tiny", "input_ids": ("x",), "output_ids": ("y",)}
    tile = {"x": np.random.default_rng(0).random((1, 1, 32, 32), dtype=np.float32)}
    with TorchScriptBackend(tmp_path / "w.pt", **facts) as backend:
        expected = backend.run(tile)["y"]
    with TorchScriptBackend(tmp_path / "w.pt", **facts, precision="bfloat16") as backend:
        assert backend.info.precision == "bfloat16"
        got = backend.run(tile)["y"]
    assert got.dtype == np.float32
    assert 1e-5 < np.abs(got - expected).max() < 2e-2


@pytest.mark.shared
def test_a_published_model_in_bfloat16(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"onnxruntime": OnnxBackend, "openvino": OpenVinoBackend}
    monkeypatch.setattr(pipeline, "known_backends", lambda: (known, {}))
    folder = shared / "models" / "nuclei-broad"
    pixels = np.load(folder / "test_input.npy")[0, 0]
    if not has_bfloat16():
        with pytest.raises(NoBackendError, match="does not compute in bfloat16"):
            load(folder, precision="bfloat16")
        return
    with (
        load(folder, precision="bfloat16") as runner,
        pytest.raises(PrecisionError) as refused,
    ):
        runner(pixels, axes="yx")
    assert refused.value.error is not None
    assert 1e-3 < refused.value.error < 1e-2
    assert str(refused.value).endswith("--tolerance 0.01")
    with load(folder, precision="bfloat16", tolerance=0.01) as runner:
        report = runner(pixels, axes="yx").report
    assert (report.ran.backend, report.ran.precision) == ("openvino", "bfloat16")
    assert report.precision is not None
    assert 0 < report.precision.proofs[0].pixels.per_million < 200


# --------------------------------------------------------------------------------- command line


def test_the_command_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rounding, "error", 0.0051)
    np.save(tmp_path / "cells.npy", image())
    words: Any = ["run", folder, tmp_path / "cells.npy", "-o", tmp_path / "out.npy", "--axes", "yx"]
    words += ["--tile", "y=16,x=16", "--precision"]
    refused = run_zoo(*words, "bfloat16", code=1)
    assert "accept the error: --tolerance 0.01" in refused.stderr
    assert not (tmp_path / "out.npy").exists()
    done = run_zoo(*words, "bfloat16", "--tolerance", "0.01")
    assert "bfloat16 (onnx on rounding) changes values by up to 0.0051" in done.output
    assert "No precision is called 'half'" in run_zoo(*words, "half", code=2).stderr


def test_a_run_out_of_core_is_proven_and_written_in_the_asked_precision(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rounding, "error", 2e-4)
    np.save(tmp_path / "in.npy", image())
    with load(folder) as runner:
        expected = run(runner, image())["prediction"].values
    told: dict[str, Any] = {"axes": "yx", "tile": TILE}
    with load(folder, precision="bfloat16") as runner:
        done = run_batch(runner, [tmp_path / "in.npy"], tmp_path / "out.zarr", **told)
    made = open_image(tmp_path / "out.zarr").read().values
    np.testing.assert_allclose(made, expected + 2e-4, atol=1e-6)
    assert done.report is not None
    assert done.report.ran.precision == "bfloat16"
    monkeypatch.setattr(Rounding, "error", 0.0051)
    with load(folder, precision="bfloat16") as runner, pytest.raises(PrecisionError):
        run_batch(runner, [tmp_path / "in.npy"], tmp_path / "not.zarr", **told)
    assert not list(tmp_path.glob("not.zarr*"))
