"""Torch networks as ONNX graphs: what is described as variable is variable, for every way of
exporting that accepts a network, in ONNX Runtime, against torch; and what cannot be exported is
told by operator, submodule and cure.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from biozoo.errors import NetworkError

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from biozoo_converters.exporting.diagnosis import ExportError  # noqa: E402
from biozoo_converters.exporting.export import examples  # noqa: E402
from biozoo_converters.networks.network import ExportRequest  # noqa: E402
from biozoo_converters.networks.torch_network import TorchNetwork  # noqa: E402

Rule = tuple[str, int, int]
YX: dict[int, Rule] = {0: ("batch", 1, 1), 2: ("y", 4, 8), 3: ("x", 4, 8)}


class UNet(nn.Module):
    """Two levels; ragged sizes are padded by what the shapes say."""

    def __init__(self, odd: bool = False):
        super().__init__()
        self.odd = odd
        self.enter = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.InstanceNorm2d(4), nn.ReLU(), nn.Dropout()
        )
        self.down = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU())
        self.up = nn.ModuleList([nn.ConvTranspose2d(8, 8, 2, 2), nn.ConvTranspose2d(8, 4, 2, 2)])
        self.mix = nn.Conv2d(16, 8, 1)
        self.leave = nn.Conv2d(8, 2, 1)

    def join(self, skip, small):
        if self.odd:
            below = skip.shape[-2] - small.shape[-2]
            right = skip.shape[-1] - small.shape[-1]
            small = F.pad(small, [0, right, 0, below], mode="replicate")
        return torch.cat([skip, small], 1)

    def forward(self, x):
        a = self.enter(x)
        b = self.down(F.max_pool2d(a, 2))
        c = self.deep(F.max_pool2d(b, 2))
        b = self.mix(self.join(b, self.up[0](c)))
        return self.leave(self.join(a, self.up[1](b)))


class Attention(nn.Module):
    """Every pixel looks at every other; positions from the size; sizes are multiplied and split."""

    def __init__(self):
        super().__init__()
        self.enter = nn.Conv2d(1, 8, 4, 4)
        self.look = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.leave = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        x = self.enter(x)
        b, c, h, w = x.shape
        x = self.look(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(b, c, h, w)
        return F.interpolate(self.leave(x), scale_factor=4, mode="bilinear", align_corners=False)


class Two(nn.Module):
    """Two images in, a dict of three out, one of them a number per image."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 3, 3, padding=1)
        self.b = nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, image, guide):
        mixed = self.a(image) * torch.sigmoid(self.b(guide))
        return {"mixed": mixed, "half": F.avg_pool2d(mixed, 2), "mean": mixed.mean((1, 2, 3))}


class BySize(nn.Module):
    """Python decides by a size: another network for sizes that 3 divides."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x):
        x = self.conv(x)
        if x.shape[2] % 3 == 0:
            return x * 2
        return x


class Wrapped(nn.Module):
    """A submodule that does one thing, two levels down."""

    def __init__(self, act):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), Inner(act))

    def forward(self, x):
        return self.encoder(x)


class Inner(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.act = act

    def forward(self, x):
        return self.act(x)


def image(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32) - 0.3


def network(module: nn.Module, **more: Any) -> TorchNetwork:
    torch.manual_seed(0)
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_normal_(parameter)
    return TorchNetwork(module, **more)


def request(
    *shapes: tuple[int, ...], free: Sequence[Mapping[int, Rule]] = (YX,), outputs: int = 1
) -> ExportRequest:
    return ExportRequest(
        tuple(image(*s) for s in shapes),
        tuple(f"raw{i or ''}" for i in range(len(shapes))),
        tuple(f"out{i or ''}" for i in range(outputs)),
        tuple(free),
    )


def differences(
    net: TorchNetwork, graph: bytes, shapes: Sequence[Sequence[tuple[int, ...]]]
) -> list[float]:
    """Largest difference between ONNX Runtime and torch at each of the inputs' shapes."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    found = []
    for number, given in enumerate(shapes):
        arrays = [image(*s, seed=10 * number + k) for k, s in enumerate(given)]
        want = net.run(arrays)
        got = session.run(None, dict(zip(names, arrays, strict=True)))
        assert [g.shape for g in got] == [w.shape for w in want]
        found.append(max(float(np.abs(g - w).max()) for g, w in zip(got, want, strict=True)))
    return found


