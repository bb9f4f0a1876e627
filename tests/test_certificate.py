"""Proofs of conversions: what is compared, what is caught, what a package carries and repeats."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from typer.testing import CliRunner

from biozoo.errors import BackendError, InvalidPackageError, NetworkError, NoBackendError
from biozoo.package import ModelPackage
from biozoo_converters.networks.onnx_network import OnnxNetwork
from biozoo_converters.networks.opening import open_weights
from biozoo_converters.proof.agreement import agree, varies
from biozoo_converters.proof.attest import Attested, attest
from biozoo_converters.proof.cases import plan_trials
from biozoo_converters.proof.certificate import Certificate, FormatProof, Original, summary_lines
from biozoo_converters.proof.certify import certify
from biozoo_converters.proof.inputs import Draw, Trial, digest, draws_of, make, normal
from biozoo_converters.proof.prove import TOLERANCE, prove
from biozoo_converters.proof.setting import Setting, remembered
from biozoo_converters.proof.tiled import plan_cuts
from biozoo_converters.proof.timing import interleaved, kept
from biozoo_runners.program import program_of
from biozoo_runners.tolerance import Tolerance
from biozoo_ui.cli.app import app
from packages import change_rdf, make_package, read_rdf, sha256, write_rdf

Array = NDArray[Any]
ORIGINAL = Original("pytorch_state_dict", "net.py:Net", "ab" * 32)


# --------------------------------------------------------------------------------------- helpers


@dataclass
class Fake:
    """A network of one numpy function; keeps the shapes that it was given."""

    compute: Callable[[Array], Array]

    def __post_init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.seen.append(inputs["raw"].shape)
        return {"prediction": self.compute(inputs["raw"])}


def blur(x: Array) -> Array:
    """The 3 x 3 box filter of `make_package`, over the last two axes."""
    padded = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(1, 1), (1, 1)])
    h, w = x.shape[-2:]
    return np.asarray(
        sum(padded[..., i : i + h, j : j + w] for i in range(3) for j in range(3)) / np.float32(9),
        np.float32,
    )


def opened(folder: Path) -> ModelPackage:
    return ModelPackage.from_folder(folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    """3 x 3 blur, y and x of 8 + n * 4, free batch, a halo of one pixel."""
    return opened(make_package(tmp_path_factory.mktemp("tiny") / "tiny", halo=1))


def proof_of(
    package: ModelPackage, candidate: Callable[[Array], Array], **more: Any
) -> FormatProof:
    return prove(package, Fake(blur), "onnx", candidate=Fake(candidate), **more)


def write_certified(folder: Path, attested: Attested) -> ModelPackage:
    """The package with its certificate, as `zoo pack` writes it."""
    (folder / "certificate.json").write_bytes(attested.probes)
    rdf = read_rdf(folder)
    rdf["attachments"] = [
        {"source": "certificate.json", "sha256": sha256(folder / "certificate.json")}
    ]
    rdf["config"] = {"biozoo": {"certificate": attested.certificate.to_dict()}}
    write_rdf(folder, rdf)
    return opened(folder)


@pytest.fixture
def certified(tmp_path: Path, biozoo_home: Path) -> ModelPackage:
    """A package that was proven against the blur in numpy."""
    folder = make_package(tmp_path / "certified", halo=1)
    package = opened(folder)
    reference = remembered(Fake(blur))
    proof = prove(package, reference, "onnx", strategy="dynamo")
    return write_certified(folder, attest(package, reference, [proof], ORIGINAL, timing=False))


# ------------------------------------------------------------------------------ an honest proof


def test_weights_that_agree_are_proven_with_what_was_done(tiny: ModelPackage) -> None:
    proof = prove(tiny, Fake(blur), "onnx", strategy="trace", optimised="onnxslim")
    assert proof.ok
    assert not proof.fault
    assert proof.files == {"weights.onnx": sha256(tiny.root / "weights.onnx")}
    assert proof.source_sha256 == sha256(tiny.root / "weights.onnx")
    assert proof.runs_on.startswith("onnxruntime ")
    assert proof.opset == 18
    assert 0 < proof.absolute_error < 1e-6
    assert proof.batch is not None
    assert proof.batch.ok
    assert proof.seamless
    assert proof.tiled_reference is not None
    assert "trace, onnxslim" in str(proof)


def test_sizes_follow_the_description(tiny: ModelPackage) -> None:
    proof = proof_of(tiny, blur)
    shapes = [c.shapes["raw"] for c in proof.cases]
    singles = {s[2:] for s in shapes if s[0] == 1}
    own = Setting.of(tiny).real["raw"].shape[2:]
    assert len(singles) >= 4
    assert (8, 8) in singles
    assert (12, 12) in singles
    assert own in singles
    assert any(y > 4 * x for y, x in singles)  # y alone
    assert any(x > 4 * y for y, x in singles)  # x alone
    assert any(y == x and y > own[0] for y, x in singles)
    assert {s[0] for s in shapes} == {1, 2, 3}
    assert all(size >= 8 and size % 4 == 0 for s in shapes for size in s[2:])
    steps = {(size - 8) // 4 % 2 for s in singles for size in s}
    assert steps == {0, 1}
    assert {c.kind for c in proof.cases} == {"real", "random"}
    assert {c.draw for c in proof.cases if c.kind == "random"} == {"like", "normal"}


def test_fixed_sizes_get_different_inputs(tmp_path: Path) -> None:
    package = opened(make_package(tmp_path / "fixed", size=16, fixed_batch=True))
    setting = Setting.of(package)
    assert {t.shapes["raw"] for t in setting.trials} == {(1, 1, 16, 16)}
    assert len({str(digest(setting.inputs(t))) for t in setting.trials}) >= 4
    proof = proof_of(package, blur)
    assert proof.ok
    assert proof.batch is None
    assert proof.tiled is None
    assert any("fixed" in n for n in proof.notes)


def test_inputs_of_one_extent_vary_together(tmp_path: Path) -> None:
    package = opened(make_package(tmp_path / "two", inputs=2, outputs=2))
    with open_weights(package, "onnx") as reference:
        proof = prove(package, reference, "onnx")
    assert proof.ok
    assert all(c.shapes["raw"] == c.shapes["raw1"] for c in proof.cases)


def test_volumes_and_their_tiles_are_proven(tmp_path: Path) -> None:
    package = opened(make_package(tmp_path / "3d", axes="bczyx", halo=1))
    with open_weights(package, "onnx") as reference:
        proof = prove(package, reference, "onnx")
    assert proof.ok
    assert proof.seamless
    longest = {max(range(3), key=lambda a: c.shapes["raw"][2 + a]) for c in proof.cases
               if len(set(c.shapes["raw"][2:])) > 1}  # fmt: skip
    assert longest == {0, 1, 2}


def test_large_volumes_are_cut_along_one_axis(tmp_path: Path) -> None:
    """A halo of 32 asks for volumes of 80 x 80 x 80 at least."""
    folder = make_package(tmp_path / "3d", axes="bczyx", size=(80, 16), halo=32, test_size=16)
    model = program_of(opened(folder)).geometry
    cuts = plan_cuts(model, {"raw": (1, 1, 80, 80, 80)})
    assert [len(c.axes) for c in cuts] == [1]
    assert len(cuts[0].tiles) > 1


def test_work_is_bounded_by_pixels(tiny: ModelPackage) -> None:
    trials = plan_trials(program_of(tiny).geometry, {"raw": (1, 1, 2048, 2048)}, batch=True)
    pixels = [int(np.prod(t.shapes["raw"])) for t in trials]
    assert max(pixels) <= 2**19
    assert sum(pixels) <= 1.5 * 2**20
    assert len({t.shapes["raw"] for t in trials}) >= 4
    assert any(t.shapes["raw"][2] > 2048 for t in trials)  # longer than the sample, if narrow


# ---------------------------------------------------------------------------- planted conversions


def wrong_at(where: Callable[[Array], bool]) -> Callable[[Array], Array]:
    return lambda x: blur(x) * np.float32(1.01) if where(x) else blur(x)


PLANTED: dict[str, Callable[[Array], Array]] = {
    "wrong where one axis is long": wrong_at(lambda x: x.shape[3] > 500),
    "wrong where the other axis is long": wrong_at(lambda x: x.shape[2] > 500),
    "wrong above a size": wrong_at(lambda x: x.shape[2] * x.shape[3] > 200**2),
    "wrong below a size": wrong_at(lambda x: x.shape[2] < 10),
    "wrong for odd numbers of steps": wrong_at(lambda x: (x.shape[3] - 8) // 4 % 2 == 1),
    "wrong for even numbers of steps": wrong_at(lambda x: (x.shape[3] - 8) // 4 % 2 == 0),
    "wrong where y is not x": wrong_at(lambda x: x.shape[2] != x.shape[3]),
    "wrong for three images": wrong_at(lambda x: len(x) == 3),
    "wrong for negative values": lambda x: blur(np.maximum(x, 0)),
    "mixes the images of a batch": lambda x: blur(x) + 0.1 * (blur(x) - blur(x).mean(0)),
    "shape of the sample baked in": lambda x: np.resize(blur(x), (len(x), 1, 16, 16)),
    "mean over the sample's number of pixels": lambda x: (
        blur(x) + (x.sum((2, 3), keepdims=True) / 256 - x.mean((2, 3), keepdims=True))
    ),
    "one pixel at the border": lambda x: _changed(blur(x), (0, 0, 0, -1)),
    "noise as of 8 bits": lambda x: np.round(blur(x) * 64) / 64,
    "NaN where the original has numbers": lambda x: _changed(blur(x), (0, 0, 3, 3), np.nan),
}


def _changed(y: Array, at: tuple[int, ...], value: float = 7.0) -> Array:
    y[at] = value
    return y


@pytest.mark.parametrize("name", PLANTED)
def test_a_wrong_conversion_is_caught(tiny: ModelPackage, name: str) -> None:
    proof = proof_of(tiny, PLANTED[name])
    assert not proof.ok
    assert "prediction" in proof.fault
    assert "raw" in proof.fault


def test_a_fault_says_where_and_how_much(tiny: ModelPackage) -> None:
    proof = proof_of(tiny, lambda x: _changed(blur(x), (0, 0, 3, 5), 7.0))
    assert "channel 0, y 3, x 5: 7 where the original gives" in proof.fault
    assert "per million" in proof.fault
    assert "(100 allowed)" in proof.fault
    case = proof.cases[0]
    assert (case.output, case.at["y"], case.at["x"]) == ("prediction", 3, 5)
    assert case.absolute_error == pytest.approx(7, abs=3)


def test_small_noise_is_refused_with_numbers(tiny: ModelPackage) -> None:
    proof = proof_of(tiny, PLANTED["noise as of 8 bits"])
    assert proof.off_per_million > 1000
    assert 0.005 < proof.absolute_error < 0.01


FIXED: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "one corner of a large image": (blur, lambda x: _changed(blur(x), (0, 0, 0, 0))),
    "a mask for numbers": (
        lambda x: (blur(x) > 0.5).astype(np.int64),
        lambda x: (blur(x) > 0.5).astype(np.float32),
    ),
    "zeros for outputs whose square is no number": (
        lambda x: blur(x).astype(np.float64) * 1e200,
        lambda x: blur(x).astype(np.float64) * 0,
    ),
    "imaginary parts": (blur, lambda x: blur(x) + 5j),
    "a network that gives nothing but zeros": (np.zeros_like, np.zeros_like),
}


@pytest.mark.parametrize("name", FIXED)
def test_few_wrong_values_are_caught_at_a_fixed_size(tmp_path: Path, name: str) -> None:
    """One wrong pixel of 160 x 160 is 39 per million."""
    folder = make_package(tmp_path / "p", size=160, fixed_batch=True, test_size=160)
    original, wrong = FIXED[name]
    proof = prove(opened(folder), Fake(original), "onnx", candidate=Fake(wrong))
    assert not proof.ok
    assert proof.fault


def test_a_row_of_a_volume_is_caught_and_a_class_that_jumps_is_not() -> None:
    """100 per million of a large volume are whole rows; classes next to a boundary may differ."""
    values = normal(5, (1, 1, 32, 96, 96)).astype(np.float64)
    row = values.copy()
    row[0, 0, 0, 0, :28] += 1
    found = agree({"o": row}, {"o": values}, TOLERANCE)
    assert found.off_per_million < 100
    assert "more than rounding" in found.fault
    assert agree({"o": values + 2e-3 * (row != values)}, {"o": values}, TOLERANCE).ok
    classes = (values > 0).astype(np.int64)
    other = classes.copy()
    other[0, 0, 3, 3, 3] ^= 1
    assert agree({"o": other}, {"o": classes}, TOLERANCE).ok


def test_a_faint_channel_is_proven_beside_a_strong_one() -> None:
    dims = {"o": ("batch", "channel", "y", "x")}
    values = normal(6, (2, 2, 16, 16)).astype(np.float64) * np.array([1, 2e-4])[:, None, None]
    wrong = values.copy()
    wrong[:, 1] = 0
    assert agree({"o": values}, {"o": values}, TOLERANCE, dims).ok
    found = agree({"o": wrong}, {"o": values}, TOLERANCE, dims)
    assert not found.ok
    assert found.at["channel"] == 1
    assert agree({"o": wrong}, {"o": values}, TOLERANCE, dims, {"o": 1.0}).ok  # as seams are
    place = tuple(found.at.values())
    assert abs(values[place]) == np.abs(values[:, 1]).max()


def test_probabilities_of_almost_nothing_may_be_rounded_as_a_sigmoid_is() -> None:
    """ONNX Runtime's sigmoid is off by up to 1.4e-7, torch's by a millionth of the value."""
    chances = np.abs(normal(8, (1, 1, 32, 32))).astype(np.float64) * 1e-6
    chances[..., :2] = 1e-4
    assert agree({"o": chances + 1.4e-7}, {"o": chances}, TOLERANCE).ok
    assert not agree({"o": chances + 5e-7}, {"o": chances}, TOLERANCE).ok
    differences = chances * np.sign(normal(9, chances.shape))  # no probabilities
    assert not agree({"o": differences + 1.4e-7}, {"o": differences}, TOLERANCE).ok


def test_large_outputs_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    values = normal(7, (2, 3, 9, 9)).astype(np.float64)
    wrong = values.copy()
    wrong[1, 2, 8, 3] = 50
    for dims in ({}, {"o": ("batch", "channel", "y", "x")}):
        whole = agree({"o": wrong}, {"o": values}, TOLERANCE, dims)
        monkeypatch.setattr("biozoo_converters.proof.agreement.AT_ONCE", 20)
        assert agree({"o": wrong}, {"o": values}, TOLERANCE, dims) == whole
        assert tuple(whole.at.values()) == (1, 2, 8, 3)
        monkeypatch.undo()


def test_an_output_that_the_original_lacks_is_not_proven(tmp_path: Path) -> None:
    package = opened(make_package(tmp_path / "two", outputs=2))
    proof = prove(package, Fake(blur), "onnx")
    assert not proof.ok
    assert "no output 'prediction1'" in proof.fault


def test_negative_values_are_tried_where_volumes_are_dear(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "3d", axes="bczyx", size=(80, 16), test_size=96)
    trials = plan_trials(program_of(opened(folder)).geometry, {"raw": (1, 1, 96, 96, 96)})
    assert "normal" in {t.draw for t in trials}


def _graph_with_reshape(package: Path) -> None:
    """ONNX weights right at the sample's 16 x 16: a Reshape there and back with that size baked."""
    from onnx import TensorProto, helper, load, numpy_helper, save

    model = load(package / "weights.onnx")
    graph = model.graph
    graph.node[-1].output[0] = "inner"
    for name, value in (("flat", [0, 1, 256]), ("square", [0, 1, 16, 16])):
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    graph.node.append(helper.make_node("Reshape", ["inner", "flat"], ["line"]))
    graph.node.append(helper.make_node("Reshape", ["line", "square"], ["prediction"]))
    dims = ["b", 1, "y", "x"]
    graph.output[0].CopyFrom(helper.make_tensor_value_info("prediction", TensorProto.FLOAT, dims))
    save(model, package / "weights.onnx")


