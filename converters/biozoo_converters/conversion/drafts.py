"""A package in the making: a folder with a description that grows."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from biozoo.package import ModelPackage

__all__ = ["RDF", "Draft"]

RDF = "rdf.yaml"


@dataclass
class Draft:
    """A package folder whose description is still being written.

    Attributes
    ----------
    root
        The folder; all files of the description lie in it.
    raw
        The description, as it will be written.
    """

    root: Path
    raw: dict[str, Any]

    def with_weights(self, weights_format: str, entry: Mapping[str, Any]) -> ModelPackage:
        """The package as it is with one weights entry added or replaced; the draft stays."""
        raw = copy.deepcopy(self.raw)
        raw.setdefault("weights", {})[weights_format] = dict(entry)
        return _written(self.root, raw)

    def package(self) -> ModelPackage:
        """The package as it is."""
        return _written(self.root, self.raw)


def _written(root: Path, raw: Mapping[str, Any]) -> ModelPackage:
    text = yaml.safe_dump(dict(raw), sort_keys=False, allow_unicode=True, width=100)
    (root / RDF).write_text(text, encoding="utf-8", newline="\n")
    return ModelPackage.from_folder(root)
