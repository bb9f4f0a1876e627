"""A person's view of a package: its facts in plain words, as text, HTML, Markdown and JSON.

`ModelCard.of(package)` collects the facts from the package's raw description, so that a card of a
package that fails validation can still be read, and costs no import of bioimageio.spec.
`Sheet.of(package)` adds pictures of its test tensors, how to run it, whether it runs here, and how
complete the card is: what `zoo card` writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["ModelCard", "Sheet", "TensorWords", "render_markdown", "tensor_words"]

if TYPE_CHECKING:
    from .card import ModelCard
    from .markdown import render_markdown
    from .sheet import Sheet
    from .words import TensorWords, tensor_words
else:

    def __getattr__(name: str) -> object:
        from importlib import import_module

        homes = {
            "ModelCard": ".card",
            "Sheet": ".sheet",
            "TensorWords": ".words",
            "render_markdown": ".markdown",
            "tensor_words": ".words",
        }
        if name not in homes:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(homes[name], __name__), name)
