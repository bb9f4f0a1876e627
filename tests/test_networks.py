"""What `zoo pack` gets from what an author names: a network that maps arrays to arrays, or a
sentence that says what is wrong and what to do.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biozoo.consent import grant
from biozoo.errors import MissingFileError, NetworkError, UntrustedCodeError, UsageError
from biozoo.package import ModelPackage
from packages import make_package
from weights_state_dict import add_state_dict

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from biozoo_converters.networks.network import ExportRequest, Named  # noqa: E402
from biozoo_converters.networks.package_network import package_network  # noqa: E402
from biozoo_converters.networks.torch_network import TorchNetwork  # noqa: E402
from biozoo_converters.networks.torch_source import open_network  # noqa: E402

SOURCE = '''\
"""A network of a test."""
from dataclasses import dataclass
import torch
from torch import nn
from blocks import double


@dataclass
class Found:
    mask: torch.Tensor
    edges: torch.Tensor


class Net(nn.Module):
    def __init__(self, width, depth=1, *, dropout=0.5):
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(dropout)
        self.last = nn.Conv2d(width, 2, 1)

    def forward(self, image):
        return self.last(self.drop(double(self.norm(self.first(image)))))


class Many(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.inner = nn.Sequential(nn.Conv2d(1, 1, 3))

    def forward(self, image, other):
        a = self.inner(image)
        b = a + other.mean()
        made = {
            "tuple": (a, b), "list": [a, [b, a]], "dict": {"mask": a, "edges": b},
            "data": Found(a, b), "none": (a, None), "number": 3.0, "empty": (),
            "complex": torch.fft.fft(a), "bool": a > 0,
        }
        return made[self.kind]


def small(width=3):
    return Net(width)


def raises():
    raise ValueError("no such thing")


def number():
    return 12


whole = Net(2)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with ``net.py`` and what lies beside it."""
    made = tmp_path / "author"
    made.mkdir()
    (made / "net.py").write_text(SOURCE)
    (made / "blocks.py").write_text("def double(x):\n    return x * 2\n")
    return made


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def state_of(folder: Path, **kwargs: Any) -> dict[str, Any]:
    torch.manual_seed(5)
    network = open_network("net.py:Net", callable_kwargs=kwargs, root=folder).module
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    return dict(network.state_dict())


def fault(folder: Path, source: str, **more: Any) -> str:
    with pytest.raises(NetworkError) as caught:
        open_network(source, root=folder, **more)
    return str(caught.value)


# ---------------------------------------------------------------------------------- what is opened


def test_a_class_of_a_file_runs_in_evaluation_mode(folder: Path) -> None:
    network = open_network("net.py:Net", callable_kwargs={"width": 4}, root=folder)
    first, again = network.run([image(2, 1, 8, 9)]), network.run([image(2, 1, 8, 9)])
    assert first[0].shape == (2, 2, 8, 9)
    assert first[0].dtype == np.float32
    assert np.array_equal(first[0], again[0]), "dropout would differ"
    assert (network.name, network.format) == ("net.py:Net", "pytorch_state_dict")
    assert network.input_names == ("image",)
    assert "random" in network.notes[0]


@pytest.mark.parametrize("source", ["net.py:small", "net.py:whole", "net.py:Net.__call__.__name__"])
def test_functions_and_networks_that_are_there_are_taken(folder: Path, source: str) -> None:
    if "__name__" in source:
        assert "makes no network" in fault(folder, source)
        return
    assert open_network(source, root=folder).run([image(1, 1, 8, 8)])[0].shape == (1, 2, 8, 8)


def test_an_importable_callable(tmp_path: Path) -> None:
    network = open_network(
        "torch.nn:Conv3d",
        callable_kwargs={"in_channels": 1, "out_channels": 2, "kernel_size": 3},
        root=tmp_path,
    )
    assert network.name == "torch.nn:Conv3d"
    assert network.run([image(1, 1, 5, 6, 7)])[0].shape == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("kind", ["plain", "checkpoint", "parallel", "wrapped", "safetensors"])
