"""Images over HTTP: opened from an upload, a path or a sample; described; sent tile by tile.

Data flows one way: a file is opened (`source`), described (`description`), reduced (`pyramid`,
`planes`), compressed and kept (`store`), and answered (`routes`). `session` says whose it is.
"""

from __future__ import annotations

from .session import Session, session_of
from .store import ImageStore, OpenedImage

__all__ = ["ImageStore", "OpenedImage", "Session", "session_of"]
