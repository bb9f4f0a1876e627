"""What a painted class means for the last layer: which of its channels, and through what function.

Nothing is read off names: numbers are sent through what comes behind the layer, and what comes out
tells which function it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from biozoo.errors import NetworkError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biozoo_runners.instances import InstancesConfig

    #: Logits (channels, pixels) to the output's channels (channels, pixels).
    Tail = Callable[[NDArray[np.float32]], NDArray[np.float32]]

__all__ = ["Binary", "Link", "find_link"]

_PROBES = 64


@dataclass(frozen=True)
class Binary:
    """A class that one channel of the layer tells from all others.

    Attributes
    ----------
    value
        The painted value that is positive.
    channel
        Of the layer.
    sign
        -1 where a larger logit makes it less likely.
    """

    value: int
    channel: int
    sign: int


@dataclass(frozen=True)
class Link:
    """How painted values are told from one another.

    Attributes
    ----------
    classes
        What the painted values mean, 0 first.
    kind
        "sigmoid": by `binaries`, each by itself; "softmax": the largest of all channels wins.
    binaries
        One per class that is not the background; empty for softmax.
    rows
        For softmax: the channel of the layer that each painted value asks for.
    """

    classes: tuple[str, ...]
    kind: Literal["sigmoid", "softmax"]
    binaries: tuple[Binary, ...] = ()
    rows: tuple[int, ...] = ()


def find_link(
    tail: Tail,
    channels: int,
    names: tuple[str, ...],
    instances: InstancesConfig | None,
    output: str,
    *,
    semantic: bool,
) -> Link:
    """How a package's output tells classes from one another.

    Parameters
    ----------
    tail
        From the logits to the output as the package describes it.
    channels
        Of the layer.
    names
        Of the output's channels.
    instances
        How objects are made; then there are two classes, background and object.
    output
        Id of the output, for messages.
    semantic
        Whether the package says that its channels are classes: then bare logits are believed.

    Raises
    ------
    NetworkError
        It tells no classes, or in a way that is not known here.
    """
    drawn = np.random.default_rng(0).normal(0, 2, (channels, _PROBES)).astype(np.float32)
    made, logits = tail(drawn).astype(np.float64), drawn.astype(np.float64)
    binary = {
        k: found for k in range(len(made)) if (found := _sigmoid_of(made[k], logits)) is not None
    }
    largest = _softmax_of(made, logits, bare=semantic)
    if instances is not None:
        front = instances.foreground
        assert isinstance(front, int)  # `read_instances_config` made it one
        if front in binary:
            one = Binary(1, *binary[front])
            return Link(("background", "object"), "sigmoid", (one,))
        if largest and channels > 1:
            back = next(k for k in range(channels) if k != front)
            return Link(("background", "object"), "softmax", rows=(back, front))
    elif largest and channels > 1:
        return Link(names, "softmax", rows=tuple(range(channels)))
    elif len(binary) == len(made):
        objects = names if len(made) > 1 else ("object",)
        ones = tuple(Binary(k + 1, *binary[k]) for k in range(len(made)))
        return Link(("background", *objects), "sigmoid", ones)
    what = "values" if instances is None else f"values for the channel {instances.foreground}"
    raise NetworkError(
        f"Live mode learns classes, and the output '{output}' gives {what} that are no "
        "probabilities of classes (neither a sigmoid nor a softmax of its last layer). Retrain the "
        "model in full."
    )


def _sigmoid_of(made: NDArray[np.float64], logits: NDArray[np.float64]) -> tuple[int, int] | None:
    """The channel and sign whose sigmoid this is."""
    for channel, row in enumerate(logits):
        for sign in (1, -1):
            if np.allclose(made, 1 / (1 + np.exp(-sign * row)), atol=1e-3):
                return channel, sign
    return None


def _softmax_of(made: NDArray[np.float64], logits: NDArray[np.float64], *, bare: bool) -> bool:
    """Whether this is a softmax of the logits, or (where `bare`) the logits themselves."""
    if made.shape != logits.shape:
        return False
    raised = np.exp(logits - logits.max(axis=0))
    same = bare and np.allclose(made, logits, atol=1e-3)
    return same or np.allclose(made, raised / raised.sum(axis=0), atol=1e-3)