def _graph_with_count(package: Path) -> None:
    """ONNX weights with a mean that divides by the sample's number of pixels."""
    from onnx import helper, load, numpy_helper, save

    model = load(package / "weights.onnx")
    graph = model.graph
    graph.node[-1].output[0] = "inner"
    for name, value in (
        ("count", np.array(256, np.float32)),
        ("places", np.array([2, 3], np.int64)),
        ("small", np.array(1e-3, np.float32)),
    ):
        graph.initializer.append(numpy_helper.from_array(value, name))
    add = graph.node.append
    add(helper.make_node("ReduceSum", ["inner", "places"], ["sum"], keepdims=1))
    add(helper.make_node("Div", ["sum", "count"], ["baked"]))
    add(helper.make_node("ReduceMean", ["inner", "places"], ["true"], keepdims=1))
    add(helper.make_node("Sub", ["baked", "true"], ["difference"]))
    add(helper.make_node("Add", ["inner", "difference"], ["prediction"]))
    save(model, package / "weights.onnx")


@pytest.mark.parametrize("spoil", [_graph_with_reshape, _graph_with_count])
def test_a_graph_right_at_the_sample_only_is_caught(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    folder = make_package(tmp_path / "p", halo=1)
    spoil(folder)
    proof = prove(opened(folder), Fake(blur), "onnx")
    assert proof.cases[0].ok  # the sample's own size
    assert not proof.ok
    assert f"of {len(proof.counted)} cases differ" in proof.fault


def test_weights_that_cannot_be_loaded_are_a_fault_and_no_exception(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p")
    (folder / "weights.onnx").write_bytes(b"no graph")
    proof = prove(opened(folder), Fake(blur), "onnx")
    assert not proof.ok
    assert "cannot be loaded" in proof.fault


def test_a_variant_beside_the_weights_is_compared(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", halo=1)
    good = (folder / "weights.onnx").read_bytes()
    (folder / "weights.small.onnx").write_bytes(good)
    _graph_with_count(folder)
    variant = folder / "weights.small.onnx"
    proof = prove(opened(folder), Fake(blur), "onnx", weights=variant)
    assert proof.ok
    assert proof.files == {"weights.small.onnx": sha256(variant)}


def test_a_candidate_that_refuses_a_size_is_not_proven(tiny: ModelPackage) -> None:
    def picky(x: Array) -> Array:
        if x.shape[2] < 12:
            raise BackendError("Too small.")
        return blur(x)

    proof = proof_of(tiny, picky)
    assert not proof.ok
    assert "does not run: Too small." in proof.fault


# ------------------------------------------------------- faults of the description, odd networks


def test_a_size_that_the_original_refuses_is_a_fault_of_the_description(
    tiny: ModelPackage,
) -> None:
    def original(x: Array) -> Array:
        if x.shape[2] % 8:
            raise NetworkError("Sizes must be multiples of 8.")
        return blur(x)

    proof = prove(tiny, Fake(original), "onnx", candidate=Fake(blur))
    assert proof.ok
    assert any("1 x 1 x 12 x 12" in d and "multiples of 8" in d for d in proof.description)
    assert all(c.shapes["raw"][2] % 8 == 0 for c in proof.cases)


def test_an_output_of_another_size_is_a_fault_of_the_description(tiny: ModelPackage) -> None:
    proof = prove(tiny, Fake(lambda x: blur(x)[..., 1:]), "onnx",
                  candidate=Fake(lambda x: blur(x)[..., 1:]))  # fmt: skip
    assert any("1 x 1 x 8 x 7, the description says 1 x 1 x 8 x 8" in d for d in proof.description)


def test_an_original_that_refuses_everything_proves_nothing(tiny: ModelPackage) -> None:
    def never(x: Array) -> Array:
        raise NetworkError("It needs a second argument.")

    proof = prove(tiny, Fake(never), "onnx", candidate=Fake(blur))
    assert not proof.ok
    assert "nothing could be compared" in proof.fault
    assert "second argument" in proof.fault


def test_an_original_that_mixes_a_batch_is_no_fault_of_the_conversion(tiny: ModelPackage) -> None:
    def mixing(x: Array) -> Array:
        return np.asarray(blur(x) - x.mean(), np.float32)

    proof = prove(tiny, Fake(mixing), "onnx", candidate=Fake(mixing))
    assert proof.ok
    assert proof.batch is None
    assert any("batch" in d for d in proof.description)


def test_seams_are_recorded_and_refuse_nothing(tmp_path: Path) -> None:
    package = opened(make_package(tmp_path / "bare", halo=0))  # a blur without a halo
    proof = proof_of(package, blur)
    assert proof.ok
    assert proof.seamless is False
    assert proof.tiled is not None
    assert proof.tiled.absolute_error > 0.01
    assert "no halo" in proof.tiled.note
    assert proof.tiled_reference is not None
    assert proof.tiled_reference.ok


def test_constant_outputs_are_noted_after_other_scales_were_tried(tiny: ModelPackage) -> None:
    def dead(x: Array) -> Array:
        return np.zeros_like(x)

    reference = Fake(dead)
    proof = prove(tiny, reference, "onnx", candidate=Fake(dead))
    assert any("do not vary" in n for n in proof.notes)


def test_saturated_outputs_are_redrawn_at_another_scale(tiny: ModelPackage) -> None:
    def saturating(x: Array) -> Array:
        return np.clip(blur(x), -0.01, 0.01) if np.abs(x).max() < 2 else np.ones_like(x)

    proof = prove(tiny, Fake(saturating), "onnx", candidate=Fake(saturating))
    assert any(c.scale != 1 for c in proof.cases)
    assert proof.ok


def test_nan_and_infinity_have_to_be_in_the_same_places() -> None:
    expected = {"o": np.array([np.nan, np.inf, -np.inf, 1.0])}
    assert agree(expected, expected, TOLERANCE).ok
    for wrong in ([0.0, np.inf, -np.inf, 1], [np.nan, -np.inf, -np.inf, 1], [np.nan, 9, 9, 1]):
        assert not agree({"o": np.array(wrong)}, expected, TOLERANCE).ok
    many = np.ones(10**6)
    one = many.copy()
    one[5] = np.nan  # 1 per million, and still not the same
    assert not agree({"o": one}, {"o": many}, TOLERANCE).ok


@pytest.mark.parametrize("level", [1e-6, 1e-3, 1.0, 1e4])
def test_the_tolerance_follows_the_size_of_the_output(level: float) -> None:
    values = normal(3, (64, 64)).astype(np.float64)
    rounding = 1e-6 * normal(4, (64, 64))  # as float32 networks round: in terms of the output
    expected = {"o": level * values}
    assert agree({"o": level * (values + rounding)}, expected, TOLERANCE).ok
    assert not agree({"o": level * (values + 1e4 * rounding)}, expected, TOLERANCE).ok


def test_a_constant_per_channel_does_not_vary() -> None:
    flat = np.ones((1, 3, 8, 8)) * np.arange(3).reshape(1, 3, 1, 1)
    dims = ("batch", "channel", "y", "x")
    assert not varies(flat, dims)
    flat[0, 1, 2, 2] += 0.1
    assert varies(flat, dims)
    assert varies(np.arange(3.0).reshape(1, 3), ("batch", "channel"))


# ------------------------------------------------------------------------------------------ inputs


def test_random_inputs_are_the_same_bits_everywhere() -> None:
    """Hashes noted once: another machine or numpy has to make the same."""
    draw = Draw("float32", 1, (0.25, -3.0), (0.5, 2.0), -6.0, 6.0, (2, 3))
    like = Trial({"raw": (1, 2, 21, 13)}, "random", 5, "like")
    made = make(like, {"raw": draw}, {})["raw"]
    assert made.dtype == np.float32
    assert digest({"raw": made})["raw"] == LIKE
    plain = make(replace(like, draw="normal"), {"raw": draw}, {})["raw"]
    assert digest({"raw": plain})["raw"] == NORMAL
    assert abs(float(plain.mean())) < 0.1
    assert 0.9 < float(plain.std()) < 1.1


LIKE = "c1ec3954611151ad2ebc480ed4d114b16757e81c85b66a4651ac84a1e4851a70"
NORMAL = "79ca0b6c2d396e2ece56e80be2beadfe8dbac15460efa65b907331ca60d04253"


def test_random_inputs_are_distributed_as_the_real_one(tmp_path: Path) -> None:
    package = opened(make_package(tmp_path / "p", channels=2, dtype="uint8"))
    model = program_of(package).geometry
    real = {"raw": np.stack([10 + normal(1, (64, 64)), 100 + 5 * normal(2, (64, 64))])[None]}
    draws = draws_of(model, real)
    made = make(Trial({"raw": (1, 2, 128, 128)}, "random", 1, "like"), draws, {})["raw"]
    assert made[0, 0].mean() == pytest.approx(10, abs=0.3)
    assert made[0, 1].mean() == pytest.approx(100, abs=2)
    assert made[0, 1].std() == pytest.approx(5, abs=1)
    assert made.min() >= real["raw"].min() - 1e-3
    assert made.max() <= real["raw"].max() + 1e-3


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool", "float64"])
def test_random_inputs_have_the_type_that_the_network_takes(dtype: str) -> None:
    draw = Draw(dtype, None, (100.0,), (50.0,), 0.0, 255.0)
    for how in ("like", "normal"):
        trial = Trial({"raw": (1, 1, 9, 9)}, "random", 1, how)  # type: ignore[arg-type]
        made = make(trial, {"raw": draw}, {})["raw"]
        assert made.dtype == dtype
        assert len(np.unique(made)) > 1


# ------------------------------------------------------------------------------------- certificate


def test_a_certificate_reads_back_as_it_was_written(certified: ModelPackage) -> None:
    certificate = Certificate.of(certified)
    assert certificate is not None
    assert certificate.ok
    again = yaml.safe_load(yaml.safe_dump(certificate.to_dict()))
    assert again == certified.raw["config"]["biozoo"]["certificate"]
    assert certificate.reference == ORIGINAL
    assert certificate.versions["python"]
    assert any(name.startswith("onnxruntime") for name in certificate.versions)  # or -gpu
    assert "agrees in" in str(certificate.proofs[0])


def test_the_same_proof_is_written_with_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        package = opened(make_package(tmp_path / name, halo=1))
        reference = remembered(Fake(blur))
        proof = prove(package, reference, "onnx")
        made.append(attest(package, reference, [proof], ORIGINAL, timing=True))
    assert made[0].probes == made[1].probes
    assert yaml.safe_dump(made[0].certificate.to_dict()) == yaml.safe_dump(
        made[1].certificate.to_dict()
    )
    assert made[0].certificate.reference.seconds_per_megapixel is not None


def test_speeds_are_left_out_where_not_wanted(certified: ModelPackage) -> None:
    assert "seconds_per_megapixel" not in yaml.safe_dump(certified.raw)


def test_the_original_runs_once_per_input(tiny: ModelPackage) -> None:
    original = Fake(blur)
    reference = remembered(original)
    prove(tiny, reference, "onnx", candidate=Fake(blur))
    count = len(original.seen)
    prove(tiny, reference, "onnx", candidate=Fake(blur))
    assert len(original.seen) == count


def test_a_proven_package_is_valid_for_the_specification(certified: ModelPackage) -> None:
    assert certified.descr.config is not None


# ---------------------------------------------------------------------------------------- certify


def test_a_certificate_is_repeated_without_the_original(certified: ModelPackage) -> None:
    report = certify(certified, timing=False)
    assert report.ok
    assert report.exit_code == 0
    whats = {c.what: c for c in report.formats[0].checks}
    assert whats["the original's values"].cases == len(Certificate.of(certified).proofs[0].cases)  # type: ignore[union-attr]
    assert whats["test tensors"].ok
    assert whats["a batch with its images"].ok
    assert whats["its tiles with the whole"].ok
    assert not report.faults
    assert json.dumps(report.to_dict())


def test_changed_weights_are_told(certified: ModelPackage) -> None:
    _graph_with_count(certified.root)
    report = certify(certified, timing=False)
    assert report.exit_code == 1
    told = "\n".join(report.lines())
    assert "proven was weights.onnx" in told
    assert "the original's values" in told


def test_another_certificate_does_not_pass(certified: ModelPackage, tmp_path: Path) -> None:
    """A certificate of another network: hashes put right, values not."""
    folder = make_package(tmp_path / "other", kernel=5, halo=2)
    package = opened(folder)
    raw = certified.raw["config"]["biozoo"]["certificate"]
    raw["proofs"][0]["files"] = {"weights.onnx": sha256(folder / "weights.onnx")}
    attested = Attested(
        Certificate.from_dict(raw), (certified.root / "certificate.json").read_bytes()
    )
    report = certify(write_certified(folder, attested), timing=False)
    assert package.id == report.model
    assert report.exit_code == 1
    assert "the original's values" in "\n".join(report.lines())


def test_changed_values_of_the_original_are_told(certified: ModelPackage) -> None:
    path = certified.root / "certificate.json"
    path.write_bytes(path.read_bytes().replace(b"0.5", b"0.6", 1))
    report = certify(certified, timing=False)
    assert report.exit_code == 1
    assert "certificate.json was changed" in "\n".join(report.lines())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw.update(format=9),
        lambda raw: raw["cases"][0]["shapes"].update(raw=[1, 1, 10**6, 10**6]),
        lambda raw: raw["cases"][0]["shapes"].update(raw=[4]),
        lambda raw: raw["cases"][0]["shapes"].update(raw=[-4, 1, 8, 8]),
        lambda raw: raw.update(cases=raw["cases"] * 100),
        lambda raw: raw.update(inputs={}),
        lambda raw: raw["cases"][0].update(kind="pickle"),
        lambda raw: raw["cases"][0]["outputs"]["prediction"].update(values=[1]),
        lambda raw: raw.update(cases=7),
        lambda raw: raw["inputs"]["raw"].update(mean=[0, 1, 2]),
        lambda raw: raw["inputs"]["raw"].update(places=[9]),
        lambda raw: raw["inputs"]["raw"].update(axis=7),
        lambda raw: raw["inputs"]["raw"].update(dtype="S9"),
        lambda raw: raw["inputs"]["raw"].update(dtype="object"),
        lambda raw: raw["cases"][1].update(seed=-5),
        lambda raw: raw["cases"][1].update(scale=float("nan")),
    ],
)
def test_values_of_a_stranger_are_read_with_care(
    certified: ModelPackage, spoil: Callable[[dict[str, Any]], None]
) -> None:
    path = certified.root / "certificate.json"
    raw = json.loads(path.read_bytes())
    spoil(raw)
    path.write_text(json.dumps(raw))
    rdf = read_rdf(certified.root)
    rdf["config"]["biozoo"]["certificate"]["probes"]["sha256"] = sha256(path)
    write_rdf(certified.root, rdf)
    with OnnxNetwork(certified.root / "weights.onnx") as original:
        for against in (None, original):
            with pytest.raises(InvalidPackageError):
                certify(opened(certified.root), against=against, timing=False)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw.update(proofs=[]),
        lambda raw: raw["proofs"][0].pop("files"),
        lambda raw: raw["proofs"][0]["cases"][2].update(ok=False),
    ],
)
def test_a_certificate_that_says_less_than_it_seems_does_not_hold(
    certified: ModelPackage, spoil: Callable[[dict[str, Any]], None]
) -> None:
    rdf = read_rdf(certified.root)
    spoil(rdf["config"]["biozoo"]["certificate"])
    write_rdf(certified.root, rdf)
    report = certify(opened(certified.root), timing=False)
    assert report.exit_code == 1
    assert "the certificate" in "\n".join(report.lines())


