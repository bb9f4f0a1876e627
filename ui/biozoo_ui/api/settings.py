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
        Where it listens; off loopback a token is demanded.
    token
        Who knows it may use the server. None: everyone who reaches it, loopback only.
    max_upload
        Largest file that is taken, bytes.
    image_folders
        Within these folders images of this machine may be opened by their path; none: nowhere.
    kept_runs
        How many finished runs keep their files.
    kept_jobs
        How many ended jobs of one person are kept, with their files, also after a restart.
    loaded_models
        How many models stay loaded between runs.

    Raises
    ------
    UsageError
        For an address off loopback without a token.
    """

    zoo: Settings
    host: str = "127.0.0.1"
    port: int = 7860
    token: str | None = field(default=None, repr=False)
    max_upload: int = 8 * 2**30
    image_folders: tuple[Path, ...] = ()
    kept_runs: int = 20
    kept_jobs: int = 50
    loaded_models: int = 2

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < 12:
            raise UsageError("The token is too short to keep anyone out: use 12 characters.")
        if not self.token and not is_loopback(self.host):
            raise UsageError(
                f"The address {self.host} can be reached from other machines, and nothing would "
                "stop them from using this one. Give a token that they must know, "
                "or stay on 127.0.0.1."
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`, a name or an address."""
    if host.lower() in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