def test_weights_are_found_in_what_training_programs_save(folder: Path, kind: str) -> None:
    state = state_of(folder, width=3)
    path = folder / ("w.safetensors" if kind == "safetensors" else "w.pt")
    saved: Any = {
        "plain": state,
        "checkpoint": {"epoch": 3, "state_dict": state, "loss": 0.5},
        "parallel": {f"module.{k}": v for k, v in state.items()},
        "wrapped": {f"model.{k}": v for k, v in state.items()} | {"loss.w": torch.ones(1)},
        "safetensors": state,
    }[kind]
    if kind == "safetensors":
        from safetensors.torch import save_file

        save_file({k: v.contiguous() for k, v in saved.items()}, path)
    else:
        torch.save(saved, path)
    network = open_network(
        "net.py:Net", callable_kwargs={"width": 3}, weights=Path(path.name), root=folder
    )
    for name, tensor in network.module.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert len(network.sha256) == 64
    assert not any("random" in note for note in network.notes)
    assert ("model." in " ".join(network.notes)) is (kind == "wrapped")


def test_without_weights_the_hash_is_that_of_the_tensors(folder: Path) -> None:
    one, same = (
        open_network("net.py:Net", callable_kwargs={"width": 3}, root=folder) for _ in range(2)
    )
    other = open_network("net.py:Net", callable_kwargs={"width": 4}, root=folder)
    assert one.sha256 == same.sha256 != other.sha256
    with torch.no_grad():
        one.module.last.bias += 1
    assert TorchNetwork(one.module).sha256 != same.sha256


