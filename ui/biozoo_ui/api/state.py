"""What the routes and the pages of one server share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..jobs import Jobs
from ..jobs.previews import Previews
from .images import ImageStore
from .models import Additions, Catalog
from .settings import ServerSettings


@dataclass(frozen=True)
class ServerState:
    """One server's settings, models, images, jobs, previews and working folder."""

    settings: ServerSettings
    catalog: Catalog
    additions: Additions
    images: ImageStore
    jobs: Jobs
    previews: Previews
    folder: Path
