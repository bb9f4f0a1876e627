"""The options of `zoo pack` as the fields of a pack.yaml, over those of a file where one is given.

Paths given as options are relative to the current folder, those in a file to the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from biozoo.axes import LETTERS
from biozoo.errors import UsageError

from .pack_file import PREDICTION, RAW, is_pack_file, read_pack_file
from .processing_text import number

__all__ = ["Options", "merge", "parse_kwargs"]

_PATHS = ("weights", "documentation", "covers")


@dataclass(frozen=True)
class Options:
    """What was typed, unread; `ID=` in front tells of which tensor it is."""

    sample: Sequence[str] = ()
    axes: Sequence[str] = ()
    input_axes: Sequence[str] = ()
    preprocessing: Sequence[str] = ()
    postprocessing: Sequence[str] = ()
    channels: Sequence[str] = ()
    output_id: Sequence[str] = ()
    output_axes: Sequence[str] = ()
    outputs: Sequence[str] = ()
    kwargs: Sequence[str] = ()
    halo: str | None = None
    fixed: str | None = None
    sample_size: str | None = None


@dataclass
class _Tensors:
    """Inputs or outputs while they are put together: by id, or by their place."""

    parts: list[dict[str, Any]] = field(default_factory=list)

    def ids(self) -> list[str]:
        return [str(p["id"]) for p in self.parts if p.get("id")]

    def of(self, name: str | None, place: int = 0) -> dict[str, Any]:
        """The tensor of this id, or at this place; made where it is not there."""
        if name is not None:
            for part in self.parts:
                if part.get("id") == name:
                    return part
            if self.parts and not self.parts[0].get("id") and len(self.parts) == 1:
                self.parts[0]["id"] = name
                return self.parts[0]
            self.parts.append({"id": name})
            return self.parts[-1]
        while len(self.parts) <= place:
            self.parts.append({})
        return self.parts[place]


def merge(
    source: str | None, options: Options, facts: Mapping[str, Any], *, folder: Path
) -> tuple[dict[str, Any], Path]:
    """The fields of a pack.yaml, and the folder that its paths start from.

    Raises
    ------
    UsageError
        An option cannot be read.
    MissingFileError, InvalidPackageError
        Of the pack.yaml.
    """
    values: dict[str, Any] = {}
    root = folder
    path = None if source is None else folder / Path(source).expanduser()
    missing = path is not None and path.suffix in (".yaml", ".yml") and not path.exists()
    if path is not None and (missing or is_pack_file(path)):
        values, root = read_pack_file(path), path.absolute().parent
        source = None
    if source is not None:
        values["source"] = source
    for name, value in facts.items():
        if value is None or value == []:
            continue
        if name in _PATHS:
            value = (
                [_path(v, folder) for v in value]
                if isinstance(value, list)
                else _path(value, folder)
            )
        values[name] = value
    if options.kwargs:
        values["kwargs"] = {**(values.get("kwargs") or {}), **parse_kwargs(options.kwargs)}
    if options.outputs:
        kept = [p.strip() for text in options.outputs for p in text.split(",") if p.strip()]
        values["keep_outputs"] = [int(k) if k.lstrip("-").isdigit() else k for k in kept]
    _tensors(values, options, folder)
    return values, root


def _path(text: Any, folder: Path) -> str:
    return str(folder / Path(str(text)).expanduser())


def _tensors(values: dict[str, Any], options: Options, folder: Path) -> None:
    inputs, outputs = _of(values.get("inputs")), _of(values.get("outputs"))
    for place, text in enumerate(options.sample):
        name, path = _named(text, ())
        if name is None and len(options.sample) > 1 and inputs.ids():
            raise UsageError(
                f"--sample {text}: of several samples each needs its input's id, ID={text}."
            )
        inputs.of(name, place)["sample"] = _path(path, folder)
    for place, text in enumerate(options.output_id):
        outputs.of(None, place)["id"] = text
    for place, (option, key) in enumerate((("axes", "axes"), ("input_axes", "tensor_axes"))):
        del place
        for i, text in enumerate(getattr(options, option)):
            name, axes = _named(text, inputs.ids())
            inputs.of(name, i)[key] = axes
    for i, text in enumerate(options.output_axes):
        name, axes = _named(text, outputs.ids())
        outputs.of(name, i)["axes"] = axes
    for text in options.channels:
        before, after = inputs.ids() or [RAW], outputs.ids() or [PREDICTION]
        name, listed = _named(text, [*before, *after])
        if name is None and "=" in text:
            raise UsageError(
                f"--channels {text}: there is no tensor of that name, there are "
                f"{', '.join([*before, *after])}. Others get theirs by --sample ID=FILE and "
                "--output-id ID."
            )
        side = inputs if name is None or name in before else outputs
        side.of(name)["channels"] = listed
    for option, side in (("preprocessing", inputs), ("postprocessing", outputs)):
        for part in side.parts if getattr(options, option) else ():
            part.pop(option, None)  # the options replace the file's
        for text in getattr(options, option):
            name, step = _named(text, side.ids())
            side.of(name).setdefault(option, []).extend(_steps(step, option))
    if options.halo is not None:
        outputs.of(None)["halo"] = _sizes(options.halo, "halo")
    if options.fixed is not None:
        inputs.of(None)["fixed"] = options.fixed
    if options.sample_size is not None:
        sizes = _sizes(options.sample_size, "sample-size")
        if isinstance(sizes, int):
            sizes = {"y": sizes, "x": sizes}
        inputs.of(None)["sample_size"] = sizes
    if inputs.parts:
        values["inputs"] = inputs.parts
    if outputs.parts:
        values["outputs"] = outputs.parts


def _of(given: Any) -> _Tensors:
    parts = given if isinstance(given, list) else [given] if isinstance(given, dict) else []
    return _Tensors([dict(p) for p in parts if isinstance(p, dict)])


def _named(text: str, known: Sequence[str]) -> tuple[str | None, str]:
    """`ID=REST` where ID is known, or may be a tensor's and REST is given; else the text."""
    name, equals, rest = text.partition("=")
    given = name in known or (not known and re.fullmatch(r"[a-z_]\w*", name))
    return (name, rest) if equals and given and not Path(text).exists() else (None, text)