def test_a_certificate_cannot_widen_its_own_tolerance(certified: ModelPackage) -> None:
    rdf = read_rdf(certified.root)
    proof = rdf["config"]["biozoo"]["certificate"]["proofs"][0]
    proof["tolerance"] = {"relative": 1e9, "absolute": float("nan"), "per_million": 1e6}
    _graph_with_count(certified.root)
    digest_now = sha256(certified.root / "weights.onnx")
    proof["files"] = {"weights.onnx": digest_now}
    rdf["weights"]["onnx"]["sha256"] = digest_now
    write_rdf(certified.root, rdf)
    report = certify(opened(certified.root), timing=False)
    assert report.exit_code == 1
    assert "the original's values" in "\n".join(report.lines())


@pytest.mark.parametrize("raw", [{"format": 2}, {"format": 1}, {"format": 1, "reference": 3}])
def test_a_certificate_that_is_none_says_so(certified: ModelPackage, raw: dict[str, Any]) -> None:
    change_rdf(certified.root, config={"biozoo": {"certificate": raw}})
    package = opened(certified.root)
    assert summary_lines(package.raw)
    with pytest.raises(InvalidPackageError, match=r"config\.biozoo\.certificate"):
        certify(package, timing=False)


def test_a_test_input_that_was_changed_is_told_as_such(certified: ModelPackage) -> None:
    path = certified.root / "test_raw.npy"
    np.save(path, np.load(path) + np.float32(1e-7))
    report = certify(certified, timing=False)
    assert any("not bit for bit" in n for n in report.notes)


