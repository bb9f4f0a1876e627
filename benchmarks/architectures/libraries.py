"""Libraries that pip does not install beside this project's releases.

Their releases ask for other versions of torch or of bioimageio.spec than the ones here, or for
compiled packages that the networks do not need. `make coverage` puts them into a folder of their
own without their dependencies (`libraries.txt` lists them); this module makes them importable.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

__all__ = ["FOLDER", "make_importable"]

#: Where `make coverage` installs them.
FOLDER = Path(__file__).resolve().parents[2] / "build" / "coverage" / "libraries"

#: Packages whose `__init__` imports what is not here (bioimageio.spec 0.5.3, python-elf): they are
#: used as plain folders of modules. The files of the networks are as they were published.
PLAIN = ("biapy", "biapy.models", "torch_em", "torch_em.model")


def make_importable(folder: Path = FOLDER) -> None:
    """Put the folder behind everything that is installed, and open `PLAIN` packages."""
    if not folder.is_dir():
        return
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    for name in PLAIN:
        place = folder.joinpath(*name.split("."))
        top = name.partition(".")[0]
        found = PathFinder.find_spec(top)
        own = found is not None and str(folder) not in str(found.origin)
        if name in sys.modules or own or not place.is_dir():
            continue
        module = ModuleType(name)
        module.__path__ = [str(place)]
        sys.modules[name] = module
