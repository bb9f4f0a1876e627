"""What one server is told: which zoo, where it listens, who may come in, how much it keeps."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from biozoo.errors import UsageError

if TYPE_CHECKING:
    from biozoo import Settings

LOOPBACK_NAMES = ("localhost", "ip6-localhost")


@dataclass(frozen=True)
class ServerSettings:
    """Settings of one server.

    Attributes
    ----------
    zoo
        Which models there are.
    host, port
        Where it listens; off loopback a token or users are demanded.
    token
        Who knows it may use the server; beside users it is for programs. Without both: everyone
        who reaches it, loopback only.
    users
        The list of those who may sign in (`biozoo_ui.api.users`).
    max_upload
        Largest file that is taken, bytes.
    max_kept
        How much of one session's uploads is kept at a time, bytes; None: four of the largest.
    keep_hours
        After so many hours without a look at it an image is forgotten, and an upload removed.
    image_folders
        Within these folders images of this machine may be opened by their path; none: nowhere.
    kept_jobs
        How many ended jobs of one person are kept, with their files, also after a restart.
    loaded_models
        How many models stay loaded between runs.

    Raises
    ------
    UsageError
        For an address off loopback without a token or users, and for limits that cannot be.
    """

    zoo: Settings
    host: str = "127.0.0.1"
    port: int = 7860
    token: str | None = field(default=None, repr=False)
    users: Path | None = None
    max_upload: int = 8 * 10**9
    max_kept: int | None = None
    keep_hours: float = 24.0
    image_folders: tuple[Path, ...] = ()
    kept_jobs: int = 50
    loaded_models: int = 2

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < 12:
            raise UsageError("The token is too short to keep anyone out: use 12 characters.")
        if not self.token and not self.users and not is_loopback(self.host):
            raise UsageError(
                f"The address {self.host} can be reached from other machines, and nothing would "
                "stop them from using this one. Name a list of users (--users FILE; zoo user add "
                "makes one), give a token that they must know (--token), or stay on 127.0.0.1."
            )
        if self.max_upload < 1 or (self.max_kept is not None and self.max_kept < self.max_upload):
            raise UsageError(
                "Uploads need a limit above 0, and one session must be able to keep one of the "
                "largest."
            )
        if not self.keep_hours > 0:
            raise UsageError(f"Images cannot be kept for {self.keep_hours:g} hours. Give more.")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`, a name or an address."""
    if host.lower() in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
