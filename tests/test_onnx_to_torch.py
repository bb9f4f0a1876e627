"""ONNX weights back to torch: equal at every size, trainable in every parameter, or a clear no."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import biozoo
from biozoo.errors import ConversionError
from biozoo.package import ModelPackage
from biozoo_converters.conversion.onnx_to_torch import module_of, to_module
from packages import make_package

RNG = np.random.default_rng(0)


def graph(
    nodes: Iterable[Any],
    weights: Mapping[str, Any],
    *,
    inputs: tuple[str, ...] = ("raw",),
    outputs: tuple[str, ...] = ("out",),
    opset: int = 18,
) -> Any:
    shape = ["n", "c", "h", "w"]

    def ports(names: tuple[str, ...]) -> list[Any]:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in names]

    tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in weights.items()]
    body = helper.make_graph(list(nodes), "g", ports(inputs), ports(outputs), tensors)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def image(*shape: int) -> np.ndarray:
    return RNG.random(shape).astype(np.float32)


def same(model: Any, module: Any, *arrays: np.ndarray) -> None:
    names = [v.name for v in model.graph.input]
    expected = ReferenceEvaluator(model).run(None, dict(zip(names, arrays, strict=True)))
    made = module(*map(torch.from_numpy, arrays))
    made = made if isinstance(made, tuple) else (made,)
    for a, b in zip(made, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a.detach().numpy(), b, atol=1e-5)


def package_of(tmp_path: Path, model: Any) -> ModelPackage:
    """A tiny package with another graph as its weights; the description stays."""
    folder = make_package(tmp_path / "p", validate=False)
    onnx.save(model, folder / "weights.onnx")
    return ModelPackage.from_folder(folder)


def test_a_package_becomes_a_module_that_learns(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", inputs=2, outputs=2, validate=False)
    package = ModelPackage.from_folder(folder)
    module, proof = to_module(package)
    assert proof.ok
    assert proof.strategy.startswith("onnx2pytorch")
    assert len({c.shapes["raw"] for c in proof.cases}) >= 4
    assert {c.shapes["raw"][0] for c in proof.cases} >= {1, 2}

    inputs = [np.load(folder / f"test_{i}.npy") for i in ("raw", "raw1")]
    tensors = [torch.from_numpy(a) for a in inputs]
    first, _ = module(*tensors)
    np.testing.assert_allclose(
        first.detach().numpy(), np.load(folder / "test_prediction.npy"), atol=1e-5
    )
    parameters = list(module.parameters())
    assert parameters
    optimizer = torch.optim.SGD(parameters, lr=0.01)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = sum((t**2).mean() for t in module(*tensors))
        loss.backward()
        assert all(p.grad is not None for p in parameters)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[2] < losses[0]


def test_weights_that_are_operands_are_parameters_and_no_weight_is_there_twice(
    tmp_path: Path,
) -> None:
    weights = {
        "weight": image(1, 1, 3, 3),
        "gain": image(1, 1, 1, 4),
        "scales": np.float32([1, 1, 2, 2]),
        "shape": np.int64([0, 0, 0, -1]),
    }
    nodes = [
        helper.make_node("Conv", ["raw", "weight"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Resize", ["a", "", "scales"], ["b"], mode="linear"),
        helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Slice", ["c", "from", "to", "axis"], ["d"]),
        helper.make_node("Mul", ["d", "gain"], ["out"]),
    ]
    weights |= {"from": np.int64([0]), "to": np.int64([4]), "axis": np.int64([3])}
    model = graph(nodes, weights)
    module = module_of(model)
    named = {n: tuple(p.shape) for n, p in module.named_parameters()}
    assert sorted(named.values()) == [(1, 1, 1, 4), (1, 1, 3, 3)]
    assert sum(v.numel() for v in module.state_dict().values() if v.is_floating_point()) < 9 + 4 + 5
    same(model, module, image(1, 1, 6, 8))
    same(model, module, image(2, 1, 8, 4))


@pytest.mark.parametrize("opset", [11, 18])
@pytest.mark.parametrize("places", ["asymmetric", "half_pixel", "align_corners",
                                    "pytorch_half_pixel"])  # fmt: skip
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("how", ["scales", "sizes"])
def test_resize_places_pixels_as_the_standard_says(
    opset: int, places: str, mode: str, how: str
) -> None:
    rounding = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
    for nearest in rounding if mode == "nearest" else ("floor",):
        given = {"scales": np.float32([1, 1, 2, 1.5]), "sizes": np.int64([2, 1, 9, 5])}
        node = helper.make_node(
            "Resize",
            ["raw", "roi", how] if how == "scales" else ["raw", "roi", "", how],
            ["out"],
            mode=mode,
            coordinate_transformation_mode=places,
            nearest_mode=nearest,
        )
        weights = {"roi": np.zeros(0, np.float32), how: given[how]}
        model = graph([node], weights, opset=opset)
        same(model, module_of(model), image(2, 1, 6, 8))


def test_names_that_differ_in_dots_only_stay_apart() -> None:
    nodes = [
        helper.make_node("Mul", ["raw", "a.b_c"], ["x.y"]),
        helper.make_node("Add", ["x.y", "a_b.c"], ["x_y"]),
        helper.make_node("Mul", ["x_y", "a/b.c"], ["out"]),
    ]
    weights = {"a.b_c": image(1, 1, 1, 8), "a_b.c": image(1, 1, 1, 8), "a/b.c": image(1, 1, 1, 8)}
    model = graph(nodes, weights)
    same(model, module_of(model), image(1, 1, 4, 8))


def test_split_by_number_follows_the_size() -> None:
    nodes = [
        helper.make_node("Split", ["raw"], ["a", "b"], axis=3, num_outputs=2),
        helper.make_node("Sub", ["a", "b"], ["out"]),
    ]
    model = graph(nodes, {})
    module = module_of(model)
    same(model, module, image(1, 1, 4, 8))
    same(model, module, image(1, 1, 4, 12))


def test_inputs_and_outputs_are_in_the_order_of_the_description() -> None:
    nodes = [
        helper.make_node("Sub", ["mask", "raw"], ["difference"]),
        helper.make_node("Add", ["mask", "raw"], ["sum"]),
    ]
    model = graph(nodes, {}, inputs=("mask", "raw"), outputs=("difference", "sum"))
    module = module_of(model, ("raw", "mask"), ("sum", "difference"))
    raw, mask = torch.full((1, 1, 2, 2), 5.0), torch.full((1, 1, 2, 2), 3.0)
    total, difference = module(raw, mask)
    assert float(total.mean()) == 8
    assert float(difference.mean()) == -2


def test_an_operator_that_is_not_known_is_named(tmp_path: Path) -> None:
    node = helper.make_node("FrobnicateTensors", ["raw"], ["out"], name="encoder_3", domain="acme")
    with pytest.raises(ConversionError, match="FrobnicateTensors"):
        module_of(graph([node], {}))


def test_a_graph_without_a_gradient_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["raw", "weight"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Sign", ["a"], ["b"]),
        helper.make_node("Cast", ["b"], ["c"], to=TensorProto.INT32),
        helper.make_node("Cast", ["c"], ["prediction"], to=TensorProto.FLOAT),
    ]
    model = graph(nodes, {"weight": image(1, 1, 3, 3)}, outputs=("prediction",))
    with pytest.raises(ConversionError, match="differentiable"):
        to_module(package_of(tmp_path, model))


def test_a_module_that_is_right_at_one_size_only_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library as it would be with a size frozen at its first call."""
    from onnx2pytorch.operations import ReduceMean

    folder = make_package(tmp_path / "p", validate=False)
    nodes = [
        helper.make_node("Conv", ["raw", "weight"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("ReduceMean", ["a", "axes"], ["mean"]),
        helper.make_node("Sub", ["a", "mean"], ["prediction"]),
    ]
    weights = {"weight": image(1, 1, 3, 3), "axes": np.int64([2, 3])}
    onnx.save(graph(nodes, weights, outputs=("prediction",)), folder / "weights.onnx")
    package = ModelPackage.from_folder(folder)
    assert to_module(package)[1].ok

    def frozen(self: Any, data: Any, axes: Any = None) -> Any:
        return data.sum((2, 3), keepdim=True) / (16 * 16)

    monkeypatch.setattr(ReduceMean, "forward", frozen)
    with pytest.raises(ConversionError, match="cases differ"):
        to_module(package)


def test_a_package_without_onnx_is_refused(tmp_path: Path) -> None:
    from weights_torch import add_torchscript

    folder = add_torchscript(make_package(tmp_path / "p", validate=False), only=True)
    with pytest.raises(ConversionError, match="no ONNX weights but torchscript"):
        to_module(ModelPackage.from_folder(folder))


def test_slices_are_those_of_the_standard() -> None:
    weights = {
        "from": np.int64([1, -1]), "to": np.int64([2**62, -(2**62)]), "axes": np.int64([2, -1]),
        "steps": np.int64([2, -2]),
    }  # fmt: skip
    model = graph([helper.make_node("Slice", ["raw", *weights], ["out"])], weights)
    same(model, module_of(model), image(1, 2, 7, 6))


def test_the_built_in_model_can_be_trained_further() -> None:
    package = biozoo.open("nuclei-fluo")
    module = module_of(onnx.load(package.path(package.raw["weights"]["onnx"]["source"])))
    assert sum(p.numel() for p in module.parameters()) > 100_000
    module.train()
    module(torch.rand(1, 1, 64, 64)).std().backward()
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.shared
@pytest.mark.parametrize("name", ["nuclei-broad", "brain-meshnet3d"])
def test_models_of_others_become_equal_modules(shared: Path, name: str) -> None:
    package = ModelPackage.from_folder(shared / "models" / name)
    model = onnx.load(package.root / "weights.onnx")
    module = module_of(model)
    size = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    import onnxruntime as ort

    session = ort.InferenceSession(package.root / "weights.onnx")
    given = image(*size)
    (expected,) = session.run(None, {model.graph.input[0].name: given})
    with torch.no_grad():
        made = module(torch.from_numpy(given)).numpy()
    np.testing.assert_allclose(made, expected, atol=1e-3)
