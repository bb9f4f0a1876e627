"""What `zoo pack` was asked for, checked as a whole before anything is built or run."""

from __future__ import annotations

import keyword
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biozoo.axes import parse_axes
from biozoo.errors import AxesError

from .metadata import Metadata, check_metadata
from .pack_file import InputSpec, OutputSpec, PackFile, fold, require
from .processing_text import Side, check_steps
from .samples import Sample, open_samples

__all__ = ["Plan", "checked"]

Steps = list[dict[str, Any]]


@dataclass(frozen=True)
class Plan:
    """Wishes in which no fault was found.

    Attributes
    ----------
    file
        As written, its paths absolute.
    root
        The folder that the source's relative path starts from.
    metadata
        The author's facts.
    samples
        Opened, in the order given.
    before, after
        Pre- and postprocessing, per input and output given.
    """

    file: PackFile
    root: Path
    metadata: Metadata
    samples: Sequence[Sample]
    before: Sequence[Steps]
    after: Sequence[Steps]


def checked(values: Mapping[str, Any], root: Path, *, place: bool = True) -> Plan:
    """The plan for the fields of a pack.yaml; `place`: whether it is known where it goes.

    Raises
    ------
    IncompleteError
        Facts are missing or cannot be used: all of them, each with how to give it.
    """
    file, faults = fold(values, root)
    file = file or PackFile()
    refused = {name.partition(".")[0] for name in faults}
    metadata, wrong = check_metadata(file)
    for name, fault in wrong.items():  # what was refused as it stands is not missing
        top = {"author": "authors"}.get(name, name).partition(".")[0]
        if top not in refused:
            faults[name] = fault
    if not file.source and "source" not in refused:
        faults["source"] = (
            "is missing: net.py:Net, monai.networks.nets:UNet, a TorchScript or ONNX file, or a "
            "package"
        )
    if not place:
        faults["out"] = "is missing. Give -o OUT.zip, or --dry-run to write nothing"
    samples: list[Sample] = []
    if "inputs" not in refused:
        samples, wrong = open_samples(file.inputs)
        faults |= wrong
    before = _steps(file.inputs, "preprocessing", faults)
    after = _steps(file.outputs, "postprocessing", faults)
    _ids([*file.inputs, *file.outputs], faults)
    _axes(file, faults)
    require(faults)
    return Plan(file, root, metadata, samples, before, after)


def _steps(
    specs: Sequence[InputSpec | OutputSpec], side: Side, faults: dict[str, str]
) -> list[Steps]:
    made = []
    for i, spec in enumerate(specs):
        values = getattr(spec, side)
        steps, wrong = check_steps(values, side)
        for k, fault in wrong.items():
            place = f" {spec.id or i}" if len(specs) > 1 else ""
            number = f" {k + 1}" if len(values) > 1 else ""
            faults[f"{side}{place}{number}"] = fault
        made.append(steps)
    return made


def _ids(specs: Sequence[InputSpec | OutputSpec], faults: dict[str, str]) -> None:
    seen: set[str] = set()
    for spec in specs:
        name = spec.id
        if name is None:
            continue
        if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
            kind = "--output-id" if isinstance(spec, OutputSpec) else "--sample ID="
            faults[f"id of a tensor, {name}"] = (
                f"must be small letters, digits and _, not beginning with a digit ({kind})"
            )
        elif name in seen:
            faults[f"id of a tensor, {name}"] = (
                "stands twice; inputs and outputs each need their own"
            )
        seen.add(name)


def _axes(file: PackFile, faults: dict[str, str]) -> None:
    given: list[tuple[str, str | None]] = []
    for i in file.inputs:
        given += [("axes", i.axes), ("input-axes", i.tensor_axes)]
        given += [("fixed", ",".join(i.fixed) or None)]
    given += [("output-axes", o.axes) for o in file.outputs]
    for name, text in given:
        if text:
            try:
                parse_axes(text)
            except AxesError as exc:
                if exc.message not in faults.values():  # of a sample that was opened: told already
                    faults[name] = exc.message
