"""The folder of one server for what goes with it: uploads, decoded pictures, coarse levels."""

from __future__ import annotations

import shutil
from pathlib import Path

from biozoo.closing import Closing
from biozoo.files import writing

from ..jobs.servers import Server

_PREFIX = "server-"


class WorkingFolder(Closing):
    """A new folder below `cache`, removed when it is closed; those of servers that were killed are
    removed now.

    Raises
    ------
    StorageError
        It cannot be made.
    """

    def __init__(self, cache: Path) -> None:
        self._server = Server(cache / "servers")
        self.path = cache / f"{_PREFIX}{self._server.id}"
        for other in cache.glob(f"{_PREFIX}*"):
            if not self._server.lives(other.name.removeprefix(_PREFIX)):
                shutil.rmtree(other, ignore_errors=True)
        with writing(cache):
            self.path.mkdir(mode=0o700)  # other people's images

    def close(self) -> None:
        """Remove the folder; may be called twice."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._server.close()
