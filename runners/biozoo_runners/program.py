"""What the runner needs of a description: plain values, made once and kept in a file.

Reading a description takes bioimageio.spec, whose import alone is more than a second: half of what
a run of a small image takes. So what a run needs of a description is kept below the zoo's cache,
and the next process reads that instead. The file is named by the content of the description, the
version of bioimageio.spec and the code that made it, so it is never out of date; one that cannot be
read is made anew, and a cache that cannot be written is done without.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biozoo.errors import BiozooError

from . import instances as _instances
from . import processing as _processing
from . import sizes as _sizes
from . import statistics as _statistics
from . import steps as _steps
from . import steps_external as _steps_external
from .instances import InstancesConfig
from .processing import Processing
from .sizes import ModelGeometry

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

#: Modules whose classes and functions make a program; the builders only while it is made.
_MAKERS = (_instances, _processing, _sizes, _statistics, _steps, _steps_external)


@dataclass(frozen=True)
class Program:
    """A model's geometry, its processing, and how its objects are made (None: it makes none)."""

    geometry: ModelGeometry
    preprocessing: Processing
    postprocessing: Processing
    instances: InstancesConfig | None


def program_of(package: ModelPackage) -> Program:
    """The program of a package, from the cache or from its description.

    Raises
    ------
    InvalidPackageError
        The description is not valid.
    NoBackendError
        It holds a processing step that is not executed here.
    """
    from biozoo import Settings
    from biozoo.files import write_atomic

    kept = Settings.from_env().cache / "programs" / f"{_key(package)}.json"
    try:
        found = from_plain(json.loads(kept.read_bytes()))
        if isinstance(found, Program):
            return found
    except (OSError, ValueError, TypeError, KeyError):
        pass  # none yet, or not readable: it is made below
    made = _build(package)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(kept, json.dumps(to_plain(made)).encode())
    except (BiozooError, OSError):
        pass  # a zoo that cannot be written to is no reason not to run
    return made


def _build(package: ModelPackage) -> Program:
    descr = package.descr
    return Program(
        _sizes.geometry(descr),
        _processing.preprocessing(descr),
        _processing.postprocessing(descr),
        _instances.read_instances_config(descr),
    )


def _key(package: ModelPackage) -> str:
    """What the program depends on, as a hash."""
    return hashlib.sha256(package.rdf.read_bytes() + _code().encode()).hexdigest()[:40]


@cache
def _code() -> str:
    """The code that makes programs, as a hash."""
    here = Path(__file__)
    builders = (here.with_name(f"{name}.py") for name in ("step_builder", "network_outputs"))
    files = [here, *builders, *(Path(str(m.__file__)) for m in _MAKERS)]
    digest = hashlib.sha256(version("bioimageio.spec").encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


# ------------------------------------------------------------------------------- as plain values


def to_plain(value: Any) -> Any:
    """Frozen values as JSON has them; an object names its class under "is"."""
    if is_dataclass(value):
        named = {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
        return {"is": type(value).__name__, **named}
    if isinstance(value, InstancesConfig):
        return {"is": "InstancesConfig", **value.model_dump(mode="json")}
    if isinstance(value, Mapping):
        return {"is": "mapping", "of": {k: to_plain(v) for k, v in value.items()}}
    if isinstance(value, tuple):
        return [to_plain(v) for v in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"{value!r} cannot be kept")


def from_plain(value: Any) -> Any:
    """What `to_plain` was given.

    Raises
    ------
    TypeError, KeyError, ValueError
        For something else.
    """
    if isinstance(value, list):
        return tuple(from_plain(v) for v in value)
    if not isinstance(value, dict):
        return value
    kind = value["is"]
    if kind == "mapping":
        return {k: from_plain(v) for k, v in value["of"].items()}
    named = {k: from_plain(v) for k, v in value.items() if k != "is"}
    return _classes()[kind](**named)


@cache
def _classes() -> dict[str, type]:
    """The classes that may stand in a file, by name; nothing else is ever made from one."""
    found = {"Program": Program, "InstancesConfig": InstancesConfig}
    for module in (_processing, _sizes, _statistics, _steps, _steps_external):
        for name, cls in vars(module).items():
            if isinstance(cls, type) and is_dataclass(cls):
                found[name] = cls
    return found
