"""What a run of a training is given, and what it gives back: maybe to another process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import Epoch, Outcome, TrainOptions

if TYPE_CHECKING:
    from biozoo.package import ModelPackage
    from biozoo_runners.instances import InstancesConfig
    from biozoo_runners.prepare import Channel

    from ..hooks import Hooks
    from ..network import Differentiable
    from ..pairs import Pair
    from ..recipe import Recipe
    from .control import Control

__all__ = ["Job", "Made"]


@dataclass(frozen=True)
class Job:
    package: ModelPackage
    recipe: Recipe
    pairs: tuple[Pair, ...]
    folder: Path
    options: TrainOptions
    channel: Channel | None
    hooks: Hooks
    control: Control
    resume: bool
    network: Differentiable


@dataclass(frozen=True)
class Made:
    """What a run gives its caller, who may be another process."""

    values: dict[str, Any]
    history: tuple[Epoch, ...]
    metric: str
    outcome: Outcome
    step: int
    seconds: float
    notes: tuple[str, ...]
    rule: InstancesConfig | None
    pivot: float | None