SHAPES = [[(1, 1, 8, 8)], [(1, 1, 32, 32)], [(3, 1, 12, 20)], [(2, 1, 40, 24)]]
ODD = [[(1, 1, 9, 13)], [(2, 1, 16, 31)], [(1, 1, 37, 37)]]
ODD_FREE = ({0: ("batch", 1, 1), 2: ("y", 1, 9), 3: ("x", 1, 9)},)


@pytest.mark.parametrize("strategy", ["dynamo", "torchscript", "trace"])
def test_sizes_and_batches_are_free(strategy: str) -> None:
    net = network(UNet())
    graph = net.export(request((1, 1, 16, 16)), strategy)
    assert max(differences(net, graph, SHAPES)) < 1e-5
    (given,) = onnxruntime.InferenceSession(graph).get_inputs()
    assert (given.name, given.shape) == ("raw", ["batch", 1, "y", "x"])


@pytest.mark.parametrize("strategy", ["dynamo", "torchscript"])
def test_odd_sizes_that_are_padded_inside(strategy: str) -> None:
    net = network(UNet(odd=True))
    graph = net.export(request((1, 1, 16, 16), free=ODD_FREE), strategy)
    assert max(differences(net, graph, ODD)) < 1e-5


def test_attention_over_any_number_of_pixels() -> None:
    net = network(Attention())
    graph = net.export(request((1, 1, 16, 16)), "dynamo")
    assert max(differences(net, graph, SHAPES)) < 1e-5
    with pytest.raises(ExportError, match=r"aten::transpose in look\.self_attn: .*how many axes"):
        net.export(request((1, 1, 16, 16)), "trace")


@pytest.mark.parametrize("strategy", ["dynamo", "trace"])
def test_two_inputs_and_a_dict_of_outputs(strategy: str) -> None:
    net = network(Two())
    free = ({0: ("batch", 1, 1), 2: ("y", 2, 4), 3: ("x", 2, 4)},) * 2
    asked = request((1, 1, 8, 8), (1, 2, 8, 8), free=free, outputs=3)
    shapes = [[(n, 1, y, x), (n, 2, y, x)] for n, y, x in ((1, 8, 8), (2, 4, 10), (3, 14, 6))]
    graph = net.export(asked, strategy)
    assert max(differences(net, graph, shapes)) < 1e-5
    kept = network(Two(), outputs=["half"])
    asked = request((1, 1, 8, 8), (1, 2, 8, 8), free=free)
    assert max(differences(kept, kept.export(asked, "trace"), shapes)) < 1e-5


def test_three_dimensions_with_one_fixed() -> None:
    net = network(
        nn.Sequential(
            nn.Conv3d(1, 2, 3, padding=1), nn.InstanceNorm3d(2), nn.Conv3d(2, 1, (1, 3, 3))
        )
    )
    free = ({0: ("batch", 1, 1), 2: ("z", 1, 3), 4: ("x", 1, 8)},)
    graph = net.export(request((1, 1, 6, 10, 12), free=free), "dynamo")
    (given,) = onnxruntime.InferenceSession(graph).get_inputs()
    assert given.shape == ["batch", 1, "z", 10, "x"]
    assert max(differences(net, graph, [[(2, 1, 3, 10, 8)], [(1, 1, 9, 10, 31)]])) < 1e-5


def test_pooling_to_cells_holds_at_every_size() -> None:
    """What torch makes of it is right for the size that was exported, and for no other."""
    net = network(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.AdaptiveAvgPool2d((3, None))))
    graph = net.export(request((1, 1, 16, 16)), "dynamo")
    assert max(differences(net, graph, SHAPES)) < 1e-5


# ----------------------------------------------------------------------------- decisions in Python


