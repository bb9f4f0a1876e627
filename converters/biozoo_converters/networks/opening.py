"""Opens the weights of a package for a comparison, and says which files they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from biozoo import rdf as rdfs
from biozoo.consent import is_trusted
from biozoo.errors import BiozooError
from biozoo.files import sha256_of

if TYPE_CHECKING:
    from biozoo.package import ModelPackage
    from biozoo_runners.base import Backend

__all__ = ["open_weights", "runs_on", "weights_files", "with_weights"]


def open_weights(
    package: ModelPackage, weights_format: str, *, backend: str | None = None, device: str = "cpu"
) -> Backend:
    """The package's weights of one format, ready to run.

    Raises
    ------
    NoBackendError, DeviceError, UntrustedCodeError, BackendError, MissingDependencyError
        They cannot run here, or cannot be loaded.
    """
    from biozoo_runners.devices import detect
    from biozoo_runners.pipeline import known_backends
    from biozoo_runners.selection import Wish, open_selected, select

    wish = Wish(device, weights_format, None, backend)
    trusted = is_trusted(package)
    chosen = select(package, detect(), wish, *known_backends(), trusted=trusted)
    return open_selected(package, chosen, wish)[0]


def runs_on(opened: Backend) -> str:
    """``onnxruntime 1.32.0``, with the device where it is not the CPU."""
    info = opened.info
    where = "" if info.device == "cpu" else f" on {info.device}"
    return f"{info.backend} {info.version}{where}"


def with_weights(package: ModelPackage, weights_format: str, weights: Path | None) -> ModelPackage:
    """The package with another file of its folder as the weights of this format."""
    if weights is None:
        return package
    name = weights.resolve().relative_to(package.root.resolve()).as_posix()
    entry = {**package.raw["weights"].get(weights_format, {}), "source": name}
    entry["sha256"] = sha256_of(weights)
    other = replace(package)
    other.__dict__["raw"] = {
        **package.raw,
        "weights": {**package.raw["weights"], weights_format: entry},
    }
    return other


def weights_files(package: ModelPackage, weights_format: str) -> dict[str, str]:
    """Source -> sha256, as they are now, of all files that make up one weights format.

    The weights file is the first. A file that is not there has the sha256 "".
    """
    found: dict[str, str] = {}
    entry = package.raw["weights"].get(weights_format) or {}
    for ref in rdfs.file_refs({"weights": {weights_format: entry}}):
        if ref.field.endswith(".dependencies"):
            continue
        try:
            found[ref.source] = sha256_of(package.path(ref.source))
        except (BiozooError, OSError):
            found[ref.source] = ""
    return found
