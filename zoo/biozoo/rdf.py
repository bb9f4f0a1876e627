"""A description as it stands in its file: YAML read safely, and the files it refers to.

Works on the raw mapping of every format version (0.3, 0.4, 0.5) without bioimageio.spec, which
costs more than a second to import. YAML is read by the 1.2 rules that bioimage.io writes by:
`1e-05` is a number, `on` and `2022-01-01` are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import InvalidPackageError, MissingFileError

__all__ = [
    "FileRef",
    "Raw",
    "file_refs",
    "find_rdf",
    "is_rdf_name",
    "is_url",
    "parse",
    "read",
    "safe_relative",
]

Raw = dict[str, Any]

NAMES = ("rdf.yaml", "bioimageio.yaml", "model.yaml")
SUFFIXES = (".rdf.yaml", ".bioimageio.yaml")

#: A description is a few kilobytes; what is larger than this is something else.
MAX_RDF_BYTES = 8 * 2**20

#: Values of a description with its YAML aliases expanded; the largest published one has 5,000.
MAX_NODES = 200_000

#: Mappings and lists within each other. PyYAML's C loader recurses, and the process dies of a
#: million "[".
MAX_DEPTH = 100

_FILE_FIELDS = (
    "inputs",
    "outputs",
    "weights",
    "attachments",
    "documentation",
    "covers",
    "icon",
    "test_inputs",
    "test_outputs",
    "sample_inputs",
    "sample_outputs",
)


def is_rdf_name(name: str) -> bool:
    """Whether a file of this name holds a description."""
    return name in NAMES or name.endswith(SUFFIXES)


def find_rdf(folder: Path) -> Path:
    """The description of a package folder.

    Raises
    ------
    InvalidPackageError
        Where there is none, or where several could be it.
    """
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    try:
        found = sorted(p for p in folder.iterdir() if p.name.endswith(SUFFIXES) and p.is_file())
    except OSError as exc:
        raise InvalidPackageError(
            source=folder,
            why=f"it cannot be read ({exc.strerror}).",
            hint="Ask for the permission.",
        ) from exc
    if len(found) == 1:
        return found[0]
    why = (
        f"it holds several descriptions ({', '.join(p.name for p in found)}); keep one."
        if found
        else f"it holds no description; expected {', '.join(NAMES)} or *.rdf.yaml."
    )
    raise InvalidPackageError(source=folder, why=why)


def read(path: Path) -> Raw:
    """The raw description in a file."""
    try:
        if path.stat().st_size > MAX_RDF_BYTES:
            raise InvalidPackageError(source=path, why="it is too large to be a description.")
        content = path.read_bytes()
    except FileNotFoundError as exc:
        raise MissingFileError(what="The description", path=path) from exc
    except OSError as exc:
        raise InvalidPackageError(
            source=path, why=f"it cannot be read ({exc.strerror}).", hint="Ask for the permission."
        ) from exc
    return parse(content, source=path)


def parse(content: bytes, *, source: str | Path) -> Raw:
    """The raw description in YAML bytes.

    Raises
    ------
    InvalidPackageError
        For what is no YAML mapping, or not the description of a model.
    """
    import yaml

    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise InvalidPackageError(source=source, why=f"it is not UTF-8 text ({exc}).") from exc
    try:
        fault = _without_measure(text)
        raw = None if fault else yaml.load(text, _loader())
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise InvalidPackageError(
            source=source, why=f"it is not readable YAML: {' '.join(str(exc).split())}."
        ) from exc
    if fault:
        raise InvalidPackageError(source=source, why=fault)
    if not isinstance(raw, dict):
        raise InvalidPackageError(source=source, why="it holds no mapping of fields.")
    if _larger_than(raw, MAX_NODES):
        raise InvalidPackageError(source=source, why="its YAML aliases expand without measure.")
    if "type" in raw and raw["type"] != "model":
        raise InvalidPackageError(
            source=source,
            fields={"type": f"is '{raw['type']}', expected 'model': this is no model"},
        )
    if missing := [k for k in ("format_version", "name", "inputs", "outputs") if k not in raw]:
        raise InvalidPackageError(source=source, fields=dict.fromkeys(missing, "is missing"))
    return raw


def _without_measure(text: str) -> str:
    """Why a text may not be loaded, "" where it may; reads its events, which takes no recursion."""
    import yaml

    depth = 0
    for count, event in enumerate(yaml.parse(text, _loader())):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            return f"its YAML is nested more than {MAX_DEPTH} deep."
        if count > 2 * MAX_NODES:
            return f"it holds more than {MAX_NODES:,} values."
    return ""


def _larger_than(value: Any, limit: int) -> bool:
    """Whether a value has more than `limit` values in it; stops counting there."""
    stack, count = [value], 0
    while stack:
        count += 1
        if count + len(stack) > limit:
            return True
        top = stack.pop()
        stack.extend(
            top.values() if isinstance(top, dict) else top if isinstance(top, list) else ()
        )
    return False


_LOADER: Any = None


def _loader() -> Any:
    """A safe YAML loader with the core schema of YAML 1.2, made once."""
    global _LOADER
    if _LOADER is None:
        import yaml

        base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        loader: Any = type("Yaml12Loader", (base,), {"yaml_implicit_resolvers": {}})
        loader.add_implicit_resolver(
            "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"
        )
        loader.add_implicit_resolver(
            "tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]
        )
        loader.add_implicit_resolver(
            "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")
        )
        loader.add_implicit_resolver(
            "tag:yaml.org,2002:float",
            re.compile(
                r"^(?:[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?"
                r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
            ),
            list("-+0123456789."),
        )
        loader.add_constructor("tag:yaml.org,2002:float", lambda _, node: _float(node.value))
        _LOADER = loader
    return _LOADER


def _float(text: str) -> float:
    return float(text.replace(".inf", "inf").replace(".Inf", "inf").replace(".nan", "nan").lower())


# ------------------------------------------------------------------------------------------ files


@dataclass(frozen=True)
class FileRef:
    """A file that a description refers to.

    Attributes
    ----------
    field
        Where, as "weights.onnx" or "inputs.0.test_tensor".
    source
        Relative path or URL, as written.
    sha256
        As declared, lower case; None where the description declares none.
    """

    field: str
    source: str
    sha256: str | None


def is_url(source: str) -> bool:
    """Whether a source names a place on the network."""
    return source.startswith(("https://", "http://"))


def file_refs(raw: Mapping[str, Any]) -> tuple[FileRef, ...]:
    """Every file that the description refers to, each source once, declared hash preferred."""
    found: dict[str, FileRef] = {}
    for top in _FILE_FIELDS:
        if top in raw:
            for ref in _walk(top, raw[top]):
                if ref.source not in found or found[ref.source].sha256 is None:
                    found[ref.source] = ref
    return tuple(found.values())


def _walk(field: str, value: Any) -> Iterator[FileRef]:
    """File references below one top-level field."""
    if isinstance(value, Mapping):
        if isinstance(source := value.get("source"), str):
            yield FileRef(field, source, _sha(value.get("sha256")))
        # 0.4 and older: "unet.py:UNet" and a hash beside it; a dotted name is a library's class
        architecture = value.get("architecture")
        if isinstance(architecture, str) and ".py:" in architecture:
            yield FileRef(
                f"{field}.architecture",
                architecture.rpartition(":")[0],
                _sha(value.get("architecture_sha256")),
            )
        # 0.4 and older: "conda:environment.yaml"
        dependencies = value.get("dependencies")
        if isinstance(dependencies, str) and ":" in dependencies:
            manager, _, source = dependencies.partition(":")
            if manager not in ("http", "https"):
                yield FileRef(f"{field}.dependencies", source, None)
        for key, below in value.items():
            if key == "files" and field == "attachments":
                yield from _sources(f"{field}.files", below)
            elif isinstance(below, (Mapping, list)) and key not in ("kwargs", "config"):
                yield from _walk(f"{field}.{key}", below)
    elif field in ("inputs", "outputs", "weights"):
        if isinstance(value, list):
            for i, below in enumerate(value):
                yield from _walk(f"{field}.{i}", below)
    elif "." not in field:
        yield from _sources(field, value)
    elif isinstance(value, list):
        for i, below in enumerate(value):
            if isinstance(below, (Mapping, list)):
                yield from _walk(f"{field}.{i}", below)


def _sources(field: str, value: Any) -> Iterator[FileRef]:
    """References of a field that holds a source, a file mapping, or a list of either."""
    if isinstance(value, str):
        if field != "icon" or "." in value:  # an icon may be one emoji
            yield FileRef(field, value, None)
    elif isinstance(value, list):
        for i, below in enumerate(value):
            if isinstance(below, str):
                yield FileRef(f"{field}.{i}", below, None)
            else:
                yield from _walk(f"{field}.{i}", below)


def _sha(value: Any) -> str | None:
    return str(value).strip().lower() if value else None


def safe_relative(source: str) -> PurePosixPath | None:
    """The source as a path below the package folder, None where it would leave it.

    Absolute paths, drive letters and addresses (":"), backslashes, `..` and `~` leave it, on this
    system or another; control characters are no part of a name.
    """
    if not source or source.startswith("~") or re.search(r"[\\:\x00-\x1f\x7f]", source):
        return None
    path = PurePosixPath(source)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return None
    return path
