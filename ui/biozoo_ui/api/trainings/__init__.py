"""Retraining over HTTP: whether a model can be, its routes, what is said of one, its events."""

from __future__ import annotations

from .routes import training_routes

__all__ = ["training_routes"]
