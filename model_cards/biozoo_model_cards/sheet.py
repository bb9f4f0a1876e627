"""A whole card, to keep or to send: the card, its pictures, and what only this machine can tell.

One collection of facts, written in four ways: `to_html`, `to_markdown`, `to_json`, `to_text`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .card import ModelCard
from .completeness import Completeness, completeness
from .here import Here, Made, made, runs_here
from .pictures import Picture, image_name, test_pictures
from .usage import Usage, usage

if TYPE_CHECKING:
    from biozoo import ModelPackage

__all__ = ["Sheet"]


@dataclass(frozen=True)
class Sheet:
    """Everything that a card file holds. Make it with `Sheet.of(package)`.

    Attributes
    ----------
    card
        The facts of the description.
    usage
        How to run it.
    completeness
        What the card lacks.
    pictures
        Of the test tensors, inputs first.
    here
        Whether it runs on this machine; None where nobody asked.
    made
        When, and by which version.
    root
        Folder of the package: pictures that its documentation shows are read from there.
    """

    card: ModelCard
    usage: Usage
    completeness: Completeness
    pictures: tuple[Picture, ...]
    here: Here | None
    made: Made
    root: Path

    @classmethod
    def of(cls, package: ModelPackage, *, check: bool = True, pictures: bool = True) -> Sheet:
        """The sheet of a package.

        Parameters
        ----------
        check
            Ask whether it runs on this machine; nothing is loaded for it.
        pictures
            Draw the test tensors; those that are not on this machine say so.
        """
        card = ModelCard.of(package)
        how = usage(package, card.inputs, here=card.present)
        return cls(
            card=card,
            usage=how,
            completeness=completeness(card, how.handle),
            pictures=test_pictures(package, card.inputs, card.outputs) if pictures else (),
            here=runs_here(package, how.handle) if check else None,
            made=made(),
            root=package.root,
        )

    def to_html(self) -> str:
        """One HTML file that needs no other: pictures within, no script, no request."""
        from .html import render_page

        return render_page(self)

    def to_markdown(self, *, images: str = "") -> str:
        """Markdown with the front matter of a Hugging Face model card.

        Parameters
        ----------
        images
            Folder, relative to the file, that holds what `image_files` gives; "" leaves the
            pictures out.
        """
        from .readme import render_readme

        return render_readme(self, images=images)

    def image_files(self) -> dict[str, bytes]:
        """File name -> content of every picture, as `to_markdown(images=...)` refers to them."""
        return {
            image_name(p, n): view.content for p in self.pictures for n, view in enumerate(p.views)
        }

    def to_json(self) -> dict[str, Any]:
        """The same facts as plain values; docs/model-cards.md lists the keys."""
        from .record import record

        return record(self)

    def to_text(self) -> str:
        """The card for a terminal."""
        from .text import sheet_text

        return sheet_text(self)
