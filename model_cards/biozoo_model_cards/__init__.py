"""A person's view of a package: its facts in plain words, as text and as HTML.

`ModelCard.of(package)` collects the facts from the package's raw description, so that a card of a
package that fails validation can still be read, and costs no import of bioimageio.spec.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["ModelCard", "TensorWords", "render_markdown", "tensor_words"]

if TYPE_CHECKING:
    from .card import ModelCard
    from .markdown import render_markdown
    from .words import TensorWords, tensor_words
else:

    def __getattr__(name: str) -> object:
        from importlib import import_module

        homes = {
            "ModelCard": ".card",
            "TensorWords": ".words",
            "render_markdown": ".markdown",
            "tensor_words": ".words",
        }
        if name not in homes:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(homes[name], __name__), name)
