"""A pack.yaml to fill in, with what is known already in its place and all else explained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from biozoo.errors import StorageError
from biozoo_runners.images.atomic import written_beside

__all__ = ["init_text", "write_init"]

_HEAD = """\
## What zoo pack makes a package from:  zoo pack {name} -o OUT.zip
## Lines that begin with one "#" are optional; take "# " away to use them.
## Every field: docs/packing.md. Paths are relative to this file.
"""

#: Field -> what stands there, per block: what must be given, then what may be.
_BLOCKS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "The network: net.py:Net, monai.networks.nets:UNet, a TorchScript or ONNX file.",
        (
            ("source", "net.py:Net", "needed"),
            ("kwargs", "{width: 32}", ""),
            ("weights", "weights.pt", ""),
        ),
    ),
    (
        "A typical input, and what is done to it before the network sees it.",
        (("inputs", "", "needed"),),
    ),
    (
        "What comes out; ids, axes, halo and values are measured where they are not given.",
        (("outputs", "", ""),),
    ),
    (
        "What only you know.",
        (
            ("name", "", "5 to 128 letters, digits and _+- ()"),
            ("description", "", "what it finds, in which images"),
            ("authors", "", "Name; affiliation; orcid; github:user"),
            ("license", "", "an SPDX id: MIT, BSD-3-Clause, CC-BY-4.0, ..."),
            ("cite", "", "a text with its DOI or address, or a DOI alone"),
            ("documentation", "README.md", ""),
            ("id", "my-model", ""),
            ("version", "0.1.0", ""),
            ("tags", "[fluorescence-light-microscopy, nuclei, semantic-segmentation, unet]", ""),
            ("maintainers", "[github-user]", ""),
            ("git_repo", "https://github.com/user/repository", ""),
            ("training_data", "id-of-a-data-set", ""),
            ("parent", "id-of-a-model", ""),
            ("covers", "[cover.png]", ""),
        ),
    ),
    (
        "What else is wanted.",
        (
            ("also", "[torchscript, pytorch_state_dict]", ""),
            ("variants", "[float16, int8]", ""),
            ("tolerance", "{relative: 0.001}", ""),
        ),
    ),
    (
        "Written into the description as it is; see the specification's config.bioimageio.",
        (
            (
                "config",
                "\n#   bioimageio:\n#     task: semantic segmentation\n"
                "#     modality: fluorescence microscopy\n#     target_structure: [nuclei]\n"
                "#     out_of_scope_use: What it must not be used for.\n"
                "#     training: {training_epochs: 100, loss_function: dice}",
                "",
            ),
        ),
    ),
)

_INPUT = {
    "id": ("raw", ""),
    "sample": ("image.tif", "needed: an image, or .npy"),
    "axes": ("yx", "of the sample, where its file does not say: b t c z y x"),
    "preprocessing": ("[{id: scale_range, kwargs: {min_percentile: 1, max_percentile: 99.8}}]", ""),
    "channels": ("[nuclei]", ""),
    "description": ("One channel of stained nuclei, bright on dark.", ""),
    "fixed": ("[z]", "axes whose size is never another than the sample's"),
}
_OUTPUT = {
    "id": ("probability", ""),
    "channels": ("[foreground, boundary]", ""),
    "postprocessing": ("[sigmoid]", ""),
    "description": ("Probability of a nucleus.", ""),
}
_NEEDED = ("source", "name", "description", "authors", "license", "cite")


def write_init(values: Mapping[str, Any], target: Path, *, overwrite: bool) -> None:
    """Write a pack.yaml.

    Parameters
    ----------
    values
        Fields that are known: they stand in it as given.
    target
        The file.
    overwrite
        Whether what is there is replaced.

    Raises
    ------
    StorageError
        The file is there, or cannot be written.
    """
    if target.exists() and not overwrite:
        raise StorageError(
            path=target, why="it exists", hint="Replace it with --force, or choose another name."
        )
    text = init_text(values, name=target.name, folder=target.absolute().parent)
    with written_beside(target) as part:
        part.write_text(text, encoding="utf-8")


def init_text(values: Mapping[str, Any], *, name: str, folder: Path) -> str:
    """The text of a pack.yaml whose paths start from `folder`."""
    known = dict(_near(values, folder))
    lines = [_HEAD.format(name=name)]
    for title, fields in _BLOCKS:
        lines.append(f"## {title}")
        for key, example, hint in fields:
            given = known.pop(key, None)
            if key in ("inputs", "outputs"):
                lines += _tensors(key, given)
            elif given not in (None, [], {}):
                lines.append(_yaml({key: given}))
            elif key in _NEEDED:
                lines.append(f"{key}:{f' {example}' if example else ''}  # {hint or 'needed'}")
            else:
                lines.append(f"# {key}:{_after(example)}{f'  # {hint}' if hint else ''}")
        lines.append("")
    if known:
        lines += ["## Given besides.", _yaml(known), ""]
    return "\n".join(lines)


def _after(example: str) -> str:
    return example if example.startswith("\n") else f" {example}"


def _tensors(side: str, given: Any) -> list[str]:
    fields = _INPUT if side == "inputs" else _OUTPUT
    tensors = [t for t in given or [] if isinstance(t, Mapping)] or [{}]
    off = "# " if side == "outputs" and not any(tensors) else ""
    lines = [f"{off}{side}:"]
    for tensor in tensors:
        rest = dict(tensor)
        first = True
        for key, (example, hint) in fields.items():
            lead = "  - " if first else "    "
            note = f"  # {hint}" if hint else ""
            if key in rest:
                lines.append(f"{off}{lead}{_yaml({key: rest.pop(key)})}")
            elif first or key == "sample":
                lines.append(f"{off}{lead}{key}: {example}{note}")
            else:
                lines.append(f"# {lead}{key}: {example}{note}")
            first = False
        lines += [f"{off}    {_yaml({k: v})}" for k, v in rest.items()]
    return lines


def _yaml(value: Mapping[str, Any]) -> str:
    """`key: value` on one line, in what JSON and YAML share."""
    lines = []
    for key, item in value.items():
        if isinstance(item, str):
            text = yaml.safe_dump(item, width=10_000, allow_unicode=True).removesuffix("\n")
            text = text.removesuffix("\n...")
        else:
            text = json.dumps(item, ensure_ascii=False)
        lines.append(f"{key}: {text}")
    return "\n".join(lines)


def _near(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The fields with absolute paths below `folder` made relative to it."""

    def short(value: Any) -> Any:
        if isinstance(value, Path):
            value = str(value)
        if isinstance(value, str) and Path(value).is_absolute():
            path = Path(value)
            return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else value
        if isinstance(value, list):
            return [short(v) for v in value]
        if isinstance(value, dict):
            return {k: short(v) for k, v in value.items()}
        return value

    return {k: short(v) for k, v in values.items() if v is not None}
