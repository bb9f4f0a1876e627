"""A refitted head as a package: the parent's graph with another last layer, proven.

The proof compares the new graph with what live mode showed: the features, the layer on them, and
what comes behind it, each run by itself. No torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biozoo.summary import slug
from biozoo_converters.networks.network import Network

from ..child import ChildFacts as Facts
from ..child import pack_child
from ..lineage import LIVE_HEAD, Ancestor, Lineage, Round

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biozoo_converters.conversion.base import Attempt

    from .head import Head
    from .model import LiveModel

__all__ = ["ChildFacts", "write_child"]

STRATEGY = "the last layer put into the parent's graph"

LIMITS = (
    "Its last layer was fitted to a few strokes on one person's images and measured on nothing. On "
    "other images it may be worse than the model it was made from: look before you trust it."
)


@dataclass(frozen=True)
class ChildFacts:
    """What a person says of the package that keeps a refitted head.

    Attributes
    ----------
    name
        Shown in lists; "" makes one from the parent's.
    id
        Of the package; "" makes one from the name, else from the file's.
    author
        Added to the parent's authors, "" adds nobody.
    strokes
        Strokes that were painted, None where not counted.
    images
        Digests (sha256) of the images that were painted on, for the lineage.
    """

    name: str = ""
    id: str = ""
    author: str = ""
    strokes: int | None = None
    images: tuple[str, ...] = ()


class HeadNetwork(Network):
    """A live model with a head as the network that a package is proven by."""

    format = "onnx"

    def __init__(self, live: LiveModel, head: Head) -> None:
        self._live, self._head = live, head
        self.name = f"{live.package.id}, last layer refitted"
        self.input_names = live.input_ids
        self.output_names = tuple(t.id for t in live.outputs)
        self.sha256 = hashlib.sha256(head.weight.tobytes() + head.bias.tobytes()).hexdigest()

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Features, head and what is behind it, one after the other."""
        given = dict(zip(self.input_names, inputs, strict=True))
        made = self._live.run_network(given, self._head)
        return [made[name] for name in self.output_names]

    def graph(self) -> bytes:
        """The parent's graph with this head."""
        return self._live.with_head(self._head)


def write_child(live: LiveModel, head: Head, target: Path, facts: ChildFacts) -> Path:
    """Write a refitted head as a package; see `LiveModel.child`."""
    network = HeadNetwork(live, head)
    pack_child(
        live.package, network, lambda _: _attempts(network), _facts(live, head, facts), target
    )
    return target


def _attempts(network: HeadNetwork) -> Iterator[Attempt]:
    from biozoo_converters.conversion.base import Attempt
    from biozoo_converters.conversion.to_onnx import NAME, onnx_entry

    def make(folder: Path) -> dict[str, Any]:
        (folder / NAME).write_bytes(network.graph())
        return onnx_entry(folder, NAME)

    yield Attempt(STRATEGY, make)


# ------------------------------------------------------------------------------------------- facts


def _facts(live: LiveModel, head: Head, facts: ChildFacts) -> Facts:
    """What is written into the package."""
    pixels = sum(head.pixels.values())
    said: dict[str, Any] = {"pixels": pixels, "channels": list(head.refitted)}
    if facts.strokes is not None:
        said["strokes"] = facts.strokes
    made = Round(LIVE_HEAD, Ancestor.of(live.package), trained=tuple(facts.images), facts=said)
    painted = ", ".join(f"{n:,} of {live.classes[v]}" for v, n in head.pixels.items())
    how = (
        f"Made from `{live.package}` in live mode, with biozoo: its last layer was refitted to "
        f"{_strokes(facts)} ({painted} pixels). Everything before that layer is the parent's."
    )
    if head.refitted:
        how += f" Channels that differ from the parent's: {', '.join(head.refitted)}."
    if head.instances != live.parent.instances:
        how += (
            " Objects are made of the foreground alone: the parent's own way to tell them apart "
            "did not fit the image."
        )
    return Facts(
        lineage=Lineage.of(live.package).then(made),
        name=facts.name or f"{live.package.raw['name'][:112]} - refitted",
        id=facts.id or slug(facts.name),
        author=facts.author,
        instances=_instances(live, head),
        done=f"Its last layer was refitted to {_strokes(facts)}.",
        limits=LIMITS,
        text=("## Live mode\n\n" + how, "## Limits\n\n" + LIMITS),
    )


def _strokes(facts: ChildFacts) -> str:
    if facts.strokes is None:
        return "painted pixels"
    return f"{facts.strokes} stroke{'' if facts.strokes == 1 else 's'}"


def _instances(live: LiveModel, head: Head) -> dict[str, Any] | None:
    """`config.biozoo.instances` where it differs from the parent's, channels by their names."""
    if head.instances is None or head.instances == live.parent.instances:
        return None
    made: dict[str, Any] = head.instances.model_dump(exclude_none=True)
    for name in ("foreground", "distance", "boundary"):
        if isinstance(made.get(name), int) and made[name] < len(live.channels):
            made[name] = live.channels[made[name]]
    return made