def test_the_given_original_is_compared_everywhere(certified: ModelPackage, tmp_path: Path) -> None:
    """`--against`: the right network holds, another one does not, whatever the certificate says."""
    right = make_package(tmp_path / "right") / "weights.onnx"
    wrong = make_package(tmp_path / "wrong", kernel=5) / "weights.onnx"
    args = ["certify", str(certified.root), "--no-timing", "--against"]
    held = CliRunner().invoke(app, [*args, str(right)])
    assert held.exit_code == 0, held.output
    assert "the original" in held.stdout
    refused = CliRunner().invoke(app, [*args, str(wrong)])
    assert refused.exit_code == 1
    assert "most at batch 0, channel 0" in refused.stdout


def test_the_original_may_be_one_of_the_weights(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", halo=1)
    package = opened(folder)
    own = Original("onnx", "weights.onnx", sha256(folder / "weights.onnx"))
    reference = remembered(Fake(blur))
    proof = replace(prove(package, reference, "onnx"), weights_format="torchscript")
    attested = attest(package, reference, [proof], own, timing=False)
    package = write_certified(folder, attested)
    assert certify(package, timing=False).formats[0].ok
    _graph_with_count(folder)
    report = certify(package, timing=False)
    assert not report.ok
    assert "not the original of the certificate" in "\n".join(report.lines())


def test_variants_are_repeated_too(certified: ModelPackage) -> None:
    folder = certified.root
    small = folder / "weights.float16.onnx"
    small.write_bytes((folder / "weights.onnx").read_bytes())
    proof = prove(
        certified, Fake(blur), "onnx", weights=small, tolerance=Tolerance(0.05, 0.05, 1e3)
    )
    rdf = read_rdf(folder)
    rdf["config"]["biozoo"]["variants"] = {
        "float16": {"source": small.name, "sha256": sha256(small), "proof": proof.to_dict()}
    }
    write_rdf(folder, rdf)
    report = certify(opened(folder), timing=False)
    assert report.ok
    assert report.formats[-1].weights_format == "onnx, float16"
    assert report.formats[-1].checks[0].allowed == 1000
    small.write_bytes(small.read_bytes() + b" ")
    report = certify(opened(folder), timing=False)
    assert report.exit_code == 1
    assert "weights.float16.onnx was changed" in "\n".join(report.lines())


def test_weights_that_cannot_be_tried_here_are_no_wrong_ones(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p")
    entry = {"source": "weights.onnx", "tensorflow_version": "2.0"}
    change_rdf(folder, weights={"tensorflow_js": entry})
    with pytest.raises(NoBackendError):
        prove(opened(folder), Fake(blur), "tensorflow_js", real={"raw": np.zeros((1, 1, 8, 8))})


def test_a_package_without_a_certificate_is_compared_with_itself(tmp_path: Path) -> None:
    package = opened(make_package(tmp_path / "plain", halo=1))
    report = certify(package, timing=False)
    assert report.ok
    assert "nothing proves it against an original" in report.headline
    assert {"test tensors", "its tiles with the whole"} <= {
        c.what for c in report.formats[0].checks
    }


def test_a_package_that_fails_its_own_test_is_not_certified(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "plain", halo=1)
    np.save(folder / "test_prediction.npy", np.load(folder / "test_prediction.npy") + 1)
    report = certify(opened(folder), timing=False)
    assert report.exit_code == 1
    assert "test tensors" in "\n".join(report.lines())


def test_a_description_that_promises_too_much_is_not_certified(tmp_path: Path) -> None:
    """Free sizes in the description, one size in the graph."""
    from onnx import load, save

    folder = make_package(tmp_path / "p", halo=1)
    model = load(folder / "weights.onnx")
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim[2:]:
            dim.dim_value = 16
    save(model, folder / "weights.onnx")
    rdf = read_rdf(folder)
    rdf["weights"]["onnx"]["sha256"] = sha256(folder / "weights.onnx")
    write_rdf(folder, rdf)
    report = certify(opened(folder), timing=False)
    assert report.exit_code == 1
    assert any("the description allows" in f for f in report.faults)


def test_zoo_certify_prints_a_table_and_ends_with_the_verdict(certified: ModelPackage) -> None:
    good = CliRunner().invoke(app, ["certify", str(certified.root), "--no-timing"])
    assert good.exit_code == 0, good.output
    assert "the certificate holds here" in good.stdout
    assert "PER MILLION" in good.stdout
    as_json = CliRunner().invoke(app, ["certify", str(certified.root), "--no-timing", "--json"])
    assert json.loads(as_json.stdout)["ok"] is True
    _graph_with_count(certified.root)
    damaged = CliRunner().invoke(app, ["certify", str(certified.root), "--no-timing"])
    assert damaged.exit_code == 1
    assert "weights.onnx is not the one described" in damaged.stderr
    rdf = read_rdf(certified.root)
    rdf["weights"]["onnx"]["sha256"] = sha256(certified.root / "weights.onnx")
    write_rdf(certified.root, rdf)
    bad = CliRunner().invoke(app, ["certify", str(certified.root), "--no-timing"])
    assert bad.exit_code == 1
    assert "NOT certified" in bad.stdout
    assert "proven was weights.onnx" in bad.stdout
    assert "Traceback" not in bad.output


def test_zoo_show_tells_of_the_certificate(certified: ModelPackage, tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["show", str(certified.root)])
    assert "compared with net.py:Net (pytorch_state_dict" in shown.stdout
    assert "onnx (dynamo): agrees in 11 cases" in shown.stdout
    assert "zoo certify" in shown.stdout
    bare = CliRunner().invoke(app, ["show", str(make_package(tmp_path / "bare"))])
    assert "Certificate" not in bare.stdout


def test_zoo_certify_says_what_it_cannot_do(certified: ModelPackage) -> None:
    alone = CliRunner().invoke(app, ["certify", str(certified.root), "--weights", "w.pt"])
    assert alone.exit_code == 2
    change_rdf(
        certified.root,
        weights={"tensorflow_js": {"source": "weights.onnx", "tensorflow_version": "2.0"}},
    )
    nothing = CliRunner().invoke(app, ["certify", str(certified.root), "--no-timing"])
    assert nothing.exit_code == 3, nothing.output


@pytest.mark.shared
def test_a_published_package_that_fails_its_own_test_is_not_certified(shared: Path) -> None:
    report = certify(opened(shared / "models" / "inverter-fails-own-test"), timing=False)
    assert report.exit_code == 1


# ----------------------------------------------------------------------------------------- timing


def test_calls_take_turns() -> None:
    order: list[str] = []
    calls = {n: (lambda n=n: order.append(n)) for n in "ab"}  # type: ignore[misc]
    now = iter(range(1000))
    found = interleaved(calls, rounds=3, clock=lambda: float(next(now)))
    assert order == ["a", "b"] * 4
    assert found == {"a": 1.0, "b": 1.0}


def test_a_speed_is_measured_once_per_weights(biozoo_home: Path) -> None:
    asked = []

    def measure() -> dict[str, float]:
        asked.append(1)
        return {"onnx": float(len(asked))}

    assert kept({"weights": "a"}, measure) == {"onnx": 1.0}
    assert kept({"weights": "a"}, measure) == {"onnx": 1.0}
    assert kept({"weights": "b"}, measure) == {"onnx": 2.0}
    assert len(asked) == 2
    for file in (biozoo_home / "cache" / "timings").iterdir():
        file.write_text("{")
    assert kept({"weights": "a"}, measure) == {"onnx": 3.0}
