"""What the routes and the pages of one server share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..annotations import Annotations
from ..jobs import Jobs
from ..jobs.previews import Previews
from ..live import LiveSessions
from ..trainings import Trainings
from .images import ImageStore
from .models import Additions, Catalog
from .settings import ServerSettings


@dataclass(frozen=True)
class ServerState:
    """One server's settings, models, images, annotations, jobs, previews, live sessions,
    trainings and working folder.
    """

    settings: ServerSettings
    catalog: Catalog
    additions: Additions
    images: ImageStore
    annotations: Annotations
    jobs: Jobs
    previews: Previews
    live: LiveSessions
    trainings: Trainings
    folder: Path
