"""Where a model comes from: the model it was trained on from, the weights its weights were made
from, and the data it was trained with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .clean import items, mapping, one_line, web

__all__ = ["TrainingData", "WeightsFile", "parent", "training_data", "weights_files"]

#: Weights formats in the words of the frameworks' own people.
WEIGHTS = {
    "onnx": "ONNX",
    "torchscript": "TorchScript",
    "pytorch_script": "TorchScript",
    "pytorch_state_dict": "PyTorch state dict",
    "keras_hdf5": "Keras HDF5",
    "keras_v3": "Keras 3",
    "tensorflow_saved_model_bundle": "TensorFlow SavedModel",
    "tensorflow_js": "TensorFlow.js",
}


@dataclass(frozen=True)
class WeightsFile:
    """One entry of `weights`.

    Attributes
    ----------
    format, name
        By the specification's name, and in words.
    made_from
        The format it was converted from, empty for the weights that were trained.
    needs_code
        Whether the network itself is the author's Python code.
    framework
        Version of the framework, or the ONNX opset, as declared.
    """

    format: str
    name: str
    made_from: str = ""
    needs_code: bool = False
    framework: str = ""


@dataclass(frozen=True)
class TrainingData:
    """What the description says of the images it was trained with."""

    name: str
    description: str = ""
    url: str = ""
    license: str = ""
    samples: str = ""


def weights_files(rdf: Mapping[str, Any]) -> tuple[WeightsFile, ...]:
    """Every weights entry of a description."""
    made = []
    for key, entry in list(mapping(rdf.get("weights")).items())[:20]:
        name, facts = one_line(key, 60), mapping(entry)
        version = next(
            (
                f"{label} {one_line(facts[field], 40)}"
                for field, label in _VERSIONS.items()
                if facts.get(field) is not None
            ),
            "",
        )
        source = one_line(facts.get("parent"), 60)
        made.append(
            WeightsFile(
                name,
                WEIGHTS.get(name, name),
                WEIGHTS.get(source, source),
                name == "pytorch_state_dict",
                version,
            )
        )
    return tuple(made)


_VERSIONS = {
    "opset_version": "opset",
    "pytorch_version": "PyTorch",
    "tensorflow_version": "TensorFlow",
    "keras_version": "Keras",
}


def parent(rdf: Mapping[str, Any]) -> tuple[str, str]:
    """(name or id, address) of the model that this one was trained on from; empty where none."""
    given = rdf.get("parent")
    if isinstance(given, str):
        given = {"id": given}
    facts = mapping(given)
    name = one_line(facts.get("id") or facts.get("uri") or facts.get("name"), 200)
    version = one_line(facts.get("version") or facts.get("version_number"), 40)
    url = web(facts.get("source") or facts.get("uri")) or _page(name)
    return (f"{name} {version}" if name and version else name), url


def training_data(rdf: Mapping[str, Any]) -> TrainingData | None:
    """From a LinkedDataset (`id`), a described dataset, or plain text; None where none is named."""
    given = rdf.get("training_data")
    if isinstance(given, str):
        text = one_line(given)
        return TrainingData(web(text) or text, url=web(text)) if text else None
    facts = mapping(given)
    identity = one_line(facts.get("id"), 200)
    name = one_line(facts.get("name"), 300) or identity
    if not name:
        return None
    cites = items(facts.get("cite"))
    dois = (one_line(c.get("doi"), 200) for c in cites)
    doi = next((d for d in dois if d.startswith("10.")), "")
    sources = [web(facts.get("source")), web(facts.get("documentation")), _page(identity)]
    sources.append(web(f"https://doi.org/{doi}") if doi else "")
    count = facts.get("sample_count") or facts.get("samples")
    return TrainingData(
        name,
        description=one_line(facts.get("description")),
        url=next((s for s in sources if s), ""),
        license=one_line(facts.get("license"), 100),
        samples=one_line(count, 40),
    )


def _page(identity: str) -> str:
    """The page of a bioimage.io or Hugging Face id, or of a DOI."""
    if identity.startswith("huggingface/"):
        return web(f"https://huggingface.co/{identity.removeprefix('huggingface/')}")
    if re.match(r"^10\.\d{4,9}/\S+$", identity):
        return web(f"https://doi.org/{identity}")
    # A plain id may be any zoo's: only one that says whose it is gets a link.
    if named := re.fullmatch(r"bioimage-io/([a-z0-9-]+)", identity):
        return f"https://bioimage.io/#/artifacts/{named[1]}"
    return ""
