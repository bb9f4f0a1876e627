"""How a package may be retrained, as data: `config.biozoo.training` of a description.

    recipe = declared(package) or infer_recipe(package).recipe

A recipe holds no code: kinds of targets, losses and augmentations are names of what is installed.
Its schema is `docs/training.schema.json`, written by ``python -m biozoo_trainers.recipe``. The
preprocessing is not part of it: the package's own is used, always.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from biozoo.errors import InvalidPackageError

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

__all__ = [
    "AugmentationSpec",
    "GateSpec",
    "LossSpec",
    "OptimiserSpec",
    "PatchSpec",
    "Recipe",
    "TargetSpec",
    "declared",
    "schema",
]

WHERE = "config.biozoo.training"

#: Weights formats that can be trained, in the order in which they are tried where nobody says.
FORMATS = ("onnx", "torchscript", "pytorch_state_dict")

Options = dict[str, Any]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TargetSpec(_Part):
    """What a person supplies, and how it becomes what the output's channels should be."""

    kind: str
    """Name of a target: an entry point of the group biozoo.targets."""
    options: Options = {}
    """Its settings; absent ones have the target's defaults."""


class LossSpec(_Part):
    """One summand of the loss."""

    kind: str
    """Name of a loss: an entry point of the group biozoo.losses."""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Factor of this summand."""
    channels: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Channels of the output that it looks at, counted from 0; all where absent."""
    options: Options = {}
    """Its settings."""


class PatchSpec(_Part):
    """The pieces of the images that one training step sees."""

    size: dict[str, Annotated[int, Field(ge=1, le=4096)]]
    """Pixels by spatial axis id of the input; a multiple of `multiple`."""
    multiple: dict[str, Annotated[int, Field(ge=1, le=4096)]] = {}
    """What sizes have to be a multiple of, by axis id; 1 where absent."""

    @model_validator(mode="after")
    def _multiples(self) -> Self:
        for axis, size in self.size.items():
            if size % self.multiple.get(axis, 1):
                raise ValueError(
                    f"the patch has {size} pixels along '{axis}', no multiple of "
                    f"{self.multiple[axis]}"
                )
        return self


AugmentationKind = Literal[
    "flip", "turn", "affine", "brightness", "contrast", "gamma", "noise", "blur", "shading"
]


class AugmentationSpec(_Part):
    """One way in which images are varied; `augment` says what the options are."""

    kind: AugmentationKind
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    options: Options = {}


class OptimiserSpec(_Part):
    """How the weights are moved."""

    kind: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
    """The highest of the schedule: it rises over `warm_up` steps, then falls as a cosine."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 1e-4
    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 300
    """For 20 images; others take fewer or more, with the root of their number (0.7 to 2 times)."""
    batch: Annotated[int, Field(ge=1, le=1024)] = 4
    warm_up: Annotated[int, Field(ge=0, le=100_000)] = 20
    average: Annotated[float, Field(ge=0, lt=1)] = 0.98
    """How much of the running average of the weights one step keeps; 0: no average."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Longest gradient; a longer one is shortened."""


class GateSpec(_Part):
    """What a child must do to take its parent's place."""

    metric: Literal["auto", "AP50", "AP50:90", "Dice", "IoU", "PSNR", "SSIM"] = "auto"
    """What is compared; "auto": what fits the target."""
    margin: Annotated[float, Field(ge=0)] = 0.0
    """By how much the child must be better than its parent on the person's held-out images."""
    forgetting: Annotated[float, Field(ge=0)] = 0.05
    """How much of the metric it may lose on the parent's own test data before that is told."""


class Recipe(_Part):
    """How a package is retrained."""

    version: Literal[1] = 1
    trainable: Literal["full", "head", "no"] = "full"
    """Whether all weights may change, the last layer only, or none."""
    why: str = ""
    """Why not, or not fully."""
    weights: tuple[str, ...] = FORMATS
    """Formats whose weights are tried as the start, in this order."""
    input: str = ""
    """Id of the input tensor that images are given as."""
    output: str = ""
    """Id of the output tensor that is taught."""
    target: TargetSpec | None = None
    activation: Literal["network", "postprocessing", "none"] = "none"
    """What turns the last layer's numbers into probabilities: the network, the description's
    postprocessing, or nothing (a regression)."""
    losses: tuple[LossSpec, ...] = ()
    """Summands of the loss; the target's own where there are none."""
    ignore_label: Literal[-1] = -1
    """Label of pixels that nobody painted."""
    patch: PatchSpec | None = None
    augmentations: tuple[AugmentationSpec, ...] = ()
    optimiser: OptimiserSpec = OptimiserSpec()
    freeze: Literal["none", "encoder"] | tuple[str, ...] = "none"
    """Parameters that stay: none, the first half of the network's layers, or patterns of names
    (as of a shell: "encoder.*")."""
    normalisation: Literal["frozen", "train"] = "frozen"
    """Whether batch normalisation keeps the statistics that it has, or goes on measuring."""
    polarity: Literal["auto", "keep"] = "auto"
    """Whether a training may begin with the network for inverted intensities ("auto": where the
    images suit that clearly better)."""
    gate: GateSpec = GateSpec()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.trainable == "no":
            if not self.why:
                raise ValueError("say why the package is not trainable ('why')")
            return self
        missing = [
            name
            for name, given in (
                ("input", self.input),
                ("output", self.output),
                ("target", self.target),
                ("patch", self.patch),
            )
            if not given
        ]
        if missing:
            raise ValueError(f"{', '.join(missing)} must be given where the package is trainable")
        return self

    def plain(self) -> dict[str, Any]:
        """As it stands in a description: what differs from the defaults, and the version."""
        return {"version": self.version, **self.model_dump(mode="json", exclude_defaults=True)}


def declared(package: ModelPackage) -> Recipe | None:
    """The recipe that a package has, None where it has none.

    Raises
    ------
    InvalidPackageError
        What stands there is no recipe, or names a tensor that the model does not have.
    """
    biozoo = (package.raw.get("config") or {}).get("biozoo") or {}
    given = biozoo.get("training") if isinstance(biozoo, Mapping) else None
    if given is None:
        return None
    try:
        recipe = Recipe.model_validate(given)
    except ValidationError as exc:
        faults = {".".join(map(str, (WHERE, *e["loc"]))): e["msg"] for e in exc.errors()}
        raise InvalidPackageError(source=f"Model '{package.id}'", fields=faults) from exc
    faults = {}
    for name, kind in (("input", "inputs"), ("output", "outputs")):
        ids = [str(t.get("id", "")) for t in package.raw.get(kind, ())]
        wanted = getattr(recipe, name)
        if recipe.trainable != "no" and wanted not in ids:
            faults[f"{WHERE}.{name}"] = f"{wanted!r} is none of the {kind}: {', '.join(ids)}"
    if faults:
        raise InvalidPackageError(source=f"Model '{package.id}'", fields=faults)
    return recipe


def schema() -> str:
    """The JSON schema of a recipe."""
    made = Recipe.model_json_schema()
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made["title"] = WHERE
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema(), end="")
