"""The command that installs an optional part of biozoo, for the way this biozoo was installed."""

from __future__ import annotations

import json
import shlex
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["install_line"]


def install_line(extra: str) -> str:
    """What to type to add an extra ("torch", "gpu", ...).

    From a checkout (an editable installation) it names the checkout and its constraints file, and
    the Python that runs; else the published distribution.

    Examples
    --------
    >>> "[torch]" in install_line("torch")
    True
    """
    checkout = _checkout()
    if checkout is None:
        return f'pip install "biozoo[{extra}]"'
    known_good = checkout / "constraints.txt"
    words = [sys.executable, "-m", "pip", "install"]
    words += ["-c", str(known_good)] if known_good.is_file() else []
    return shlex.join([*words, "-e", f"{checkout}[{extra}]"])


@cache
def _checkout() -> Path | None:
    """The folder of an editable installation, or None."""
    try:
        told = distribution("biozoo").read_text("direct_url.json")
        value = json.loads(told or "{}")
        if not value.get("dir_info", {}).get("editable"):
            return None
        return Path(unquote(urlsplit(value["url"]).path))
    except (PackageNotFoundError, ValueError, KeyError, AttributeError):
        return None
