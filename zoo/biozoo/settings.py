"""Where biozoo keeps its files and looks for models: one frozen value, from the environment.

| variable | meaning | default |
|---|---|---|
| BIOZOO_HOME | folder of installed models and the cache | the user's data folder (platformdirs) |
| BIOZOO_INDEX_URL | address of the collection's static index | bioimage.io's |
| BIOZOO_INDEX_DAYS | days until the cached index is asked for anew | 7 |
| BIOZOO_OFFLINE | 1: never use the network | 0 |
| BIOZOO_MAX_GB | largest package that is downloaded or unpacked | 16 |
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import UsageError

__all__ = ["INDEX_URL", "Settings"]

INDEX_URL = "https://bioimage-io.github.io/collection/index.json"


@dataclass(frozen=True)
class Settings:
    """What a zoo needs to know about its surroundings.

    Attributes
    ----------
    home
        Folder of everything biozoo writes on its own account.
    index_url
        Address of the collection's static index.
    index_days
        Age in days from which the cached index is asked for anew.
    offline
        True: the network is never used.
    max_bytes
        Largest package, unpacked, in bytes.
    max_files
        Most files of a package.
    """

    home: Path
    index_url: str = INDEX_URL
    index_days: float = 7.0
    offline: bool = False
    max_bytes: int = 16 * 2**30
    max_files: int = 10_000

    @property
    def models(self) -> Path:
        """Folder of the installed models: models/<id>/<version>/."""
        return self.home / "models"

    @property
    def cache(self) -> Path:
        """Folder of what can be had again: opened archives, the index, bioimageio.spec's cache."""
        return self.home / "cache"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """The settings of this process, read anew at each call.

        Raises
        ------
        UsageError
            Where a variable that should be a number is none.
        """
        env = os.environ if environ is None else environ
        return cls(
            home=_home(env),
            index_url=env.get("BIOZOO_INDEX_URL") or INDEX_URL,
            index_days=_number(env, "BIOZOO_INDEX_DAYS", 7.0),
            offline=env.get("BIOZOO_OFFLINE", "").lower() in ("1", "true", "yes"),
            max_bytes=int(_number(env, "BIOZOO_MAX_GB", 16.0) * 2**30),
        )


def _home(env: Mapping[str, str]) -> Path:
    if given := env.get("BIOZOO_HOME"):
        return Path(given).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("biozoo", appauthor=False))


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e6:
        raise UsageError(
            f"{name}={text!r} is not usable: expected a number from 0 to 1000000. "
            f"Correct or unset it; without it {default:g} is used."
        )
    return value
