"""What of a package is its author's code: what it is, where it stands, and its text.

Three things are: the architecture of a `pytorch_state_dict` (a file of the package, or a class of
a library), a `custom` processing step, and in Keras weights a Lambda layer or a layer that is not
of Keras itself (see `biozoo.keras_code`). `described` reads the description alone, `code_items` the
files as they are on disk now. Nothing here is imported or executed.
"""

from __future__ import annotations

import hashlib
import io
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import BiozooError, HashMismatchError, InvalidPackageError
from .visible import visible

if TYPE_CHECKING:
    from .package import ModelPackage

__all__ = [
    "KERAS_FORMATS",
    "MAX_SOURCE_BYTES",
    "CodeItem",
    "code_items",
    "described",
    "has_layer_code",
    "needed",
    "needs_code",
    "unseen",
]

#: Weights formats whose file holds a network as Keras describes it.
KERAS_FORMATS = ("keras_v3", "keras_hdf5")

#: A source is read by people; what is larger than this is something else.
MAX_SOURCE_BYTES = 8 * 2**20

#: Weights that run by the author's code only, or nowhere.
_NO_WAY_WITHOUT_CODE = ("pytorch_state_dict", "tensorflow_js")


@dataclass(frozen=True, slots=True)
class CodeItem:
    """One piece of the author's code.

    Attributes
    ----------
    kind
        "architecture" (builds the network of a state dict), "processing" (a custom step), "layer"
        (a part of Keras weights).
    where
        Place in the description: "weights.pytorch_state_dict", "outputs.NAME.postprocessing.0"
        (the step's number as written: bioimageio.spec may put others before it).
    callable
        Name of the class or function; of a layer, its class.
    source
        The file as written in the description, or "module NAME" of a library.
    kwargs
        What it is called with, as written.
    sha256
        Of the file as it is now; of a layer, of the whole description of its network; "" for a
        library's module, which is no part of the package.
    text
        The source; of a layer, what its weights say of it, as JSON; "" for a library's module.
    weights
        The weights format that needs it, None for processing.
    """

    kind: Literal["architecture", "processing", "layer"]
    where: str
    callable: str
    source: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""
    text: str = field(default="", repr=False)
    weights: str | None = None

    @property
    def what(self) -> str:
        """The item in a few words, fit for a terminal: "architecture unet.py:UNet"."""
        if self.kind == "architecture":
            text = f"architecture {self.source.removeprefix('module ')}:{self.callable}"
        elif self.kind == "layer":
            text = f"layer {self.callable} in {self.source}"
        else:
            text = f"custom step {self.callable} from {self.source}"
        return visible(text)

    @property
    def module(self) -> str:
        """The library's module that it comes from, "" where it is part of the package."""
        return self.source.removeprefix("module ") if self.source.startswith("module ") else ""

    def __str__(self) -> str:
        return f"{visible(self.where)}: {self.what}"


def described(raw: Mapping[str, Any]) -> tuple[CodeItem, ...]:
    """The code that a raw description of any format version names, `sha256` as declared.

    Without `text`, and without layers: those stand in files.
    """
    return (*_steps(raw), *_architecture(raw))


def code_items(package: ModelPackage) -> tuple[CodeItem, ...]:
    """Everything of the author's code in a package, as it is on disk now.

    Raises
    ------
    HashMismatchError
        A source is not the one described.
    InvalidPackageError, MissingFileError
        A source leaves the package folder, is missing, or is no text.
    """
    found = [_read(package, item) for item in described(package.raw)]
    for weights in KERAS_FORMATS:
        found += _layers(package, weights)
    return tuple(found)


def needs_code(package: ModelPackage) -> bool:
    """Whether there is no way to run the package without its author's code.

    Reads no file where the description decides. A package whose files cannot be read is told by
    its description alone.
    """
    weights = set(package.summary.weights) - set(_NO_WAY_WITHOUT_CODE)
    if package.record is not None:
        if package.record.trust == "untrusted code":
            return True
    elif needed(package.raw):
        return True
    try:
        return bool(weights) and all(
            w in KERAS_FORMATS and has_layer_code(package, w) for w in weights
        )
    except BiozooError:
        return False


def has_layer_code(package: ModelPackage, weights: str) -> bool:
    """Whether these weights hold layers that are code; False for other formats than Keras'."""
    return weights in KERAS_FORMATS and bool(_layers(package, weights))


def unseen(package: ModelPackage) -> tuple[str, ...]:
    """Weights that may hold code and cannot be looked into here, with why."""
    from .keras_code import why_unseen

    found = []
    for weights in KERAS_FORMATS:
        try:
            path = _weights_file(package, weights)
            why = why_unseen(path) if path is not None else ""
        except BiozooError:
            why = "whether they hold code of its author shows when they are on this machine"
        if why:
            found.append(f"weights.{weights}: {why}")
    return tuple(found)


