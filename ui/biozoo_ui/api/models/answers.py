"""The shape of what the routes of models answer, for OpenAPI and for who reads this."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

__all__ = ["AdditionAnswer", "ModelAnswer", "ModelDetails", "ModelList"]


class BadgeAnswer(BaseModel):
    """Whether a model runs on the server's computer, why, and what to type so that it does."""

    state: Literal["runs", "needs", "trust", "no", "unknown"]
    words: str
    why: str
    todo: str


class ModelAnswer(BaseModel):
    """One model of the list; see `entries.ModelEntry`."""

    id: str
    version: str
    name: str
    description: str
    task: str
    task_label: str
    dimensions: list[str]
    takes: str
    modality: list[str]
    structure: list[str]
    license: str
    size: int | None
    size_text: str
    origin: Literal["built-in", "installed", "collection"]
    cover: str | None
    badge: BadgeAnswer
    sample: bool
    search: str


class FacetValue(BaseModel):
    """One value to filter by, and how many models have it."""

    value: str
    label: str
    count: int


class CollectionAnswer(BaseModel):
    """What is known of the public collection, and a sentence about it."""

    state: Literal["ready", "loading", "unavailable", "off"]
    note: str


class ModelList(BaseModel):
    """All models, what they can be filtered by, and the state of the collection."""

    models: list[ModelAnswer]
    facets: dict[str, list[FacetValue]]
    collection: CollectionAnswer


class TensorAnswer(BaseModel):
    """One input or output in a line."""

    id: str
    summary: str
    channels: list[str]


class CommandsAnswer(BaseModel):
    """The same as commands to type."""

    shell: str = ""
    python: str = ""
    http: str = ""


class AdditionAnswer(BaseModel):
    """A model on its way into the zoo: bytes done and in all (null where unknown)."""

    id: str
    model: str
    state: Literal["running", "done", "failed", "cancelled"]
    stopping: bool
    done: int
    total: int | None
    words: str
    error: str


class ModelDetails(ModelAnswer):
    """One model with what its description says; `addition` is the one under way."""

    inputs: list[TensorAnswer]
    outputs: list[TensorAnswer]
    facts: dict[str, str]
    documentation: str
    commands: CommandsAnswer
    addition: AdditionAnswer | None
