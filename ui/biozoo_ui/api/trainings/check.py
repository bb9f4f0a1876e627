"""Whether a model can be retrained here, how, and if not what can be done instead."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from biozoo.errors import BiozooError
from biozoo.install import install_line

from ..asked import said_here
from .answers import CheckAnswer

if TYPE_CHECKING:
    from biozoo import ModelPackage

LIBRARIES = {
    "torch": "torch",
    "lightning_fabric": "lightning-fabric",
    "monai": "MONAI",
    "torchmetrics": "torchmetrics",
    "onnx2pytorch": "onnx2pytorch",
    "edt": "edt",
}
"""Modules that retraining imports -> what they are called."""

INSTALL = install_line("train")

LIVE = "Live mode needs none of it: it refits the last layer of a model that has ONNX weights."


def lacking() -> str:
    """Which libraries are not installed here that retraining needs; empty where none."""
    return ", ".join(name for module, name in LIBRARIES.items() if find_spec(module) is None)


def check_training(package: ModelPackage) -> CheckAnswer:
    """What is said of a package before anything is trained. No weights are loaded."""
    from biozoo_trainers.inference import recipe_of

    try:
        found = recipe_of(package)
    except BiozooError as exc:  # what the package declares is no recipe
        return _no(said_here(exc.message))
    recipe = found.recipe
    why = install = ""
    if recipe.trainable != "no" and (names := lacking()):
        install = INSTALL
        why = f"Retraining needs libraries that are not installed here: {names}. {LIVE}"
    if recipe.trainable == "no":
        why = f"{recipe.why.rstrip('.')}. Live mode may work: it refits the last layer only."
    return CheckAnswer(
        possible=not why,
        why=why,
        install=install,
        declared=found.declared,
        supplies=_supplies(recipe.target.kind) if recipe.target is not None else "",
        steps=recipe.optimiser.steps,
        learning_rate=recipe.optimiser.learning_rate,
        recipe=recipe.plain(),
        reasons=list(found.reasons),
    )


def _supplies(kind: str) -> str:
    """What a person gives for a target of this kind."""
    from biozoo.plugins import load_one

    try:
        return str(load_one("biozoo.targets", kind).supplies)  # type: ignore[attr-defined]
    except (BiozooError, AttributeError):
        return ""


def _no(why: str) -> CheckAnswer:
    return CheckAnswer(
        possible=False, why=why, install="", declared=True, supplies="", steps=0,
        learning_rate=0.0, recipe={}, reasons=[],
    )  # fmt: skip
