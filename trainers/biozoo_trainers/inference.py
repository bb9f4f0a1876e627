"""A recipe for a package that has none, from what its description says; every guess a sentence.

    found = infer_recipe(package)
    found.recipe, found.reasons

Looked at, in this order: what the package says of its objects (`config.biozoo.instances`), its
postprocessing, the names and number of the output's channels, its tags and words, the values of its
test output. Nothing is executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from biozoo.errors import BiozooError

from .defaults import augmentations, optimiser, patch
from .meaning import Unsuited, meaning_of
from .recipe import FORMATS, Recipe, declared

if TYPE_CHECKING:
    from biozoo.package import ModelPackage
    from biozoo_runners.sizes import ModelGeometry, TensorGeometry

__all__ = ["Inferred", "infer_recipe", "recipe_of"]


@dataclass(frozen=True)
class Inferred:
    """A recipe and why it is this one.

    Attributes
    ----------
    recipe
        Its `trainable` may be "no": `recipe.why` then says why.
    reasons
        One sentence per guess, for a person to confirm.
    declared
        Whether the package itself has it: there is nothing to confirm.
    """

    recipe: Recipe
    reasons: tuple[str, ...]
    declared: bool = False


def recipe_of(package: ModelPackage) -> Inferred:
    """The recipe that the package declares, else the inferred one.

    Raises
    ------
    InvalidPackageError
        What it declares is no recipe, or its description is not valid.
    """
    own = declared(package)
    if own is not None:
        return Inferred(own, ("The package declares how it is retrained.",), declared=True)
    return infer_recipe(package)


def infer_recipe(package: ModelPackage) -> Inferred:
    """The recipe that fits a description.

    Raises
    ------
    InvalidPackageError
        The description is not valid.
    """
    from biozoo_runners.program import program_of

    reasons: list[str] = []
    try:
        weights = _weights(package)
        model = program_of(package).geometry
        given = _input(model)
        taken = _output(package, model, given, reasons)
        meaning = meaning_of(package, given, taken)
    except Unsuited as exc:
        return Inferred(Recipe(trainable="no", why=str(exc)), (f"It cannot be retrained: {exc}.",))
    reasons += meaning.reasons
    ndim = len(_spatial(given))
    size = patch(given)
    reasons.append(
        f"Patches of {' x '.join(map(str, size.size.values()))} pixels, "
        + ", ".join(
            f"{a} in steps of {n}" for a, n in size.multiple.items()
        )
        + ": from the sizes that the input allows."
    )  # fmt: skip
    reasons.append(_start(weights))
    recipe = Recipe(
        weights=weights,
        input=given.id,
        output=taken.id,
        target=meaning.target,
        activation=meaning.activation,
        patch=size,
        augmentations=augmentations(given, meaning.supplies),
        optimiser=optimiser(ndim, meaning.supplies),
        polarity="auto" if meaning.supplies in ("instances", "classes") else "keep",
    )
    return Inferred(recipe, tuple(reasons))


def _weights(package: ModelPackage) -> tuple[str, ...]:
    have = package.summary.weights
    found = tuple(f for f in FORMATS if f in have)
    if not found:
        raise Unsuited(
            f"its weights are {', '.join(have) or 'none'}; those that can be trained are "
            f"{', '.join(FORMATS)} (zoo convert --to onnx makes them of Keras weights)"
        )
    return found


def _start(weights: tuple[str, ...]) -> str:
    more = f", else from {' or '.join(weights[1:])}" if len(weights) > 1 else ""
    trusted = " once its code is allowed (zoo trust)" if "pytorch_state_dict" in weights else ""
    return f"The training starts from its {weights[0]} weights{more}{trusted}."


def _spatial(tensor: TensorGeometry) -> tuple[str, ...]:
    return tuple(a.id for a in tensor.axes if a.kind == "space")


def _input(model: ModelGeometry) -> TensorGeometry:
    """The one input that an image is given as."""
    needed = [t for t in model.inputs if not t.optional] or list(model.inputs[:1])
    if len(needed) > 1:
        names = ", ".join(t.id for t in needed)
        raise Unsuited(f"it takes {len(needed)} inputs at once ({names}), one image is supported")
    given = needed[0]
    if len(_spatial(given)) not in (2, 3):
        raise Unsuited(
            f"its input '{given.id}' has the axes {', '.join(given.dims)}; images have y and x, "
            "and may have z"
        )
    if odd := [a.id for a in given.axes if a.kind in ("time", "index")]:
        raise Unsuited(f"its input '{given.id}' has an axis '{odd[0]}' beside those of an image")
    return given


def _output(
    package: ModelPackage, model: ModelGeometry, given: TensorGeometry, reasons: list[str]
) -> TensorGeometry:
    """The output that is taught: an image of the input's size."""
    from biozoo_runners.program import program_of

    fits: list[TensorGeometry] = []
    why = []
    for tensor in model.outputs:
        fault = _fault(model, given, tensor) or _made_of_decisions(package, tensor)
        if fault:
            why.append(f"output '{tensor.id}' {fault}")
        else:
            fits.append(tensor)
    if not fits:
        raise Unsuited("; ".join(why))
    try:
        own = program_of(package).instances
    except BiozooError:
        own = None
    chosen = next((t for t in fits if own is not None and t.id == own.output), fits[0])
    if len(model.outputs) > 1:
        reasons.append(
            f"Of its {len(model.outputs)} outputs '{chosen.id}' is taught; the others change with "
            "it and are not looked at."
        )
    return chosen


def _made_of_decisions(package: ModelPackage, tensor: TensorGeometry) -> str:
    """Why the network's own output has no gradient, or means nothing that could be painted."""
    for raw in package.raw.get("outputs", ()):
        if str(raw.get("id", raw.get("name"))) != tensor.id:
            continue
        data = raw.get("data")
        kind = str(data.get("type") if isinstance(data, Mapping) else raw.get("data_type"))
        if (kind.startswith(("int", "uint")) or kind == "bool") and not raw.get("postprocessing"):
            return f"holds numbers of type {kind}: decisions, through which nothing can be learned"
    words = " ".join(map(str, package.raw.get("tags") or ())).lower()
    if "cellpose" in words and "channel" not in tensor.dims:
        return "holds finished objects: decisions, through which nothing can be learned"
    if "feature extraction" in words or "embedding" in tensor.id:
        return "holds features, which nobody can paint"
    return ""


def _fault(model: ModelGeometry, given: TensorGeometry, tensor: TensorGeometry) -> str:
    """Why an output cannot be taught pixel by pixel, "" where it can."""
    if set(_spatial(tensor)) != set(_spatial(given)):
        return f"has the axes {', '.join(tensor.dims)}, not those of the image"
    if odd := [a.id for a in tensor.axes if a.kind in ("time", "index")]:
        return f"has an axis '{odd[0]}' beside those of an image"
    for axis in _spatial(tensor):
        root, ratio = model.referenced(tensor.id, axis)
        if root != (given.id, axis):
            return f"has a size along '{axis}' that does not follow the input's"
        if ratio != 1:
            return f"has another pixel size than the input ({float(ratio):g} pixels for one)"
    return ""
