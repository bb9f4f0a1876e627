"""A graph that cannot follow its network to every size: the package then allows fewer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from biozoo.errors import ConversionError
from biozoo_converters.conversion.fewer_sizes import fewer_sizes
from biozoo_runners.sizes import (
    AxisGeometry,
    FixedSize,
    ModelGeometry,
    ParameterizedSize,
    TensorGeometry,
)

#: Decides by the size in a way that no exporter sees: no torch.jit.script of it, either.
PARITY = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 1, 3, padding=1)
    def forward(self, x):
        gain = (lambda odd: 2.0 if odd else 1.0)(x.shape[-1] % 2 or x.shape[-2] % 2)
        return gain * self.conv(x)
"""


def model(**rules: ParameterizedSize) -> ModelGeometry:
    axes = [AxisGeometry("batch", "batch", FixedSize(1))]
    axes += [AxisGeometry(name, "space", rule) for name, rule in rules.items()]
    return ModelGeometry((TensorGeometry("raw", tuple(axes)),), ())


def rules_of(geometry: ModelGeometry) -> dict[str, object]:
    return {a.id: a.size for a in geometry.inputs[0].axes if a.kind == "space"}


def test_steps_grow_to_multiples_of_16_and_32_then_sizes_are_fixed() -> None:
    given = model(y=ParameterizedSize(7, 1), x=ParameterizedSize(20, 4))
    made = [rules_of(g) for g, _ in fewer_sizes(given, {"raw": {"y": 50, "x": 60}})]
    assert made == [
        {"y": ParameterizedSize(16, 16), "x": ParameterizedSize(32, 16)},
        {"y": ParameterizedSize(32, 32), "x": ParameterizedSize(32, 32)},
        {"y": FixedSize(50), "x": FixedSize(60)},
    ]


def test_what_never_meets_a_multiple_stays() -> None:
    """188, 204, ... of a network of valid convolutions is no multiple of 16; only fixing helps."""
    made = [
        rules_of(g)
        for g, _ in fewer_sizes(model(y=ParameterizedSize(188, 16)), {"raw": {"y": 204}})
    ]
    assert made == [{"y": FixedSize(204)}]


def test_sizes_that_the_author_gave_stay() -> None:
    given = model(y=ParameterizedSize(8, 1), x=ParameterizedSize(8, 1))
    sizes = {"raw": {"y": 8, "x": 8}}
    made = [rules_of(g) for g, _ in fewer_sizes(given, sizes, [("raw", "x")])]
    assert [m["x"] for m in made] == [ParameterizedSize(8, 1)] * 3
    assert not list(fewer_sizes(given, sizes, [("raw", "x"), ("raw", "y")]))


def values(folder: Path, **more: object) -> dict[str, object]:
    (folder / "net.py").write_text(PARITY)
    np.save(folder / "image.npy", np.random.default_rng(0).normal(size=(1, 1, 40, 40)).astype("f4"))
    return {
        "source": "net.py:Net", "name": "parity", "description": "Odd sizes count double.",
        "authors": ["A"], "license": "MIT", "cite": ["None https://example.com/"], "timing": False,
        "inputs": [{"sample": str(folder / "image.npy"), "axes": "bcyx", **more}],
    }  # fmt: skip


def test_a_package_allows_what_its_graph_is_right_at(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from biozoo_converters.packing.build import pack

    report = pack(values(tmp_path), tmp_path / "out", root=tmp_path)
    sizes = {a["id"]: a["size"] for a in report.raw["inputs"][0]["axes"] if a["type"] == "space"}
    assert sizes == {"y": {"min": 16, "step": 16}, "x": {"min": 16, "step": 16}}
    assert report.certificate is not None
    assert report.certificate.ok
    assert any("steps of 16" in note for note in report.notes)


def test_an_author_who_gives_the_sizes_is_told_instead(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from biozoo_converters.packing.build import pack

    size = {"y": {"min": 16, "step": 1}, "x": {"min": 16, "step": 1}}
    with pytest.raises(ConversionError, match="onnx"):
        pack(values(tmp_path, size=size), tmp_path / "out", root=tmp_path)
    assert not (tmp_path / "out").exists()
