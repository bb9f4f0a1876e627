"""Annotations over HTTP: begun on an image, edited stroke by stroke, sent tile by tile."""

from __future__ import annotations

from .routes import annotation_routes

__all__ = ["annotation_routes"]
