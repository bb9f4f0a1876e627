"""Where live mode and trainings meet a server's annotations and its models."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from biozoo import Zoo
from biozoo.errors import UsageError
from biozoo.summary import slug

from ..annotations.model import AXES
from ..jobs import JobImage
from ..live import LiveSession, Painted
from ..trainings.model import Hold, LabelsKind

if TYPE_CHECKING:
    from biozoo import ModelPackage
    from biozoo_trainers.live import ChildFacts

    from ..jobs.region import Range
    from .state import ServerState


class Learning:
    """What is painted, and where new models go, as the routes ask for them."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._zoo = Zoo(state.settings.zoo)

    def painted(self, annotation_id: str, owner: str, region: Mapping[str, Range]) -> Painted:
        """The scribbles on a region of an image."""
        found = self._state.annotations.get(annotation_id, owner)
        if found.facts.kind != "classes":
            raise UsageError(
                "Live mode learns from scribbles, and this annotation holds whole objects. Choose "
                "scribbles to paint, or retrain with the objects."
            )
        version = found.version
        data = found.read({axis: r for axis, r in region.items() if axis in AXES})
        if "time" in data.dims:
            data = data.isel(time=0)
        return Painted(data.values, version, found.facts.done)

    def annotation(self, annotation_id: str, owner: str) -> tuple[JobImage, LabelsKind, Hold]:
        """What is painted, as an image of labels, and how to keep it from changing."""
        found = self._state.annotations.get(annotation_id, owner)
        return JobImage(found.path, name="painted"), found.facts.kind, found.still

    def install(self, package: Path) -> ModelPackage:
        """Add a package to the zoo."""
        return self._zoo.add(package)

    def facts(self, session: LiveSession, name: str) -> ChildFacts:
        """What is said of a model that live mode made."""
        from biozoo_trainers.live import ChildFacts

        called, model_id = self.call(session.package, name, "refitted")
        return ChildFacts(name=called, id=model_id, strokes=session.current.strokes)

    def call(self, parent: ModelPackage, name: str, how: str = "retrained") -> tuple[str, str]:
        """Name and id of a model that is made of this one; no other model has the id.

        The name is "" where nobody chose one: it then follows from the parent's.
        """
        called = model_name(name, parent.summary.name)
        taken = {*self._state.catalog.packages(), *self._state.trainings.claimed()}
        wanted = base = slug(called) or f"{slug(parent.id)}-{how}"
        number = 1
        while wanted in taken:
            number += 1
            wanted = f"{base}-{number}"
        return called, wanted


def model_name(wanted: str, parent: str) -> str:
    """A wished name as the specification takes it: Latin letters, digits and _+-(), 5 to 128 long.

    >>> model_name("Zellen, blau!", "Nuclei"), model_name("Mine", "Nuclei")
    ('Zellen blau', 'Mine - Nuclei')
    """
    latin = unicodedata.normalize("NFKD", wanted).encode("ascii", "ignore").decode()
    kept = " ".join(re.sub(r"[^A-Za-z0-9_+() -]", " ", latin).split())
    if 0 < len(kept) < 5:
        kept = f"{kept} - {model_name(parent, 'model')}"
    return kept[:128].rstrip()
