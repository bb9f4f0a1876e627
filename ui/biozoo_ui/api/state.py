"""What the routes and the pages of one server share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..jobs import Jobs
from .catalog import Catalog
from .images import ImageStore
from .runs import Runs
from .settings import ServerSettings


@dataclass(frozen=True)
class ServerState:
    """One server's settings, models, runs, images, jobs and working folder."""

    settings: ServerSettings
    catalog: Catalog
    runs: Runs
    images: ImageStore
    jobs: Jobs
    folder: Path

    @property
    def uploads(self) -> Path:
        """Where files that users send are kept until the server ends."""
        return self.folder / "uploads"

    @property
    def previews(self) -> Path:
        """Where pictures of chosen images are kept, served as /api/previews/<name>.png."""
        return self.folder / "previews"

    @property
    def samples(self) -> Path:
        """Where sample images are written."""
        return self.folder / "samples"
