"""What a target is: from what a person supplies to a network's output channels, and back.

A target is named in a recipe by its kind and options, and made by `make_target`. Its encoder says
what the channels should be for given labels and how much each pixel counts; its decoder makes the
result that a person wants from the channels. Other people's targets register in the entry-point
group ``biozoo.targets`` and inherit the tests of `biozoo_trainers.contract.TargetContract`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from biozoo.errors import UsageError

from ..labels import IGNORE, as_labels, from_scribbles
from ..making import build

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "IGNORE",
    "Activation",
    "Encoded",
    "LossTerm",
    "Supplies",
    "Target",
    "as_labels",
    "from_scribbles",
    "make_target",
]

Activation = Literal["sigmoid", "softmax", "none"]
Supplies = Literal["instances", "classes", "image", "nothing"]


@dataclass(frozen=True)
class Encoded:
    """What a network should give for one image.

    Attributes
    ----------
    target
        float32 (c, then the spatial axes): the channels after their activation.
    weight
        float32 (1 or c, then the spatial axes): how much each pixel counts, 1 being usual. 0 where
        the labels are ignored, and where ignored pixels leave the target unknown.
    """

    target: NDArray[np.float32]
    weight: NDArray[np.float32]


@dataclass(frozen=True)
class LossTerm:
    """One part of the loss that a target is taught with.

    Attributes
    ----------
    kind
        A name of the group ``biozoo.losses``.
    weight
        Factor of this part in the sum.
    channels
        The output channels it looks at, by index; None for all.
    options
        What the loss is made with.
    """

    kind: str
    weight: float = 1.0
    channels: tuple[int, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class Target(ABC):
    """Encoder and decoder between what a person supplies and a network's output channels.

    A target is made with keyword options of its own; a wrong option is a `UsageError`. It holds no
    state of the images it has seen.
    """

    name: ClassVar[str]
    """Its kind: the name in the entry-point group."""
    supplies: ClassVar[Supplies]
    """What a person gives per image: numbered objects, classes, a clean image, or nothing."""

    @property
    @abstractmethod
    def activation(self) -> Activation | tuple[Activation, ...]:
        """What turns logits into the channels: one for all, or one per channel (of 2D images)."""

    def activations(self, ndim: int) -> tuple[Activation, ...]:
        """What turns logits into each channel of images of `ndim` spatial axes."""
        one = self.activation
        return one if isinstance(one, tuple) else (one,) * len(self.channels(ndim))

    def activation_of(self, ndim: int) -> Activation | tuple[Activation, ...]:
        """As `activation`, of images of `ndim` spatial axes: one where all channels share it."""
        kinds = self.activations(ndim)
        return kinds[0] if len(set(kinds)) == 1 else kinds

    @property
    @abstractmethod
    def reach(self) -> int:
        """Pixels of context around a patch with which the patch is encoded as in the whole image.

        Encoders that look at whole objects expect none to stick out of a patch further than this;
        `needs` measures it.
        """

    def needs(self, labels: NDArray[Any]) -> int:
        """The `reach` that these labels (int, spatial axes) ask for; `reach` unless overridden."""
        return self.reach

    @abstractmethod
    def channels(self, ndim: int) -> tuple[str, ...]:
        """Names of the output channels for images of `ndim` spatial axes (2 or 3), in order."""

    @abstractmethod
    def encode(self, labels: NDArray[Any], image: NDArray[Any] | None = None) -> Encoded:
        """The channels that a network should give.

        Parameters
        ----------
        labels
            What `supplies` says. Instances and classes: int32 over the spatial axes (y x or
            z y x), negative where ignored. A clean image: float (c, then the spatial axes), NaN
            where ignored. Nothing: the image itself, alike.
        image
            The preprocessed input (c, then the spatial axes), for targets that depend on it.
        """

    def encode_inside(
        self, labels: NDArray[Any], image: NDArray[Any] | None, margin: int
    ) -> Encoded:
        """As `encode`, without the outermost `margin` pixels along each axis: these are context."""
        made = self.encode(labels, image)
        return Encoded(*(without_margin(a, margin, a.ndim - 1) for a in (made.target, made.weight)))

    @abstractmethod
    def decode(self, maps: NDArray[Any]) -> NDArray[Any]:
        """The result that a person wants.

        Parameters
        ----------
        maps
            float32 (c, then the spatial axes): channels after the activation.

        Returns
        -------
        NDArray
            Instances and classes: int32 over the spatial axes, 0 background. Images: float32
            (c, then the spatial axes).
        """

    def instances(self, output_id: str, channel_names: Sequence[str]) -> dict[str, Any] | None:
        """The entry ``config.biozoo.instances`` with which `zoo run` decodes as `decode` does.

        Parameters
        ----------
        output_id
            The output tensor with the channels.
        channel_names
            Their names in the package, in the order of `channels`.

        Returns
        -------
        dict | None
            None where the result are no objects, or `biozoo_runners.instances` cannot make them.
        """
        return None

    @abstractmethod
    def default_losses(self, ndim: int = 2) -> tuple[LossTerm, ...]:
        """The losses that suit the channels of images of `ndim` spatial axes."""


def make_target(kind: str, options: Mapping[str, Any] | None = None) -> Target:
    """The target of a recipe.

    Parameters
    ----------
    kind
        A name in the entry-point group ``biozoo.targets``.
    options
        What its class takes, by name.

    Raises
    ------
    NotFoundError
        If no target has this name.
    UsageError
        If it does not take these options.
    MissingDependencyError
        If a library that it needs is not installed.
    """
    from biozoo.plugins import load_one

    target = build(load_one("biozoo.targets", kind), f"Target '{kind}'", options or {})
    if not isinstance(target, Target):
        raise UsageError(
            f"Target '{kind}' makes a {type(target).__name__}, expected a "
            "biozoo_trainers.targets.Target. Ask its author to inherit from that."
        )
    return target


def without_margin(array: NDArray[Any], margin: int, ndim: int) -> NDArray[Any]:
    """An array without the outermost `margin` pixels along its last `ndim` axes; a view."""
    kept = (slice(margin, n - margin) for n in array.shape[array.ndim - ndim :])
    index: tuple[Any, ...] = (..., *kept)
    middle: NDArray[Any] = array[index]
    return middle


def check_channels(maps: NDArray[Any], names: Sequence[str], kind: str) -> None:
    """Raise a `UsageError` unless `maps` (c, then the spatial axes) has these channels."""
    if maps.shape[0] != len(names):
        raise UsageError(
            f"Target '{kind}' decodes {len(names)} channels ({', '.join(names)}), "
            f"the maps have {maps.shape[0]}. Give all of them, in this order."
        )
