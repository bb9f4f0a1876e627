"""What may be asked of a training, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from biozoo.package import ModelPackage
    from biozoo_runners.instances import InstancesConfig

    from ..network import Differentiable

__all__ = ["Epoch", "Outcome", "Precision", "TrainOptions", "Trained"]

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Outcome = Literal["done", "early", "cancelled"]


@dataclass(frozen=True)
class TrainOptions:
    """What a person may choose; None takes the recipe's value.

    Attributes
    ----------
    steps, batch, patch, learning_rate
        In place of the recipe's; `patch` in pixels by axis id.
    seed
        Start of all random numbers. On the CPU the same seed, data and number of threads give the
        same weights.
    device, devices
        "auto", "cpu", "cuda" or "cuda:1", and how many of them. With several each takes a batch of
        its own.
    precision
        Of the forward pass: "32-true", "bf16-mixed", "16-mixed".
    threads
        CPU threads; None takes the usable cores.
    patience
        Epochs in a row with a score clearly below the best after which it ends; 0: never early.
    validation
        Part of the training images that is kept to look at the score between epochs; none with
        fewer than `training.validation.LEAST` images.
    epoch
        Steps between two looks, and between two checkpoints; None: a tenth of all, 10 to 100.
    """

    steps: int | None = None
    batch: int | None = None
    patch: Mapping[str, int] | None = None
    learning_rate: float | None = None
    seed: int = 0
    device: str = "auto"
    devices: int = 1
    precision: Precision = "32-true"
    threads: int | None = None
    patience: int = 6
    validation: float = 0.15
    epoch: int | None = None


@dataclass(frozen=True)
class Epoch:
    """One point of the curves.

    Attributes
    ----------
    number, step
        Epochs and steps done.
    loss, losses
        Means over the epoch's steps: of the sum, and of each part before its factor.
    score
        On the validation images with the averaged weights; None where there are none.
    seconds
        Of training since the beginning, all parts of a training that was stopped added up.
    """

    number: int
    step: int
    loss: float
    score: float | None
    learning_rate: float
    seconds: float
    losses: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """What a training gave.

    Attributes
    ----------
    package
        The description that the trained network works with: its parent's, with an inverting step
        of preprocessing where the images are the negative of what the network knew. That one lies
        in the training's folder.
    inverted
        Whether it has such a step.
    differentiable
        The trained network (averaged weights), on the CPU in evaluation mode.
    before
        Values of `module` before the training, state-dict name -> tensor on the CPU: the parent's.
    metric
        What `Epoch.score` is, higher is better.
    outcome
        "done", "early" (it had become worse) or "cancelled".
    steps, seconds
        Done in all, over all parts of the training.
    notes
        What the person should know.
    parameters_changed
        How many numbers differ from the parent's.
    rule
        How objects are made of the trained network's maps: the package's rule (or the target's)
        with the seed threshold and smoothing that suit the images learned from; channels by
        number. None where there is no such rule.
    """

    package: ModelPackage
    inverted: bool
    differentiable: Differentiable
    before: Mapping[str, Any]
    history: tuple[Epoch, ...]
    metric: str
    outcome: Outcome
    steps: int
    seconds: float
    notes: tuple[str, ...]
    parameters_changed: int
    rule: InstancesConfig | None = None

    @property
    def module(self) -> Any:
        """`torch.nn.Module` from inputs to logits of the target output."""
        return self.differentiable.module
