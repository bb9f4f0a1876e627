"""Whether the person's images are the negative of what the network knows, and a start for them.

A network that finds bright nuclei on dark ground gives nothing useful for dark nuclei on bright
ground, and unlearns before it learns. But the network x -> f(c - x) is as good a start as f itself.
Both are tried on some patches; where the negative is clearly better, a last step of preprocessing
inverts what the network sees, in training as in the package that is made. The network itself stays
as it is, so it may be of any kind, and what it pads with zeros means the same as before.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import yaml

from biozoo.files import write_atomic, writing

if TYPE_CHECKING:
    from pathlib import Path

    from biozoo.package import ModelPackage

    from ..patches import Batch

__all__ = ["Pivot", "better_inverted", "inverted"]

#: The negative is taken where its loss is at most this part of the loss of the image as it is.
CLEARLY = 0.9

#: Characters of a tensor's description, by the specification.
_LONGEST = 128


@dataclass(frozen=True)
class Pivot:
    """What an image is subtracted from, and both losses."""

    value: float
    as_is: float
    inverted: float


def better_inverted(
    module: torch.nn.Module,
    batches: Sequence[Batch],
    loss: Callable[[torch.Tensor, Batch], torch.Tensor],
) -> Pivot | None:
    """The pivot with which the negative suits the network clearly better; None where it does not.

    The pivot is the sum of the lowest and highest hundredth of the pixels: background comes to lie
    where the other world's background lies, whatever the normalisation.
    """
    pixels = torch.cat([b.image.flatten() for b in batches])
    step = max(1, pixels.numel() // 200_000)
    low, high = torch.quantile(pixels[::step].float(), torch.tensor([0.01, 0.99]))
    pivot = float(low + high)
    losses = []
    with torch.no_grad():
        for turned in (False, True):
            values = [
                float(loss(module(pivot - b.image if turned else b.image).float(), b))
                for b in batches
            ]
            losses.append(sum(values) / len(values))
    if losses[1] < CLEARLY * losses[0]:
        return Pivot(pivot, *losses)
    return None


def inverted(package: ModelPackage, tensor: str, pivot: float, folder: Path) -> ModelPackage:
    """The package with one more step of preprocessing: pivot - x, before a last change of type.

    Parameters
    ----------
    tensor
        Id of the input.
    folder
        Gets the description; the other files stay where they are.

    Raises
    ------
    StorageError
        It cannot be written there.
    """
    raw = copy.deepcopy(dict(package.raw))
    old = str(raw.get("format_version", "0.5")) < "0.5"
    key = "name" if old else "id"
    [entry] = [t for t in raw["inputs"] if t[key] == tensor]
    steps = list(entry.get("preprocessing") or ())
    place = len(steps)
    while place and steps[place - 1][key] == "ensure_dtype":
        place -= 1
    steps.insert(place, {key: "scale_linear", "kwargs": {"gain": -1.0, "offset": pivot}})
    entry["preprocessing"] = steps
    told = f"{entry.get('description') or ''} (inverted by the preprocessing)".strip()
    if not old and len(told) <= _LONGEST:
        entry["description"] = told
    path = folder / "inverted" / package.rdf.name
    text = yaml.safe_dump(raw, sort_keys=False, allow_unicode=True, width=100)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text.encode())
    return replace(package, rdf=path)