def needed(raw: Mapping[str, Any]) -> tuple[CodeItem, ...]:
    """The items of a description without which the package does not run."""
    weights = set(_mapping(raw.get("weights")))
    only = "pytorch_state_dict" in weights and weights <= set(_NO_WAY_WITHOUT_CODE)
    return tuple(i for i in described(raw) if i.kind == "processing" or only)


# ------------------------------------------------------------------------------------ description


def _steps(raw: Mapping[str, Any]) -> Iterator[CodeItem]:
    for side, kind in (("inputs", "preprocessing"), ("outputs", "postprocessing")):
        for tensor in _list(raw.get(side)):
            name = tensor.get("id", tensor.get("name", "?"))
            for i, step in enumerate(_list(tensor.get(kind))):
                if step.get("id", step.get("name")) == "custom":
                    yield CodeItem(
                        "processing",
                        f"{side}.{name}.{kind}.{i}",
                        str(step.get("callable", "?")),
                        _file(step.get("source", "?")),
                        _mapping(step.get("kwargs")),
                        _sha(step.get("sha256")),
                    )


def _architecture(raw: Mapping[str, Any]) -> Iterator[CodeItem]:
    weights = _mapping(raw.get("weights"))
    if "pytorch_state_dict" not in weights:
        return
    entry = _mapping(weights["pytorch_state_dict"])
    given, kwargs, sha = (entry.get(k) for k in ("architecture", "kwargs", "architecture_sha256"))
    if given is None:  # 0.3: at the top of the description
        given, kwargs, sha = (raw.get(k) for k in ("source", "kwargs", "sha256"))
    if isinstance(given, Mapping):  # 0.5
        kwargs, sha = given.get("kwargs"), given.get("sha256")
        name = str(given.get("callable", "?"))
        if given.get("source") is None and given.get("import_from") is not None:
            source, sha = f"module {given['import_from']}", None
        else:
            source = _file(given.get("source") or "unknown")
    elif isinstance(given, str) and ":" in given:  # "unet.py:UNet"
        source, _, name = given.strip().rpartition(":")
        source = _file(source.removesuffix(":"))  # 0.3: "unet.py::UNet"
    elif isinstance(given, str) and "." in given:  # "library.module.Class"
        module, _, name = given.strip().rpartition(".")
        source, sha = f"module {module}", None
    else:
        source, name = "unknown", str(given or "?")
    yield CodeItem(
        "architecture",
        "weights.pytorch_state_dict",
        name,
        source,
        _mapping(kwargs),
        _sha(sha),
        weights="pytorch_state_dict",
    )


def _file(source: Any) -> str:
    """A file's source; one that is called as if it were a library's module stays a file."""
    text = str(source)
    return f"./{text}" if text.startswith("module ") else text


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [v for v in value if isinstance(v, Mapping)] if isinstance(value, list) else []


def _sha(value: Any) -> str:
    return str(value).strip().lower() if value else ""


# ------------------------------------------------------------------------------------------ files


def _read(package: ModelPackage, item: CodeItem) -> CodeItem:
    """The item with its text and the sha256 that its file has now."""
    if item.module:
        return item
    if item.source in ("unknown", "?"):
        raise InvalidPackageError(
            source=package.rdf, fields={item.where: f"it names no source for {item.callable}"}
        )
    path = package.path(item.source)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SOURCE_BYTES + 1)
    except OSError as exc:
        raise _no_source(package, item, f"cannot be read ({exc.strerror})") from exc
    if len(content) > MAX_SOURCE_BYTES:
        limit = f"{MAX_SOURCE_BYTES / 2**20:.0f} MB"
        raise _no_source(package, item, f"is larger than {limit}, which nobody reads")
    got = hashlib.sha256(content).hexdigest()
    if item.sha256 and got != item.sha256:
        raise HashMismatchError(file=path, expected=item.sha256, got=got)
    try:
        # As Python reads it: what is shown must be what would run.
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        text = content.decode(encoding)
    except (SyntaxError, LookupError, ValueError) as exc:
        raise _no_source(package, item, f"is no text that Python reads ({exc})") from exc
    return replace(item, sha256=got, text=text)


def _no_source(package: ModelPackage, item: CodeItem, why: str) -> InvalidPackageError:
    return InvalidPackageError(
        source=package.rdf, fields={item.where: f"the source '{item.source}' {why}"}
    )


def _layers(package: ModelPackage, weights: str) -> list[CodeItem]:
    """The layers of one weights file that are code."""
    path = _weights_file(package, weights)
    if path is None:
        return []
    from .keras_code import layers_of

    return [
        CodeItem(
            "layer",
            f"weights.{weights}: {layer.name}",
            layer.class_name,
            path.name,
            sha256=layer.sha256,
            text=layer.text,
            weights=weights,
        )
        for layer in layers_of(path)
    ]


def _weights_file(package: ModelPackage, weights: str) -> Path | None:
    if weights not in package.summary.weights:
        return None
    entry = _mapping(_mapping(package.raw.get("weights")).get(weights))
    return package.path(entry["source"]) if entry.get("source") else None
