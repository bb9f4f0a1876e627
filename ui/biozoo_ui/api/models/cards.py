"""A model's card for the page: the fragment, and where its pictures are served."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .entries import COVER_TYPES

if TYPE_CHECKING:
    from biozoo import ModelPackage
    from biozoo_model_cards.pictures import Picture

__all__ = ["card_fragment", "details", "package_picture", "test_pictures"]


def card_fragment(package: ModelPackage) -> str:
    """The card as a piece of HTML; all words of the package are escaped or sanitized.

    Addresses in it are relative to the server's root.
    """
    from biozoo_model_cards import ModelCard

    card = ModelCard.of(package)
    own = f"api/models/{quote(package.id, safe='')}"

    def picture(path: str) -> str | None:
        if package_picture(package.root, path) is None:
            return None
        return f"{own}/picture?path={quote(path)}"

    def drawn(tensor: str, n: int) -> str:
        version = quote(package.version or "")
        return f"{own}/test-picture?tensor={quote(tensor)}&n={n}&v={version}"

    pictures = test_pictures(package) if card.present else ()
    return card.to_html(image_url=picture, pictures=pictures, picture_url=drawn)


def details(package: ModelPackage) -> dict[str, Any]:
    """What the route of one model tells beyond its entry."""
    from biozoo_model_cards import ModelCard
    from biozoo_model_cards.usage import usage

    card = ModelCard.of(package)
    how = usage(package, card.inputs, here=card.present)
    return {
        "inputs": [_tensor(t) for t in card.inputs],
        "outputs": [_tensor(t) for t in card.outputs],
        "facts": dict(card.facts),
        "documentation": card.documentation,
        "commands": {"shell": how.shell, "python": how.python, "http": how.http},
    }


def _tensor(words: Any) -> dict[str, Any]:
    return {"id": words.id, "summary": words.summary, "channels": list(words.channels)}


def test_pictures(package: ModelPackage) -> tuple[Picture, ...]:
    """Pictures of a package's test tensors; those of the last few packages are kept."""
    changed = package.rdf.stat().st_mtime_ns
    return _test_pictures(package.root, package.rdf, package.origin, changed)


@lru_cache(maxsize=8)
def _test_pictures(root: Path, rdf: Path, origin: Any, changed: int) -> tuple[Picture, ...]:
    from biozoo import ModelPackage
    from biozoo_model_cards import ModelCard
    from biozoo_model_cards.pictures import test_pictures

    if origin == "installed":  # its record knows what files of an address are called here
        package = ModelPackage.from_record(root, origin=origin)
    else:
        package = ModelPackage.from_folder(root, rdf=rdf, origin=origin)
    card = ModelCard.of(package)
    return test_pictures(package, card.inputs, card.outputs)


def package_picture(root: Path, relative: str) -> Path | None:
    """A picture inside a package folder, None for anything else."""
    from biozoo.rdf import safe_relative

    inside = safe_relative(relative)
    if inside is None:
        return None
    path = (root / inside).resolve()
    if not path.is_relative_to(root.resolve()) or path.suffix.lower() not in COVER_TYPES:
        return None
    return path if path.is_file() else None
