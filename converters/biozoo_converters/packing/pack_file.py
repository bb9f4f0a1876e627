"""`pack.yaml`: all that an author can say about a package to be made, checked as a whole.

Every field has an option of `zoo pack` or is rare enough to live in the file only. The schema of
this file is `docs/pack.schema.json`, written by ``python -m biozoo_converters.packing.pack_file``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from biozoo.errors import IncompleteError, InvalidPackageError, MissingFileError, closest

__all__ = [
    "PREDICTION",
    "RAW",
    "InputSpec",
    "OutputSpec",
    "PackFile",
    "Tolerances",
    "fold",
    "is_pack_file",
    "read_pack_file",
    "require",
    "schema",
]

#: What the only input and the only output are called where nobody says.
RAW, PREDICTION = "raw", "prediction"

Precision = Literal["float16", "int8"]
ExtraFormat = Literal["torchscript", "pytorch_state_dict"]


def _listed(value: Any) -> Any:
    """One for a list of one, and "a,b" for a list of words."""
    if value is None:
        return []
    return value if isinstance(value, list | tuple) else [value]


def _words(value: Any) -> Any:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return _listed(value)


def _letters(value: Any) -> Any:
    """Axes as a list are fine too."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else value


def _text(value: Any) -> Any:
    """YAML reads a version or a year as a number; people mean the text."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Text = Annotated[str, BeforeValidator(_text)]
Words = Annotated[list[Text], BeforeValidator(_words)]
Axes = Annotated[str, BeforeValidator(_letters)]
Mixed = Annotated[list[Text | dict[str, Any]], BeforeValidator(_listed)]
Steps = Annotated[list[str | dict[str, Any]], BeforeValidator(_listed)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class SizeRule(_Part):
    """Any of min, min + step, min + 2 * step, ..."""

    min: int = Field(gt=0)
    step: int = Field(gt=0)


class InputSpec(_Part):
    """One input of the network."""

    id: Text | None = Field(None, description="Tensor id; default raw, or the network's own name.")
    sample: Path | None = Field(
        None, description="An image or .npy array, relative to this file: a typical input."
    )
    axes: Axes | None = Field(
        None,
        description="The sample's axes, slowest first, where its file does not say: letters of "
        "b (batch), t (time), c (channel), z, y, x.",
    )
    tensor_axes: Axes | None = Field(
        None,
        description="The network's axes, where they are not those of the sample with b and c "
        "put in front.",
    )
    scene: int | None = Field(None, description="Which image of a file that holds several.")
    fixed: Words = Field(
        default_factory=list,
        description="Axes whose size the network takes only as it is in the sample (y,x), "
        "not to be measured.",
    )
    channels: Words = Field(default_factory=list, description="A name for each channel.")
    preprocessing: Steps = Field(
        default_factory=list,
        description="Steps before the network, as in the specification or short: "
        "'scale_range:min_percentile=1,max_percentile=99.8'.",
    )
    description: str = Field("", max_length=128, description="What is to be seen, in one line.")
    pixel_size: dict[str, float] = Field(
        default_factory=dict, description="Per axis, in `unit`; default: the sample's own."
    )
    unit: str | None = Field(None, description="Of pixel_size, for example micrometer.")
    data: dict[str, Any] | None = Field(
        None, description="The specification's `data` of this tensor; default float32."
    )
    pad: Literal["constant", "edge", "reflect", "symmetric"] | None = Field(
        None, description="How an image is continued beyond its edge."
    )
    size: dict[str, int | SizeRule] = Field(
        default_factory=dict,
        description="Per axis, where it is not to be measured: a number, or {min: 64, step: 16}.",
    )
    sample_size: dict[str, int] = Field(
        default_factory=dict,
        description="Per axis, how much of the sample becomes the test tensor.",
    )


class OutputSpec(_Part):
    """One output of the network, in the order that it gives them."""

    id: Text | None = Field(None, description="Tensor id; default prediction.")
    axes: Axes | None = Field(None, description="Its axes, where they cannot be told.")
    channels: Words = Field(default_factory=list, description="A name for each channel.")
    postprocessing: Steps = Field(
        default_factory=list, description="Steps after the network: 'sigmoid', 'softmax', ..."
    )
    description: str = Field("", max_length=128, description="What the values mean, in one line.")
    halo: int | dict[str, int] | None = Field(
        None, description="Pixels of context on each side; default: measured."
    )
    data: dict[str, Any] | list[dict[str, Any]] | None = Field(
        None, description="The specification's `data` of this tensor; default: measured."
    )


class Tolerances(_Part):
    """How far a result may be from the test output: config.bioimageio.reproducibility_tolerance."""

    relative: float = Field(1e-3, ge=0, le=1e-2)
    absolute: float | None = Field(None, ge=0, description="Default: from the output's values.")
    per_million: int = Field(100, ge=0, le=5000)


class PackFile(_Part):
    """What `zoo pack` makes a package from. Paths are relative to the file."""

    source: Text | None = Field(
        None,
        description="net.py:Net, monai.networks.nets:UNet, a TorchScript or ONNX file, or a "
        "package (folder, .zip, id, https URL).",
    )
    kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Arguments of the callable that makes the network."
    )
    weights: Path | None = Field(
        None, description="The trained weights: .pt, .pth, .ckpt or .safetensors."
    )
    strict: bool = Field(
        True, description="Whether weights and network must have the very same keys."
    )
    keep_outputs: Annotated[list[int | str], BeforeValidator(_listed)] = Field(
        default_factory=list,
        description="Which outputs, by number or name, of a network that returns more than the "
        "package should; default: all.",
    )
    inputs: Annotated[list[InputSpec], BeforeValidator(_listed)] = Field(default_factory=list)
    outputs: Annotated[list[OutputSpec], BeforeValidator(_listed)] = Field(default_factory=list)

    name: Text | None = Field(None, description="5 to 128 letters, digits and _+- ().")
    description: Text | None = Field(None, description="One or two sentences.")
    authors: Mixed = Field(
        default_factory=list,
        description="'Name', 'Name <email>', 'Name; affiliation; orcid; github:user', or the "
        "specification's mapping.",
    )
    license: Text | None = Field(None, description="An SPDX id, for example MIT or CC-BY-4.0.")
    cite: Mixed = Field(
        default_factory=list,
        description="A text with its DOI or address, a DOI alone, or the specification's mapping.",
    )
    documentation: Path | None = Field(
        None, description="A Markdown file; default: a skeleton with what was measured."
    )
    id: Text | None = Field(None, description="Default: from the name.")
    version: Text | None = Field(None, description="For example 0.1.0.")
    version_comment: Text | None = None
    timestamp: Text | None = Field(
        None, description="ISO 8601. Default: none, or that of SOURCE_DATE_EPOCH."
    )
    tags: Words = Field(default_factory=list, description="Added to those that are found out.")
    covers: Annotated[list[Path], BeforeValidator(_listed)] = Field(
        default_factory=list, description="Default: input beside output."
    )
    id_emoji: str | None = None
    icon: str | None = None
    git_repo: str | None = Field(None, description="Where the network is developed.")
    maintainers: Mixed = Field(
        default_factory=list, description="GitHub user names, or the specification's mapping."
    )
    packaged_by: Mixed = Field(default_factory=list)
    links: Words = Field(default_factory=list)
    parent: Text | dict[str, Any] | None = Field(
        None, description="Id of the model that this one was made from."
    )
    training_data: Text | dict[str, Any] | None = Field(
        None, description="Id of a bioimage.io data set, or the specification's data set."
    )
    attachments: Annotated[list[Path], BeforeValidator(_listed)] = Field(default_factory=list)
    evaluations: list[dict[str, Any]] = Field(
        default_factory=list, description="config.bioimageio.evaluations."
    )
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="Written as it is: `bioimageio` (task, modality, training, ...), `biozoo` "
        "(instances) and those of other tools.",
    )

    also: Annotated[list[ExtraFormat], BeforeValidator(_words)] = Field(
        default_factory=list, description="Further weights formats beside ONNX."
    )
    variants: Annotated[list[Precision], BeforeValidator(_words)] = Field(
        default_factory=list, description="Kept only where they are faster and agree."
    )
    timing: bool = Field(True, description="Measure the speed of each format.")
    tolerance: Tolerances = Field(default_factory=Tolerances)
    environment: Path | None = Field(
        None,
        description="A conda environment for pytorch_state_dict; default: written from what "
        "is installed.",
    )


#: What may stand for the one input or output of a network that has just one.
_SHORT = {
    "sample": "inputs",
    "axes": "inputs",
    "tensor_axes": "inputs",
    "fixed": "inputs",
    "channels": "inputs",
    "preprocessing": "inputs",
    "postprocessing": "outputs",
    "halo": "outputs",
}


def is_pack_file(path: Path) -> bool:
    """Whether a YAML file is a pack.yaml and no description of a model."""
    if path.suffix.lower() not in (".yaml", ".yml") or not path.is_file():
        return False
    return b"format_version:" not in path.read_bytes()


def read_pack_file(path: Path) -> dict[str, Any]:
    """The mapping in a pack.yaml, as written but for short forms; `fold` checks it.

    Raises
    ------
    MissingFileError
        There is no such file.
    InvalidPackageError
        It is no YAML mapping.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as exc:
        raise MissingFileError(what="The file", path=path) from exc
    try:
        raw = yaml.safe_load(content.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as exc:
        why = f"it is not readable YAML: {' '.join(str(exc).split())}."
        raise _no_pack_file(path, why) from exc
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise _no_pack_file(path, "it holds no mapping of fields.")
    for name in [n for n in raw if n in _SHORT]:
        parts = raw.setdefault(_SHORT[name], [{}])
        if isinstance(parts, dict):
            parts = raw[_SHORT[name]] = [parts]
        if isinstance(parts, list) and len(parts) == 1 and isinstance(parts[0], dict):
            parts[0].setdefault(name, raw.pop(name))
    return {name: value for name, value in raw.items() if value is not None}


def _no_pack_file(path: Path, why: str) -> InvalidPackageError:
    return InvalidPackageError(
        source=path, why=why, hint="zoo pack --init writes one to start from."
    )


def fold(values: Mapping[str, Any], root: Path) -> tuple[PackFile | None, dict[str, str]]:
    """The pack file of a mapping with its paths below `root`, and the fault of each bad field.

    Returns
    -------
    tuple
        The file, without the fields that cannot be used (None where nothing is left), and
        field -> what is wrong.
    """
    values = dict(values)
    faults: dict[str, str] = {}
    for _ in range(2):  # the second time without what the first refused
        try:
            return _below(PackFile.model_validate(values), root), faults
        except ValidationError as exc:
            for error in exc.errors():
                place = [p for p in error["loc"] if not set(str(p)) & set("[(")]
                name = ".".join(map(str, place))
                if error["type"] == "extra_forbidden":
                    parts: dict[str, type[_Part]] = {"inputs": InputSpec, "outputs": OutputSpec}
                    part = parts.get(str(place[0]), PackFile)
                    near = closest(str(place[-1]), part.model_fields)
                    text = "is no field" + (f"; did you mean {' or '.join(near)}?" if near else "")
                else:
                    text = error["msg"][0].lower() + error["msg"][1:]
                faults.setdefault(name, text)
                values.pop(str(place[0]), None)
    return None, faults


def _below(pack: PackFile, root: Path) -> PackFile:
    """With every path made absolute."""

    def placed(path: Path | None) -> Path | None:
        return None if path is None else root / path.expanduser()

    def each(paths: list[Path]) -> list[Path]:
        return [root / p.expanduser() for p in paths]

    return pack.model_copy(
        update={
            "weights": placed(pack.weights),
            "documentation": placed(pack.documentation),
            "environment": placed(pack.environment),
            "covers": each(pack.covers),
            "attachments": each(pack.attachments),
            "inputs": [i.model_copy(update={"sample": placed(i.sample)}) for i in pack.inputs],
        }
    )


def require(faults: Mapping[str, str], *, what: str = "") -> None:
    """Raise where there are faults, all of them at once.

    Raises
    ------
    IncompleteError
    """
    if faults:
        count = f"{len(faults)} facts are" if len(faults) > 1 else "1 fact is"
        raise IncompleteError(
            what=what or f"The package cannot be made: {count} missing or cannot be used.",
            faults=faults,
            hint="The same command with --init writes a pack.yaml to fill in, with what you gave "
            "so far.",
        )


def schema() -> str:
    """The JSON schema of pack.yaml."""
    made = PackFile.model_json_schema()
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made["title"] = "pack.yaml"
    for name, part in _SHORT.items():  # the short forms
        kind = "InputSpec" if part == "inputs" else "OutputSpec"
        made["properties"].setdefault(name, made["$defs"][kind]["properties"][name])
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema(), end="")
