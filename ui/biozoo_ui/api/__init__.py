"""The HTTP routes and what stands behind them: catalog, runs, previews. Gradio is mounted last.

`create_app(settings)` is the factory; nothing here is global.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["ServerSettings", "create_app", "serving"]

if TYPE_CHECKING:
    from .app import create_app
    from .embedding import serving
    from .settings import ServerSettings
else:

    def __getattr__(name: str) -> object:
        if name == "create_app":
            from .app import create_app

            return create_app
        if name == "ServerSettings":
            from .settings import ServerSettings

            return ServerSettings
        if name == "serving":
            from .embedding import serving

            return serving
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
