"""Retraining as something that goes on without the page: each in a process and a folder of its own.

    trainings = Trainings(home / "trainings", settings=settings, install=add)
    one = trainings.submit(package, samples, choices, owner=session)

A training is `waiting`, `running`, `paused`, and then `done`, `failed`, `cancelled` or, where its
process or its server ended, `interrupted`; what is not done can be resumed from its checkpoint. One
that is done has the gate's verdict, and where that is good a new model, to be kept or discarded.
"""

from __future__ import annotations

from .model import (
    Choices,
    Decision,
    Epoch,
    Layer,
    Progress,
    Sample,
    Seen,
    State,
    Training,
    TrainingStateError,
)
from .trainings import Trainings

__all__ = [
    "Choices",
    "Decision",
    "Epoch",
    "Layer",
    "Progress",
    "Sample",
    "Seen",
    "State",
    "Training",
    "TrainingStateError",
    "Trainings",
]
