"""The package's network as a module: logits out, equal to the package, gradients to its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import biozoo
from biozoo.consent import grant
from biozoo.errors import NotTrainableError
from biozoo.package import ModelPackage
from biozoo_runners import load
from biozoo_trainers.inference import infer_recipe
from biozoo_trainers.network import differentiable, runner_of
from biozoo_trainers.recipe import Recipe
from packages import SIGMOID, change_rdf, make_package, read_rdf, sha256, write_rdf
from trainable import disc_image, trainable
from weights_state_dict import add_state_dict
from weights_torch import add_torchscript

torch = pytest.importorskip("torch")
pytest.importorskip("onnx2pytorch")


def recipe_of(package: ModelPackage, **more: Any) -> Recipe:
    return Recipe.model_validate(infer_recipe(package).recipe.model_dump() | more)


def pixels(*shape: int) -> Any:
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))


def test_the_networks_own_sigmoid_is_left_out_of_the_logits(tmp_path: Path) -> None:
    package = trainable(tmp_path / "p", inside=True)
    made = differentiable(package, recipe_of(package))
    x = pixels(2, 1, 32, 32)
    logits, maps = made.module(x), made.network(x)
    assert logits.shape == maps.shape == (2, 1, 32, 32)
    torch.testing.assert_close(torch.sigmoid(logits), maps)
    assert made.weights_format == "onnx"
    assert made.proof.ok
    assert made.notes == ()
    # So far from 0 that a sigmoid is exactly 1: the logits still tell, and have a gradient.
    far = made.module(x * 1e3)
    assert far.max().item() > 20
    far.max().backward()
    assert all(p.grad is not None for p in made.module.parameters())


def test_a_sigmoid_of_the_description_is_none_of_the_networks(tmp_path: Path) -> None:
    package = trainable(tmp_path / "p", inside=False)
    recipe = recipe_of(package)
    assert recipe.activation == "postprocessing"
    made = differentiable(package, recipe)
    x = pixels(1, 1, 16, 16)
    torch.testing.assert_close(made.module(x), made.network(x))


def test_an_activation_that_is_not_the_last_operation_is_undone(tmp_path: Path) -> None:
    """Here a product comes after it, as in a network that puts maps together."""
    package = trainable(tmp_path / "p", inside=True)
    graph = _with_a_product(package.root / "weights.onnx")
    (package.root / "weights.onnx").write_bytes(graph)
    rdf = read_rdf(package.root)
    rdf["weights"]["onnx"]["sha256"] = sha256(package.root / "weights.onnx")
    write_rdf(package.root, rdf)
    package = biozoo.open(package.root)
    made = differentiable(package, recipe_of(package))
    assert made.notes == ("the network's own sigmoid is undone for the loss, not switched off",)
    x = pixels(1, 1, 16, 16)
    torch.testing.assert_close(torch.sigmoid(made.module(x)), made.network(x))


def _with_a_product(path: Path) -> bytes:
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    nodes = model.graph.node
    nodes[-1].output[0] = "maps"
    model.graph.initializer.append(numpy_helper.from_array(np.full(1, 0.9, np.float32), "part"))
    nodes.append(helper.make_node("Mul", ["maps", "part"], ["prediction"]))
    content: bytes = model.SerializeToString()
    return content


@pytest.mark.parametrize("axes", ["byxc", "cyx", "yx"])
def test_tensors_have_one_order_whatever_the_description_says(tmp_path: Path, axes: str) -> None:
    folder = make_package(
        tmp_path / "p", axes=axes, channels=1, postprocessing=[SIGMOID], validate=False
    )
    package = biozoo.open(folder)
    made = differentiable(package, recipe_of(package, target={"kind": "foreground"}))
    image = pixels(2, 1, 16, 20)
    logits = made.module(image)
    assert logits.shape == (2, 1, 16, 20)
    with load(package, device="cpu") as runner:
        one = runner(image[1, 0].numpy(), axes="yx")["prediction"]
    expected = one.transpose(..., "y", "x").values.reshape(16, 20)
    np.testing.assert_allclose(torch.sigmoid(logits)[1, 0].detach(), expected, atol=1e-5)


def test_torchscript_is_trained_where_there_is_no_onnx(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", postprocessing=[SIGMOID], validate=False)
    package = biozoo.open(add_torchscript(folder, only=True))
    made = differentiable(package, recipe_of(package))
    assert made.weights_format == "torchscript"
    made.module(pixels(1, 1, 16, 16)).sum().backward()
    assert any(p.grad is not None for p in made.module.parameters())


def test_frozen_torchscript_has_nothing_to_train(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", postprocessing=[SIGMOID], validate=False)
    package = biozoo.open(add_torchscript(folder, only=True, frozen=True))
    with pytest.raises(NotTrainableError, match="its weights are constants of the code"):
        differentiable(package, recipe_of(package))


def test_a_state_dict_needs_its_code_allowed(tmp_path: Path) -> None:
    folder = add_state_dict(make_package(tmp_path / "p", postprocessing=[SIGMOID], validate=False))
    package = biozoo.open(folder)
    with pytest.raises(NotTrainableError, match="zoo trust") as error:
        differentiable(package, recipe_of(package))
    assert error.value.exit_code == 1
    assert "Live mode" in str(error.value)
    grant(package)
    made = differentiable(package, recipe_of(package))
    assert made.weights_format == "pytorch_state_dict"
    x = pixels(1, 1, 16, 16)
    torch.testing.assert_close(made.module(x), made.network(x))


def test_what_was_tried_before_is_noted(tmp_path: Path) -> None:
    folder = add_state_dict(
        make_package(tmp_path / "p", postprocessing=[SIGMOID], validate=False), keep_onnx=True
    )
    package = biozoo.open(folder)
    order = ("pytorch_state_dict", "onnx")
    made = differentiable(package, recipe_of(package, weights=order))
    assert made.weights_format == "onnx"
    assert "pytorch_state_dict weights were not used" in made.notes[0]


def test_why_a_package_cannot_be_trained(tmp_path: Path) -> None:
    package = biozoo.open(make_package(tmp_path / "p", validate=False))
    with pytest.raises(NotTrainableError, match="cannot be retrained: it is quantized"):
        differentiable(package, Recipe(trainable="no", why="it is quantized."))
    change_rdf(package.root, weights={"keras_hdf5": {"source": "weights.onnx"}})
    keras = biozoo.open(package.root)
    with pytest.raises(NotTrainableError, match="its weights are keras_hdf5"):
        differentiable(keras, recipe_of(package))


def test_a_runner_over_the_module_gives_what_the_package_gives(tmp_path: Path) -> None:
    package = trainable(tmp_path / "p")
    made = differentiable(package, recipe_of(package))
    image, _ = disc_image(0, 50)
    with load(package, device="cpu") as runner:
        expected = runner(image)["prediction"]
    made.network.train()
    with runner_of(package, made.network) as runner:
        found = runner(image)["prediction"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dims == expected.dims
    assert made.network.training  # left in the mode that it was in
    assert not made.module_for_export().training
