"""Live mode over HTTP: its routes, and its overlays as images that lie in memory."""

from __future__ import annotations

from .routes import live_routes

__all__ = ["live_routes"]
