"""Packages that hold code of their author, and backends that load nothing, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from biozoo_runners.base import Availability, Backend
from biozoo_runners.devices import Machine
from packages import change_rdf, read_rdf, sha256

SOURCE = """class Net:
    def __init__(self, depth=1):
        self.depth = depth
"""


def with_code(
    folder: Path,
    source: str | bytes = SOURCE,
    *,
    kwargs: Mapping[str, Any] | None = None,
    keep: tuple[str, ...] = (),
) -> Path:
    """Make a package's weights a state dict with its architecture; `keep` formats stay."""
    text = source.encode() if isinstance(source, str) else source
    (folder / "net.py").write_bytes(text)
    weights = read_rdf(folder)["weights"]
    entry = {k: v for k, v in weights["onnx"].items() if k != "opset_version"}
    architecture = {
        "source": "net.py",
        "sha256": sha256(folder / "net.py"),
        "callable": "Net",
        "kwargs": dict(kwargs or {}),
    }
    state = {**entry, "pytorch_version": "2.1", "architecture": architecture}
    kept = {k: v for k, v in weights.items() if k in keep}
    change_rdf(folder, weights={**kept, "pytorch_state_dict": state})
    return folder


def with_step(folder: Path, source: str = "def step(**_):\n    return lambda x: x\n") -> Path:
    """Give the output of a package a custom step."""
    (folder / "step.py").write_text(source)
    outputs = read_rdf(folder)["outputs"]
    step = {
        "id": "custom",
        "callable": "step",
        "source": "step.py",
        "sha256": sha256(folder / "step.py"),
        "kwargs": {"threshold": 0.5},
    }
    outputs[0]["postprocessing"] = [{"id": "sigmoid"}, step]
    change_rdf(folder, outputs=outputs)
    return folder


class CodeBackend(Backend):
    """A backend that runs the package's own code."""

    name: ClassVar[str] = "torch-code"
    weights_formats: ClassVar[tuple[str, ...]] = ("pytorch_state_dict",)
    runs_code: ClassVar[bool] = True

    @classmethod
    def available(cls, machine: Machine) -> Availability:
        if not machine.has("torch"):
            return Availability(False, "torch is not installed", install="pip install torch")
        return Availability(True, devices=("cpu",))

    @classmethod
    def open(cls, package: Any, weights_format: str, **_: Any) -> Self:
        raise AssertionError("choosing loads nothing")

    def run(self, inputs: Any) -> Any:
        raise AssertionError

    @property
    def info(self) -> Any:
        raise AssertionError

    def close(self) -> None:
        raise AssertionError


class TorchBackend(Backend):
    """A plug-in that takes two formats, on the CPU only."""

    name: ClassVar[str] = "torch"
    weights_formats: ClassVar[tuple[str, ...]] = ("torchscript", "onnx")

    @classmethod
    def available(cls, machine: Machine) -> Availability:
        return Availability(True, devices=("cpu",))

    @classmethod
    def open(cls, package: Any, weights_format: str, **_: Any) -> Self:
        raise AssertionError("choosing loads nothing")

    def run(self, inputs: Any) -> Any:
        raise AssertionError

    @property
    def info(self) -> Any:
        raise AssertionError

    def close(self) -> None:
        raise AssertionError
