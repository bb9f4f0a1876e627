"""What a Keras weights file holds, read without Keras and before it.

A ``.keras`` zip has the network as JSON in `config.json`, an HDF5 file in the attribute
`model_config`. Looking at it first makes a damaged file, one without a network, and one whose code
nobody allowed an error of its own within a second, before a framework is imported.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biozoo.archive import members
from biozoo.errors import UnsafeArchiveError
from biozoo.keras_code import MAX_CONFIG_BYTES, layers_of

from ..isolated.executor import NotFitting

__all__ = ["Network", "check_layers", "differs_on_torch", "read_network"]

_DAMAGED = "is damaged or cut off. Run `zoo verify` on the model, and get it again"
_HDF5 = b"\x89HDF\r\n\x1a\n"

#: What the numbers of a network may take when they are unpacked, and as how many files.
_MAX_BYTES, _MAX_FILES = 64 * 2**30, 1000


@dataclass(frozen=True, slots=True)
class Network:
    """A network as its file describes it.

    Attributes
    ----------
    path
        The file, under a name that Keras takes.
    config
        The parsed description.
    written_by
        Version of Keras that wrote the file, "" where it does not say.
    """

    path: Path
    config: Mapping[str, Any]
    written_by: str

    @property
    def hdf5(self) -> bool:
        """Whether it is the older format."""
        return self.path.suffix != ".keras"


def read_network(path: Path, scratch: Path) -> Network:
    """Look into a weights file.

    Raises
    ------
    NotFitting
        It is no such file, is damaged, or holds no network.
    """
    if zipfile.is_zipfile(path):
        config, version = _in_zip(path)
        return Network(_named(path, (".keras",), scratch), _parsed(config, path), version)
    with path.open("rb") as file:
        start = file.read(len(_HDF5))
    if start == _HDF5:
        config, version = _in_hdf5(path)
        return Network(_named(path, (".h5", ".hdf5"), scratch), _parsed(config, path), version)
    if path.suffix == ".keras" or start.startswith(b"PK"):
        raise NotFitting(f"the .keras file {_DAMAGED}.")
    raise NotFitting(
        "it is neither a .keras zip nor an HDF5 file, or damaged. Run `zoo verify` on the model, "
        "and get it again."
    )


def check_layers(path: Path, allowed: Collection[str]) -> None:
    """Refuse layers that are code and are not those that were allowed.

    Parameters
    ----------
    path
        The weights file.
    allowed
        sha256 of the networks whose code may run.

    Raises
    ------
    NotFitting
        The file is not the one that was looked at before.
    """
    for layer in layers_of(path):
        if layer.sha256 not in allowed:
            raise NotFitting(
                f"{layer.name} ({layer.class_name}) is code that nobody has allowed; the file was "
                "changed after it had been looked at. It was not loaded."
            )


def differs_on_torch(config: Mapping[str, Any]) -> str:
    """A layer that Keras computes otherwise on torch than on TensorFlow, in words; "" for none.

    Measured with Keras 3.15: "same" padding of an average repeats the border where TensorFlow
    leaves it out, and torch's bicubic interpolation has another kernel.
    """
    for kind, layer in _layers(config):
        if kind.startswith(("AveragePooling", "AvgPool")) and layer.get("padding") == "same":
            pool, strides = _sizes(layer.get("pool_size")), _sizes(layer.get("strides"))
            symmetric = set(strides) == {1} and all(n % 2 for n in pool)
            if max(pool, default=3) > 2 and not symmetric:
                return f"layer '{layer.get('name')}' ({kind} with padding 'same')"
        if kind in ("UpSampling2D", "Resizing") and layer.get("interpolation") == "bicubic":
            return f"layer '{layer.get('name')}' ({kind}, bicubic)"
    return ""


# ------------------------------------------------------------------------------------------ files


def _in_zip(path: Path) -> tuple[bytes, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = members(archive, name=path.name, max_bytes=_MAX_BYTES, max_files=_MAX_FILES)
            if "config.json" not in names:
                raise NotFitting(
                    "the zip holds no network (config.json), so it is no .keras file. Ask the "
                    "package's author."
                )
            with archive.open(names["config.json"]) as member:
                config = member.read(MAX_CONFIG_BYTES + 1)
            version = ""
            if "metadata.json" in names and names["metadata.json"].file_size < MAX_CONFIG_BYTES:
                version = _version(archive.read(names["metadata.json"]))
    except UnsafeArchiveError as exc:
        raise NotFitting(exc.message) from exc
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile) as exc:
        raise NotFitting(f"the .keras file {_DAMAGED} ({exc}).") from exc
    return config, version


def _in_hdf5(path: Path) -> tuple[bytes, str]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            config, version = file.attrs.get("model_config"), file.attrs.get("keras_version", "")
    except (OSError, KeyError, ValueError, RuntimeError) as exc:
        raise NotFitting(f"the HDF5 file {_DAMAGED} ({exc}).") from exc
    if config is None:
        raise NotFitting(
            "the HDF5 file holds weights and no network (no model_config), so nothing can be "
            "built from it. Ask the package's author to save the whole model: model.save(...)."
        )
    text = config.encode() if isinstance(config, str) else bytes(config)
    return text, version.decode() if isinstance(version, bytes) else str(version)


def _version(metadata: bytes) -> str:
    try:
        return str(json.loads(metadata)["keras_version"])[:40]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""


def _parsed(config: bytes, path: Path) -> Mapping[str, Any]:
    try:
        if len(config) > MAX_CONFIG_BYTES:
            raise ValueError(f"larger than {MAX_CONFIG_BYTES / 2**20:.0f} MB")
        network = json.loads(config)
        if not isinstance(network, dict):
            raise ValueError("no mapping")
    except (ValueError, RecursionError) as exc:
        raise NotFitting(
            f"its description of the network cannot be read ({exc}). Ask the package's author."
        ) from exc
    if network.get("class_name") == "Sequential" and isinstance(network.get("config"), list):
        raise NotFitting(
            "it is a Sequential model as Keras before 2.2.3 wrote it, which Keras 3 does not read. "
            "Ask its author for ONNX weights, or take other weights of the package with --weights."
        )
    return network


def _named(path: Path, suffixes: tuple[str, ...], scratch: Path) -> Path:
    """The file under a name by which Keras knows its format."""
    if path.name.endswith(suffixes):
        return path
    return Path(shutil.copyfile(path, scratch / f"weights{suffixes[0]}"))


# ----------------------------------------------------------------------------------------- layers


def _layers(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Class and settings of every part of a network, whatever it is nested in."""
    stack: list[Any] = [config]
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            stack += value
        elif isinstance(value, dict):
            kind, settings = value.get("class_name"), value.get("config")
            if isinstance(kind, str) and isinstance(settings, dict):
                yield kind, settings
            stack += value.values()


def _sizes(value: Any) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [v for v in values if isinstance(v, int)]