def test_a_decision_by_size_is_compiled_where_recording_would_freeze_it() -> None:
    net = network(BySize())
    asked = request((1, 1, 16, 16))
    shapes = [[(1, 1, 24, 16)], [(1, 1, 16, 16)], [(2, 1, 12, 20)]]
    assert max(differences(net, net.export(asked, "torchscript"), shapes)) < 1e-5
    wrong = differences(net, net.export(asked, "trace"), shapes)
    assert wrong[0] > 1e-2, "recorded at a size that 3 does not divide"
    assert "test_export.py, line" in net.doubts["trace"][0]
    net.export(asked, "dynamo")
    assert "Mod(y, 3)" in net.doubts["dynamo"][0]
    assert not net.doubts.get("torchscript")


def test_a_size_that_becomes_a_constant_is_refused_by_name() -> None:
    net = network(Wrapped(lambda x: x.reshape(x.shape[0], 1, 16, -1)))
    with pytest.raises(ExportError) as caught:
        net.export(request((1, 1, 16, 16)), "dynamo")
    told = caught.value.diagnosis
    assert told.module_path == "encoder.1"
    assert "axis 'y' of input 'raw' became 16" in told.why
    assert "test_export.py, line" in told.why
    assert "describe the axis as fixed" in told.change


def test_examples_have_sizes_that_differ_and_are_allowed() -> None:
    first, *others = examples(request((1, 1, 16, 16)))
    assert first[0].shape == (2, 1, 16, 20)
    assert [o[0].shape for o in others] == [(2, 1, 16, 16), (1, 1, 16, 16)]
    fixed = request((1, 1, 16, 16), free=({},))
    assert [e[0].shape for e in examples(fixed)] == [(1, 1, 16, 16)]


def test_a_network_that_refuses_the_sizes_made_up_for_the_export() -> None:
    """Height and width must be the same: the inputs that were given are taken then."""

    class Square(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x):
            return self.conv(x) + x.transpose(2, 3)

    net = network(Square())
    graph = net.export(request((1, 1, 16, 16)), "trace")
    assert max(differences(net, graph, [[(2, 1, 24, 24)], [(1, 1, 8, 8)]])) < 1e-5


# ----------------------------------------------------------------------------------- TorchScript


@pytest.mark.parametrize("how", ["script", "trace"])
def test_torchscript_modules(how: str) -> None:
    module = BySize().eval() if how == "script" else UNet().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = (
            torch.jit.script(module)
            if how == "script"
            else torch.jit.trace(module, torch.rand(1, 1, 16, 16))
        )
    net = TorchNetwork(made)
    assert net.strategies == ("torchscript", "trace")
    for strategy in net.strategies:
        graph = net.export(request((1, 1, 16, 16)), strategy)
        assert max(differences(net, graph, [*SHAPES, [(1, 1, 24, 16)]])) < 1e-5
    with pytest.raises(NetworkError, match="torchscript and trace"):
        net.export(request((1, 1, 16, 16)), "dynamo")


# ------------------------------------------------------------------------------------- diagnoses


def decide(x):
    return x * 2 if x.mean() > 0 else x


def decide_by(x, **words):  # words that the compiler of TorchScript does not know
    return x * 2 if x.mean() > 0 else x


def through_numpy(x):
    return torch.from_numpy(np.sqrt(x.detach().numpy()))


class Keeps(nn.Module):
    def forward(self, x):
        self.last = x * 2
        return self.last


@pytest.mark.parametrize(
    ("act", "strategy", "operator", "why", "change"),
    [
        (lambda x: x - x.median(), "dynamo", "aten::median", "no ONNX form", "torch.sort"),
        (lambda x: torch.linalg.svd(x)[0], "trace", "aten::linalg_svd", "no ONNX form", "matrix"),
        (lambda x: torch.fft.fft2(x).real, "trace", "aten::fft_fft2", "no ONNX form", "convol"),
        (
            lambda x: F.adaptive_max_pool2d(x, 3), "trace", "aten::adaptive_max_pool2d",
            "for sizes that vary", "window of fixed size",
        ),
        (decide, "dynamo", "aten::item", "takes a value out of a tensor", "torch.where"),
        (decide_by, "torchscript", "", "torch.jit.script cannot compile", "torch.where"),
        (through_numpy, "dynamo", "", "leaves torch", "operators of torch"),
    ],
)  # fmt: skip
def test_diagnoses(act: Any, strategy: str, operator: str, why: str, change: str) -> None:
    net = network(Wrapped(act))
    net.run([image(1, 1, 16, 16)])  # torch itself has no trouble
    with pytest.raises(ExportError) as caught:
        net.export(request((1, 1, 16, 16)), strategy)
    told = caught.value.diagnosis
    assert told.operator.replace("aten::_", "aten::") == operator
    assert told.module_path == "encoder.1" or strategy == "torchscript"
    assert why in told.why
    assert change in told.change
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 400
    assert said.endswith(".")


