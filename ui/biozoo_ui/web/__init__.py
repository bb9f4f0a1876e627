"""The web pages: Gradio over the routes of `biozoo_ui.api`. `serve` starts them."""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["serve"]

if TYPE_CHECKING:
    from .server import serve
else:

    def __getattr__(name: str) -> object:
        if name == "serve":
            from .server import serve

            return serve
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
