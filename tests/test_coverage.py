"""The table of architectures: its register, its way, its text."""

from __future__ import annotations

import multiprocessing
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import yaml

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # behind tests/, which has modules of the same names

from architectures import ARCHITECTURES, Architecture  # noqa: E402
from architectures.measured import Measured, measure  # noqa: E402
from architectures.table import markdown  # noqa: E402
from architectures.weights import enliven  # noqa: E402


def _tool() -> Any:
    """benchmarks/coverage_table.py, also where a package of that name is installed."""
    spec = spec_from_file_location("coverage_of_architectures", BENCHMARKS / "coverage_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = _tool()

NAMES = {a.name: a for a in ARCHITECTURES}

#: What published bioimage.io models are made of, as families of the register.
FAMILIES = {
    "U-Net", "Residual U-Net", "Attention U-Net", "SE", "U-Net++", "UNETR", "HRNet",
    "MultiResUNet", "U-NeXt", "Anisotropic 3D", "Distance and flow heads", "ViT",
}  # fmt: skip


# --------------------------------------------------------------------------------------- register


def test_at_least_forty_architectures_of_every_published_family() -> None:
    assert len(ARCHITECTURES) >= 40
    assert {a.family for a in ARCHITECTURES} >= FAMILIES
    assert {len(a.axes) for a in ARCHITECTURES} == {4, 5}  # 2D and 3D
    assert {
        "monai", "segmentation_models_pytorch", "timm", "torchvision", "careamics", "cellpose"
    } <= {a.library for a in ARCHITECTURES}  # fmt: skip


def test_names_are_unique() -> None:
    assert len(NAMES) == len(ARCHITECTURES)
    assert len({tool.key(a).rpartition("-")[0] for a in ARCHITECTURES}) == len(ARCHITECTURES)


@pytest.mark.parametrize("a", ARCHITECTURES, ids=lambda a: a.name)
def test_a_line_is_what_an_author_can_write(a: Architecture) -> None:
    """Module and callable, arguments that YAML holds, no weights from the network."""
    module, colon, name = a.source.partition(":")
    assert colon
    assert module.replace(".", "_").isidentifier()
    assert name.isidentifier()
    assert yaml.safe_load(yaml.safe_dump(dict(a.kwargs))) == dict(a.kwargs)
    assert a.axes in ("bcyx", "bczyx")
    assert len(a.shape) == len(a.axes)
    fetched = ("pretrained", "weights", "encoder_weights", "weights_backbone")
    assert not any(a.kwargs.get(k) for k in fetched)
    if a.source.startswith("segmentation_models_pytorch"):
        assert a.kwargs["encoder_weights"] is None  # their default is to download


# -------------------------------------------------------------------------------------------- way

TINY = {"channels": [4, 8], "strides": [2]}


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("UNet 2D, batch norm", TINY),
        ("AttentionUnet 2D", TINY),
        ("UNet 3D, anisotropic strides", {"channels": [4, 8], "strides": [[1, 2, 2]]}),
    ],
)
def test_an_architecture_is_packed_proven_and_timed(
    name: str, kwargs: dict[str, object], tmp_path: Path
) -> None:
    pytest.importorskip("monai")
    line = NAMES[name]
    size = 16 if line.axes == "bcyx" else (4, 16, 16)
    tiny = replace(line, kwargs={**line.kwargs, **kwargs}, size=size)
    result = measure(tiny, tmp_path, runs=1)
    assert result.fault == ""
    assert result.certified
    assert result.strategy in ("dynamo", "torchscript", "trace")
    assert result.shapes >= 4
    assert result.batch
    assert "n*" in result.sizes
    assert result.ratio is not None
    assert result.ratio > 0
    assert Measured.from_json(result.to_json()) == result


def test_a_network_that_draws_is_a_line_with_a_diagnosis(tmp_path: Path) -> None:
    pytest.importorskip("monai")
    result = measure(NAMES["AutoencoderKL 2D"], tmp_path, runs=1)
    assert not result.certified
    assert "random" in result.fault
    assert "Traceback" not in result.fault


def test_weights_are_repeatable_and_the_output_varies() -> None:
    import torch
    from torch import nn

    def made() -> nn.Module:
        torch.manual_seed(1)
        net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1)).eval()
        nn.init.zeros_(net[2].weight)  # as last layers often are
        nn.init.zeros_(net[2].bias)
        enliven(net, (1, 1, 16, 16))
        return net

    image = torch.randn(1, 1, 16, 16)
    with torch.inference_mode():
        first, second = made()(image), made()(image)
    assert torch.equal(first, second)
    assert first.std() > 0.1
    net = made()
    assert not net.training
    assert not net[1].training
    assert net[1].momentum == 0.1
    assert net[1].running_mean.abs().max() > 1e-4


@pytest.mark.parametrize(
    ("program", "seconds", "memory", "why"),
    [
        ("while True: pass", 0.3, 2**40, "computes for more than"),
        ("import time; x = bytes(10**8); time.sleep(60)", 60, 2**20, "of memory"),
    ],
)
def test_what_takes_too_much_is_stopped(
    program: str, seconds: float, memory: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "PATIENCE", 1000)  # a busy machine gives it little time
    child = multiprocessing.get_context("spawn").Process(target=exec, args=(program,))
    child.start()
    with tool.watched(child, seconds, memory) as stopped:
        child.join()
    assert child.exitcode != 0
    assert why in stopped[0]


def test_a_result_is_kept_until_its_line_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "RESULTS", tmp_path)
    line = ARCHITECTURES[0]
    assert tool.kept(line) is None
    (tmp_path / f"{tool.key(line)}.json").write_text(Measured(line.name, took=1.5).to_json())
    assert tool.kept(line) == Measured(line.name, took=1.5)
    assert tool.kept(replace(line, kwargs={**line.kwargs, "dropout": 0.1})) is None


# ------------------------------------------------------------------------------------------- text


def test_the_table_counts_and_explains() -> None:
    lines = ARCHITECTURES[:3]
    results = {
        lines[0].name: Measured(
            lines[0].name, strategy="dynamo", sizes="16 + n*4", batch=True, cases=12, shapes=9,
            relative_error=2e-6, ratio=2.0, seconds=0.5, original_seconds=1.0,
        ),
        lines[1].name: Measured(
            lines[1].name, strategy="trace", sizes="64", cases=5, shapes=5, ratio=0.5
        ),
        lines[2].name: Measured(
            lines[2].name, fault="No conversion is proven.",
            tried={"dynamo": "aten::fft_rfft2 in encoder.mix: no ONNX operator"},
        ),
    }  # fmt: skip
    text = markdown(lines, results, 1)
    assert "3 architectures (2 in 2D, 1 in 3D) of 1 libraries, 2 certified: 66.7 %" in text
    assert "1 by dynamo, 1 by trace" in text
    assert "faster than torch for 1 of 2, 1.25 times in the middle (0.50 to 2.00)" in text
    assert "| 2D b, 16 + n*4 | dynamo | 12 (9) | 2.0e-06 | 0 | 2.00 | 1 / 0.5 |" in text
    assert "aten::fft_rfft2 in encoder.mix: no ONNX operator" in text
    assert "not certified" in text
