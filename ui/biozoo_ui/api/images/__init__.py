"""Images over HTTP: opened from an upload, a path or a sample; described; sent tile by tile.

Data flows one way: a file is opened (`source`), described (`description`), reduced (`pyramid`,
`planes`), compressed and kept (`store`), and answered (`routes`). `session` says whose it is.
"""

from __future__ import annotations

from .opened import OpenedImage
from .session import Session, session_of
from .store import ImageStore

__all__ = ["ImageStore", "OpenedImage", "Session", "session_of"]