def test_files_beside_the_source_belong_to_this_source(folder: Path, tmp_path: Path) -> None:
    """Two authors both have a blocks.py; and a file that was edited is read again."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "net.py").write_text(SOURCE)
    (other / "blocks.py").write_text("def double(x):\n    return x * 20\n")
    one, two = (
        open_network("net.py:Net", callable_kwargs={"width": 2}, root=f) for f in (folder, other)
    )
    with torch.no_grad():
        for network in (one, two):
            network.module.last.bias.zero_()
    x = [image(1, 1, 8, 8)]
    assert np.allclose(one.run(x)[0] * 10, two.run(x)[0], atol=1e-5)


def test_half_precision_is_computed_as_float32(folder: Path) -> None:
    (folder / "half.py").write_text(
        "import torch\ndef net():\n"
        "    return torch.nn.DataParallel(torch.nn.Conv2d(1, 1, 3).to(torch.bfloat16))\n"
    )
    network = open_network("half.py:net", root=folder)
    assert network.run([image(1, 1, 8, 8)])[0].dtype == np.float32
    assert "bfloat16" in " ".join(network.notes)
    assert type(network.module) is torch.nn.Conv2d, "what spread it over cards is taken off"
    torch.jit.script(torch.nn.Conv2d(1, 1, 3).half()).save(folder / "half.pt")
    script = open_network("half.pt", root=folder)
    assert script.run([image(1, 1, 8, 8)])[0].dtype == np.float32
    assert "float16" in " ".join(script.notes)


def test_torchscript_and_onnx_files_are_networks(folder: Path, tmp_path: Path) -> None:
    network = open_network("net.py:Net", callable_kwargs={"width": 3}, root=folder)
    x = image(1, 1, 8, 8)
    torch.jit.trace(network.module, torch.from_numpy(x)).save(folder / "net.pt")
    script = open_network("net.pt", root=folder)
    assert (script.format, script.input_names) == ("torchscript", ("image",))
    assert np.allclose(script.run([x])[0], network.run([x])[0], atol=1e-6)

    package = make_package(tmp_path / "p", inputs=2, outputs=2)
    onnx = open_network(str(package / "weights.onnx"), root=folder)
    assert (onnx.format, onnx.input_names) == ("onnx", ("raw", "raw1"))
    assert onnx.output_names == ("prediction", "prediction1")
    both = onnx.run([x, x])
    kept = open_network(str(package / "weights.onnx"), outputs=["prediction1"])
    assert np.array_equal(kept.run([x, x])[0], both[1])
    assert np.allclose(both[1], 2 * both[0])


# ---------------------------------------------------------------------------------- what it returns


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("tuple", ("output", "output1")),
        ("list", ("output", "output1", "output2")),
        ("dict", ("mask", "edges")),
        ("data", ("mask", "edges")),
        ("bool", ("output",)),
    ],
)
def test_containers_become_named_outputs(folder: Path, kind: str, names: tuple[str, ...]) -> None:
    network = open_network("net.py:Many", callable_kwargs={"kind": kind}, root=folder)
    assert network.input_names == ("image", "other")
    made = network.run([image(1, 1, 8, 8), image(1, 4)])
    assert network.output_names == names
    assert [m.shape for m in made] == [(1, 1, 6, 6)] * len(names)


def test_an_author_keeps_only_some_outputs(folder: Path) -> None:
    inputs = [image(1, 1, 8, 8), image(1, 4)]

    def opened(kind: str, outputs: list[int | str]) -> list[np.ndarray]:
        kwargs = {"kind": kind}
        return open_network(
            "net.py:Many", callable_kwargs=kwargs, root=folder, outputs=outputs
        ).run(inputs)

    mask, edges = opened("dict", ["mask", "edges"])
    assert np.array_equal(opened("dict", ["edges"])[0], edges)
    assert np.array_equal(opened("dict", [1, 0])[1], mask)
    assert np.array_equal(opened("none", [0])[0], mask), "the None is not kept"
    with pytest.raises(NetworkError, match=r"has no output 'mesk'\. Did you mean mask"):
        opened("dict", ["mesk"])
    with pytest.raises(NetworkError, match=r"has no output 2. It has 0 \(mask\), 1 \(edges\)"):
        opened("dict", [2])


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("none", "output 1 ('output1') is None"),
        ("number", "its output is a float"),
        ("empty", "returns nothing"),
        ("complex", "complex numbers"),
    ],
)
def test_an_output_that_is_no_array_is_named(folder: Path, kind: str, says: str) -> None:
    network = open_network("net.py:Many", callable_kwargs={"kind": kind}, root=folder)
    with pytest.raises(NetworkError) as caught:
        network.run([image(1, 1, 8, 8), image(1, 4)])
    assert says in str(caught.value)
    assert {"none": "--outputs output ", "number": "Wrap"}.get(kind, "") in str(caught.value)


def test_a_refused_size_is_told_with_shape_cause_and_place(folder: Path) -> None:
    network = open_network("net.py:Many", callable_kwargs={"kind": "tuple"}, root=folder)
    with pytest.raises(NetworkError) as caught:
        network.run([image(1, 3, 8, 8), image(1, 4)])
    said = str(caught.value)
    assert "(1, 3, 8, 8) and (1, 4)" in said
    assert "to have 1 channels, but got 3 channels" in said
    assert "in inner.0" in said
    line = 1 + SOURCE[: SOURCE.index("        a = self.inner")].count("\n")
    assert f"net.py, line {line}" in said
    with pytest.raises(NetworkError, match="It takes image, other; 1 were given"):
        network.run([image(1, 1, 8, 8)])


def test_called_by_tensor_ids(folder: Path) -> None:
    network = open_network("net.py:Many", callable_kwargs={"kind": "tuple"}, root=folder)
    named = Named(network, ("raw", "scale"), ("mask", "edges"))
    made = named.run({"scale": image(1, 4), "raw": image(1, 1, 8, 8)})
    assert list(made) == ["mask", "edges"]


# ---------------------------------------------------------------------------------- bad input


def test_arguments_are_checked_before_the_network_is_made(folder: Path) -> None:
    said = fault(folder, "net.py:Net")
    assert "needs an argument that was not given: width" in said
    assert "--kwargs width=VALUE" in said
    said = fault(folder, "net.py:Net", callable_kwargs={"widht": 3})
    assert "takes no argument 'widht'. Did you mean width?" in said
    said = fault(folder, "net.py:Net", callable_kwargs={"width": "wide"})
    assert "net.py:Net(width='wide') raised TypeError" in said
    assert "net.py, line 17" in said


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("net.py:Nett", "has no 'Nett'. Did you mean Net?"),
        ("net.py:raises", "raised ValueError: no such thing (net.py, line"),
        ("net.py:number", "made int and no torch.nn.Module"),
        ("net.py:SOMETHING", "It has Net, Many, small, raises, number"),
        ("net.py", "net.py:NAME (it has Found, Net, Many, small, raises, number)"),
        ("torch.no_such.thing:Net", "Python finds no 'torch.no_such'"),
        ("torch.nn.Conv2d", "after a colon: torch.nn:Conv2d"),
    ],
)
def test_what_cannot_be_found_or_built_is_told(folder: Path, source: str, says: str) -> None:
    assert says in fault(folder, source)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import no_such_library\n", "imports 'no_such_library', which is not installed"),
        ("x = 1 / 0\n", "raised ZeroDivisionError while it was imported: division by zero (bad.py"),
        ("def net(:\n", "is no valid Python: invalid syntax (line 1)"),
        ("raise SystemExit(3)\n", "ends the program while it is imported"),
        ("from .blocks import double\n", "package.module:NAME"),
    ],
)
def test_a_file_that_cannot_be_imported(folder: Path, text: str, says: str) -> None:
    (folder / "bad.py").write_text(text)
    assert says in fault(folder, "bad.py:net")


def test_files_that_are_not_there(folder: Path) -> None:
    with pytest.raises(MissingFileError, match=r"gone\.py"):
        open_network("gone.py:Net", root=folder)
    with pytest.raises(MissingFileError, match=r"gone\.pt"):
        open_network("gone.pt", root=folder)
    with pytest.raises(MissingFileError, match="weights"):
        open_network("net.py:Net", callable_kwargs={"width": 2}, weights=Path("no.pt"), root=folder)
    with pytest.raises(UsageError, match="names no network"):
        open_network(":Net", root=folder)


def test_weights_that_do_not_fit_are_named(folder: Path) -> None:
    state = state_of(folder, width=3)
    state["extra.weight"] = state.pop("last.bias")
    torch.save(state, folder / "w.pt")
    said = fault(folder, "net.py:Net", callable_kwargs={"width": 4}, weights=Path("w.pt"))
    assert "1 of its 9 tensors are missing (last.bias)" in said
    assert "1 tensors are not in it (extra.weight)" in said
    assert "first.weight is (3, 1, 3, 3), the architecture has (4, 1, 3, 3)" in said
    assert "--kwargs" in said
    network = open_network(
        "net.py:Net",
        callable_kwargs={"width": 3},
        weights=Path("w.pt"),
        strict=False,
        root=folder,
    )
    assert "1 tensors were not in the weights (last.bias" in " ".join(network.notes)


class Harmful:
    """What a hostile file would hold."""

    def __init__(self, proof: Path):
        self.proof = proof

    def __reduce__(self) -> Any:
        return (Path.touch, (self.proof,))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_wants_to_run_code_is_refused(folder: Path, zipped: bool) -> None:
    proof = folder / "it-ran"
    if zipped:
        torch.save({"state_dict": Harmful(proof)}, folder / "w.pt")
    else:
        (folder / "w.pt").write_bytes(pickle.dumps({"w": Harmful(proof)}))
    said = fault(folder, "net.py:Net", callable_kwargs={"width": 3}, weights=Path("w.pt"))
    assert "was not loaded" in said
    assert "torch.save(model.state_dict(), " in said
    assert "safetensors" in said
    fault(folder, "w.pt")
    assert not proof.exists()


def test_a_whole_pickled_network_is_refused(folder: Path) -> None:
    torch.save(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3)), folder / "w.pt")
    for source, more in (("w.pt", {}), ("net.py:small", {"weights": Path("w.pt")})):
        said = fault(folder, source, **more)
        assert "torch.nn.modules.container.Sequential" in said
        assert "torch.save(model.state_dict()" in said


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "empty file"), (b"PK\x03\x04 cut", "damaged"), (b"GIF89a something", "damaged")],
)
def test_damaged_weights(folder: Path, content: bytes, says: str) -> None:
    (folder / "w.pt").write_bytes(content)
    assert says in fault(folder, "net.py:small", weights=Path("w.pt"))
    assert says in fault(folder, "w.pt")


def test_weights_in_the_place_of_a_network_and_the_other_way(folder: Path) -> None:
    torch.save(state_of(folder, width=3), folder / "w.pt")
    assert "net.py:UNet --weights w.pt" in fault(folder, "w.pt")
    torch.jit.script(torch.nn.Conv2d(1, 1, 3)).save(folder / "s.pt")
    assert "Give it alone" in fault(folder, "net.py:small", weights=Path("s.pt"))
    assert "takes no weights" in fault(folder, "s.pt", weights=Path("w.pt"))
    torch.save({"a": state_of(folder, width=3), "b": 3}, folder / "c.pt")
    assert "checkpoint that holds 'a', 'b'" in fault(folder, "net.py:small", weights=Path("c.pt"))


def test_torchscript_that_reaches_files_is_refused(folder: Path) -> None:
    class Reads(torch.nn.Module):
        def forward(self, x):  # TorchScript takes what has no type for a tensor
            return x + torch.from_file("/etc/hostname", size=1, dtype=torch.uint8)

    torch.jit.script(Reads()).save(folder / "bad.pt")
    assert "aten::from_file" in fault(folder, "bad.pt")


# ---------------------------------------------------------------------------------- of a package


def request_for(x: np.ndarray) -> ExportRequest:
    free = {0: ("batch", 1, 1), 2: ("y", 4, 8), 3: ("x", 4, 8)}
    return ExportRequest((x,), ("raw",), ("prediction",), (free,))


def test_a_state_dict_of_a_package_needs_trust_and_is_exported_in_a_child(tmp_path: Path) -> None:
    import onnxruntime

    package = ModelPackage.from_folder(add_state_dict(make_package(tmp_path / "p")))
    with pytest.raises(UntrustedCodeError):
        package_network(package, "pytorch_state_dict")
    grant(package)
    x = image(1, 1, 16, 16)
    with package_network(package, "pytorch_state_dict") as network:
        assert network.module is None, "its code runs in no process but the child"
        assert network.strategies == ("dynamo", "torchscript", "trace")
        session = onnxruntime.InferenceSession(network.export(request_for(x), "trace"))
        for shape in ((1, 1, 16, 16), (3, 1, 8, 20)):
            x = image(*shape)
            (made,) = session.run(["prediction"], {"raw": x})
            assert np.allclose(made, network.run([x])[0], atol=1e-6)
        with pytest.raises(NetworkError, match="to have 1 channels"):
            network.run([image(1, 2, 16, 16)])


def test_an_export_that_fails_in_the_child_has_its_diagnosis(tmp_path: Path) -> None:
    text = (
        "import torch\nclass Net(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.enc = torch.nn.Sequential(Inner())\n"
        "    def forward(self, x):\n        return self.enc(x)\n"
        "class Inner(torch.nn.Module):\n"
        "    def forward(self, x):\n        return x - x.median()\n"
    )
    folder = make_package(tmp_path / "p")
    add_state_dict(folder, text=text, callable="Net", kwargs={}, state={})
    package = ModelPackage.from_folder(folder)
    grant(package)
    with package_network(package, "pytorch_state_dict") as network:
        with pytest.raises(NetworkError, match=r"aten::median in enc\.0.*torch\.sort"):
            network.export(request_for(image(1, 1, 16, 16)), "trace")
        assert network.run([image(1, 1, 16, 16)])[0].shape == (1, 1, 16, 16)


def test_the_other_formats_of_a_package(tmp_path: Path) -> None:
    package = ModelPackage.from_folder(make_package(tmp_path / "p"))
    x = image(1, 1, 16, 16)
    with package_network(package, "onnx") as network:
        assert network.format == "onnx"
        assert network.run([x])[0].shape == (1, 1, 16, 16)
    with pytest.raises(NetworkError, match="has no torchscript weights; it has onnx"):
        package_network(package, "torchscript")
