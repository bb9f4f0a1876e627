"""The models of a server: the list with its filters, cards, and models being added.

`Catalog` knows every model, `Additions` brings one into the zoo, `model_routes` serves both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from biozoo.errors import BiozooError

from .additions import Addition, Additions, weights_sizes
from .badges import Badge
from .catalog import Catalog, collection_name
from .entries import ModelEntry
from .routes import model_routes

if TYPE_CHECKING:
    from biozoo import Settings

__all__ = [
    "Addition",
    "Additions",
    "Badge",
    "Catalog",
    "ModelEntry",
    "additions_of",
    "model_routes",
]


def additions_of(catalog: Catalog, settings: Settings) -> Additions:
    """Additions to one zoo, of models that its catalog lists."""

    def name(model: str) -> str:
        found = catalog.collection.find(model)
        if found is None:
            return catalog.package(model).id
        return collection_name(found)

    def sizes(model: str) -> dict[str, int]:
        try:
            return weights_sizes(catalog.described(model))
        except BiozooError:  # adding it will tell why
            return {}

    return Additions(settings, name=name, sizes=sizes)