def _steps(text: str, option: str) -> list[Any]:
    """One step, or what YAML holds of them."""
    if not text.lstrip().startswith(("{", "[")):
        return [text]
    try:
        made = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise UsageError(f"--{option} {text} is not readable YAML: {_said(exc)}.") from exc
    return made if isinstance(made, list) else [made]


def _sizes(text: str, option: str) -> int | dict[str, int]:
    if text.strip().isdigit():
        return int(text)
    sizes: dict[str, int] = {}
    for part in text.split(","):
        axis, equals, size = part.strip().partition("=")
        if not equals or not size.isdigit():
            raise UsageError(f"--{option} {text}: write a number, or for example y=16,x=16.")
        sizes[LETTERS.get(axis, axis)] = int(size)
    return sizes


def parse_kwargs(texts: Sequence[str]) -> dict[str, Any]:
    """`width=12`, `channels=[8, 16]`, `a=1 b=two`: names with values as YAML reads them.

    Raises
    ------
    UsageError
        A part is not NAME=VALUE.
    """
    found: dict[str, Any] = {}
    for text in texts:
        for part in _parts(text):
            name, equals, value = part.partition("=")
            if not equals or not name.strip().isidentifier():
                raise UsageError(
                    f"--kwargs {text}: '{part}' is not NAME=VALUE. Write for example "
                    "--kwargs width=12 --kwargs channels=[8,16,32]"
                )
            try:
                found[name.strip()] = _python(number(yaml.safe_load(value))) if value else ""
            except yaml.YAMLError as exc:
                raise UsageError(
                    f"--kwargs {part}: the value cannot be read as YAML ({_said(exc)})."
                ) from exc
    return found


def _python(value: Any) -> Any:
    """Python's own None and tuples, which YAML takes for text."""
    if value == "None":
        return None
    if isinstance(value, str) and re.fullmatch(r"\(.*\)", value):
        return number(yaml.safe_load(f"[{value[1:-1]}]"))
    return value


def _parts(text: str) -> Iterator[str]:
    """The text cut before each `NAME=` that is outside brackets and quotes."""
    depth, quote, start = 0, "", 0
    for i, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "[{(":
            depth += 1
        elif char in "]})":
            depth -= 1
        elif char in " ," and not depth and re.match(r"[ ,]+[A-Za-z_]\w*=", text[i:]):
            if part := text[start:i].strip(" ,"):
                yield part
            start = i + 1
    if part := text[start:].strip(" ,"):
        yield part


def _said(exc: yaml.YAMLError) -> str:
    return " ".join(str(exc).split())[:200]
