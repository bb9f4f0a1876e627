"""What the routes of live mode are asked and answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ...jobs.model import Kind
from ...live import LiveSession, Refit
from ..asked import OnImage, page_words
from ..images.answers import ImageAnswer
from ..layers import LayerAnswer
from ..previews import SeenPart
from .pictures import Picture

SPACE = ("y", "x")


class NewLive(OnImage):
    """A model on what is seen of one image."""

    image: str
    view: SeenPart


class NewView(BaseModel):
    """Another part of the image."""

    model_config = ConfigDict(extra="forbid")

    view: SeenPart


class NewRefit(BaseModel):
    """The annotation that the last layer is to be fitted to."""

    model_config = ConfigDict(extra="forbid")

    annotation: str = Field(max_length=256)


class NewKeeping(BaseModel):
    """What the kept model is to be called; empty: after the one that was refitted."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field("", max_length=128)


class LiveLayer(LayerAnswer):
    """An overlay; `url` answers `image` and, below it, tiles as an image's.

    It is another one at another place; after a refit only the version of its image is.
    """

    url: str
    image: ImageAnswer


class KeepingAnswer(BaseModel):
    """A refitted model on its way into the zoo; `model` once it is there."""

    state: Literal["running", "done", "failed"]
    words: str
    model: str
    error: str


class LiveAnswer(BaseModel):
    """A live session as it is now.

    `classes`: what the painted values mean; a value of 1 is the first one. `pixels`: painted ones
    of each. `version`: of the annotation at the last refit. `seconds`: of the last refit by stage;
    `load_seconds` of opening the model, `features_seconds` of the features.
    """

    id: str
    model: str
    image: str
    classes: list[str]
    region: dict[str, tuple[int, int]]
    whole: bool
    refit: int
    version: int
    strokes: int | None
    pixels: dict[str, int]
    objects: int | None
    seconds: dict[str, float]
    features_seconds: float
    load_seconds: float
    memory: int
    notes: list[str]
    layers: list[LiveLayer]
    keeping: KeepingAnswer | None


def describe_live(
    session: LiveSession, refit: Refit, pictures: Mapping[str, Picture]
) -> LiveAnswer:
    """What is said of a session, as it was after this refit."""
    names = session.classes
    features = refit.features
    images = {session.image.id: session.image}
    notes = [page_words(note, images) for note in (*refit.notes, *features.notes)]
    return LiveAnswer(
        id=session.id,
        model=session.package.id,
        image=session.image.id,
        classes=list(names),
        region={a: features.region.get(a, (0, 1)) for a in ("y", "x", "z", "time")},
        whole=refit.whole,
        refit=refit.number,
        version=refit.version,
        strokes=refit.strokes,
        pixels={_name(names, value): count for value, count in refit.pixels.items()},
        objects=refit.objects,
        seconds={stage: round(spent, 4) for stage, spent in refit.seconds.items()},
        features_seconds=round(features.seconds, 3),
        load_seconds=round(session.load_seconds, 3),
        memory=session.nbytes,
        notes=list(dict.fromkeys(filter(None, notes))),
        layers=[_layer(session, refit, tensor, one) for tensor, one in pictures.items()],
        keeping=KeepingAnswer(**asdict(session.keeping)) if session.keeping else None,
    )


def _layer(session: LiveSession, refit: Refit, tensor: str, picture: Picture) -> LiveLayer:
    region, sizes = refit.features.region, picture.answer.sizes
    at: dict[str, float] = {a: region[a][0] for a in ("y", "x", "z", "time") if a in region}
    own = {"y": sizes.y, "x": sizes.x}
    covers = {a: (region[a][1] - region[a][0]) / own[a] for a in SPACE}
    kind: Kind = "labels" if tensor == "labels" else "probability"
    return LiveLayer(
        kind=kind,
        name=picture.answer.name,
        at=at,
        scale=None if set(covers.values()) == {1.0} else covers,
        url=f"/api/live/{session.id}/layers/{refit.place}/{tensor}",
        image=picture.answer,
    )


def _name(classes: tuple[str, ...], value: int) -> str:
    return classes[value] if 0 <= value < len(classes) else f"class {value}"