def test_exporting_prints_and_warns_nothing_and_changes_no_setting(
    capfd: pytest.CaptureFixture[str],
) -> None:
    net = network(Wrapped(decide))
    before = (torch.backends.mha.get_fastpath_enabled(), torch.is_grad_enabled())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for act, strategy in ((decide, "trace"), (decide, "dynamo"), (torch.erfinv, "trace")):
            net = network(Wrapped(act))
            try:
                net.export(request((1, 1, 16, 16)), strategy)
            except ExportError:
                continue
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert (torch.backends.mha.get_fastpath_enabled(), torch.is_grad_enabled()) == before
    assert not net.module.training


def test_weights_that_one_file_cannot_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from biozoo_converters.exporting import export

    monkeypatch.setattr(export, "_MOST_BYTES", 100)
    with pytest.raises(NetworkError, match="2 GB"):
        network(UNet()).export(request((1, 1, 16, 16)), "trace")


def test_an_input_that_is_not_used_and_outputs_that_are_not_there() -> None:
    class Ignores(nn.Module):
        def forward(self, image, guide):
            return image * 2

    net = network(Ignores())
    asked = request((1, 1, 16, 16), (1, 1, 16, 16), free=(YX, YX))
    with pytest.raises(NetworkError, match="does not use its input raw1"):
        net.export(asked, "trace")
    with pytest.raises(NetworkError, match="gives 1 outputs, 2 are described"):
        network(UNet()).export(request((1, 1, 16, 16), outputs=2), "trace")


# ---------------------------------------------------------------------------------- ONNX as it is


def test_an_onnx_file_gets_the_names_and_sizes_of_the_description(tmp_path: Any) -> None:
    from biozoo_converters.networks.onnx_network import OnnxNetwork

    net = network(Two())
    free = ({0: ("batch", 1, 1), 2: ("y", 2, 4), 3: ("x", 2, 4)},) * 2
    asked = request((1, 1, 8, 8), (1, 2, 8, 8), free=free, outputs=3)
    (tmp_path / "net.onnx").write_bytes(net.export(asked, "trace"))
    onnx = OnnxNetwork(tmp_path / "net.onnx", outputs=[2, "out"])
    swapped = ExportRequest(
        asked.inputs, ("raw1", "raw"), ("out", "mask"), (free[0], {0: ("batch", 1, 1)})
    )
    session = onnxruntime.InferenceSession(onnx.export(swapped, "as it is"))
    assert [(i.name, i.shape) for i in session.get_inputs()] == [
        ("raw1", ["batch", 1, "y", "x"]),
        ("raw", ["batch", 2, 8, 8]),
    ]
    arrays = [image(2, 1, 8, 8), image(2, 2, 8, 8)]
    made = session.run(["out", "mask"], dict(zip(("raw1", "raw"), arrays, strict=True)))
    want = onnx.run(arrays)
    assert np.array_equal(made[0], want[0])
    assert np.array_equal(made[1], want[1])
    onnx.close()

    square = request((1, 1, 8, 8), (1, 2, 8, 8), free=({0: ("batch", 1, 1)},) * 2, outputs=3)
    (tmp_path / "fixed.onnx").write_bytes(net.export(square, "trace"))
    with pytest.raises(NetworkError, match="Axis 'y' of input 'raw' is 8 in the ONNX graph"):
        OnnxNetwork(tmp_path / "fixed.onnx").export(asked, "as it is")
