"""What only a card can show; `make test-cuda` runs these, elsewhere they are skipped.

A backend whose installed build cannot use the card is skipped with its own reason, so that the
output says what was covered.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import biozoo_runners
from biozoo.errors import BiozooError, DeviceError
from biozoo_runners.base import Backend
from biozoo_runners.devices import Machine, detect, importable, what_to_do, why_no_cuda
from biozoo_runners.nvml import DeviceMemory
from biozoo_runners.pipeline import known_backends
from packages import change_rdf, make_package, read_rdf, sha256
from test_embedding import MAKERS, heavy, loaded, noise

pytestmark = pytest.mark.cuda

CARD = "cuda"
Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def machine() -> Machine:
    return detect()


def able(name: str, machine: Machine) -> type[Backend]:
    """The backend of this name, where what is installed can use the card."""
    backend = next(b for b in known_backends()[0].values() if b.name == name)
    found = backend.available(machine)
    if "cuda" not in found.devices:
        pytest.skip(f"{name}: {found.reason or why_no_cuda(machine) or 'not for cards'}")
    return backend


@pytest.fixture(params=["onnxruntime", "torch"])
def name(request: pytest.FixtureRequest, machine: Machine) -> str:
    """A backend that runs in this process."""
    able(request.param, machine)
    return str(request.param)


def on(folder: Path, device: str, backend: str, **more: Any) -> biozoo_runners.Runner:
    return biozoo_runners.load(folder, device=device, backend=backend, **more)


# ---------------------------------------------------------------------------- the truth


def test_the_machine_is_seen(machine: Machine) -> None:
    assert machine.cuda
    assert machine.cuda[0].memory > 2**30
    assert machine.driver
    assert (why_no_cuda(machine), what_to_do(machine)) == ("", "")


@pytest.mark.parametrize("backend", ["onnxruntime", "torch", "torch-code"])
@pytest.mark.parametrize("axes", ["bcyx", "bczyx"])
def test_results_are_those_of_the_cpu(
    tmp_path: Path, machine: Machine, backend: str, axes: str
) -> None:
    """Whole and tiled; the report says where it ran, on what, and with how much memory."""
    able(backend, machine)
    folder = MAKERS[backend](
        tmp_path / "p", axes=axes, channels=2, out_channels=3, kernel=5, halo=2
    )
    image = noise(2, *([20] if "z" in axes else []), 60, 70)
    tile = dict.fromkeys("zyx" if "z" in axes else "yx", 16)
    with loaded(folder, backend) as model:
        letters = axes[1:]
        expected = model(image, axes=letters)["prediction"]
    with on(folder, CARD, backend) as model:
        whole = model(image, axes=letters)
        tiled = model(image, axes=letters, tile=tile)
    for got in (whole, tiled):
        np.testing.assert_allclose(got["prediction"], expected, rtol=1e-5, atol=1e-5)
    report = tiled.report
    assert report.ran.device.startswith("cuda")
    assert "cuda" in report.ran.providers[0].lower()
    assert report.device_memory is not None
    assert report.device_memory > 0
    assert f" on {report.ran.device}" in str(report)
    assert not any("CPU" in note for note in report.notes)


def test_keras_computes_on_the_card(tmp_path: Path, machine: Machine) -> None:
    able("keras", machine)
    if not importable("tensorflow"):
        pytest.skip("tensorflow, which makes the weights, is not installed")
    folder, image = MAKERS["keras"](tmp_path / "p", halo=1), noise(60, 70)
    with loaded(folder, "keras") as model:
        expected = model(image, axes="yx")["prediction"]
    with on(folder, CARD, "keras") as model:
        got = model(image, axes="yx", tile={"y": 32, "x": 32})
    np.testing.assert_allclose(got["prediction"], expected, rtol=1e-5, atol=1e-5)
    assert got.report.ran.device == CARD
    assert (got.report.device_memory or 0) > 0


@pytest.mark.parametrize("kind", ["onnx", "traced", "compiled", "code"])
def test_convolutions_keep_all_bits_of_float32(tmp_path: Path, machine: Machine, kind: str) -> None:
    """Eight of random weights one after the other, which TF32 takes 1e-3 off. What the program had
    set does not matter, nor does a run change it.
    """
    import torch

    backend = {"onnx": "onnxruntime", "code": "torch-code"}.get(kind, "torch")
    able(backend, machine)
    folder = deep(tmp_path / "deep", kind)
    image = noise(200, 200)
    with loaded(folder, backend) as model:
        expected = model(image, axes="yx")["prediction"]
    for allowed in (True, False):
        torch.backends.cudnn.allow_tf32 = allowed
        try:
            with on(folder, CARD, backend) as model:
                got = model(image, axes="yx")["prediction"]
            assert torch.backends.cudnn.allow_tf32 is allowed
        finally:
            torch.backends.cudnn.allow_tf32 = True
        assert float(np.abs(got - expected).max()) < 2e-5


DEEP = '''\
"""Eight convolutions, made for tests."""

import torch
from torch import nn


class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        sizes = [1, *[16] * 7, 1]
        self.parts = nn.Sequential(
            *[nn.Conv2d(a, b, 3, padding=1) for a, b in zip(sizes, sizes[1:])]
        )

    def forward(self, x):
        return self.parts(x)
'''


def deep(folder: Path, kind: str) -> Path:
    """A package of eight convolutions with random weights, about as large in as out."""
    import torch

    from weights_state_dict import add_state_dict
    from weights_torch import save_torchscript

    make_package(folder, halo=8, size=(24, 4), validate=False)
    (folder / "deep.py").write_text(DEEP)
    torch.manual_seed(0)
    network = imported(folder / "deep.py").Deep().eval()
    with torch.no_grad():
        for part in network.parts:
            part.weight.normal_(0, part.weight[0].numel() ** -0.5)
    if kind == "code":
        return add_state_dict(
            folder, text=DEEP, callable="Deep", kwargs={}, state=network.state_dict()
        )
    file, example = "weights.onnx", torch.zeros(1, 1, 24, 24)
    if kind == "onnx":
        state = {k: v.numpy() for k, v in network.state_dict().items()}
        nodes, last = [], "raw"
        for k in range(8):
            given = [last, f"parts.{k}.weight", f"parts.{k}.bias"]
            last = f"m{k}" if k < 7 else "prediction"
            nodes.append(helper.make_node("Conv", given, [last], pads=[1, 1, 1, 1]))
        save_graph(folder / file, nodes, [numpy_helper.from_array(v, k) for k, v in state.items()])
        entry = read_rdf(folder)["weights"]
        entry["onnx"]["sha256"] = sha256(folder / file)
    else:
        file = "weights.pt"
        save_torchscript(network, folder / file, example=(example,) if kind == "traced" else ())
        entry = {"torchscript": {"source": file, "sha256": sha256(folder / file)}}
        entry["torchscript"]["pytorch_version"] = torch.__version__.partition("+")[0]
    change_rdf(folder, weights=entry)
    return folder


def imported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save_graph(path: Path, nodes: list[Any], initial: list[Any]) -> None:
    """An ONNX graph of one channel in and out and any size."""
    ports = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ("b", 1, f"{n}y", f"{n}x"))
        for n in ("raw", "prediction")
    ]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], initial)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(made.SerializeToString())


def test_nothing_is_printed(tmp_path: Path, name: str) -> None:
    """Libraries of the card warn on standard error of what is no matter."""
    folder = MAKERS[name](tmp_path / "p")
    code = f"""
        import numpy, biozoo_runners
        with biozoo_runners.load({str(folder)!r}, device="cuda", backend={name!r}) as model:
            model(numpy.ones((20, 20), "float32"), axes="yx")
        """
    made = subprocess.run(
        [sys.executable, "-W", "always::UserWarning", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert made.stdout == ""
    assert made.stderr == ""


def test_auto_takes_the_card(tmp_path: Path, name: str) -> None:
    with biozoo_runners.load(MAKERS[name](tmp_path / "p")) as model:
        assert model.info.device == CARD
        assert not model(noise(20, 20), axes="yx").report.notes


def test_a_card_that_is_not_there(tmp_path: Path, name: str, machine: Machine) -> None:
    """Told from the list of cards; and by the framework, where nobody looked before."""
    folder = MAKERS[name](tmp_path / "p")
    with pytest.raises(DeviceError, match="there is no such card"):
        on(folder, "cuda:99", name)
    package = biozoo_runners.load(folder, device="cpu", backend=name).package
    backend = able(name, machine)
    weights = next(f for f in backend.weights_formats if f in package.summary.weights)
    with pytest.raises(DeviceError, match=r"cuda:99"):
        backend.open(package, weights, device="cuda:99")


def test_a_card_that_is_hidden(tmp_path: Path) -> None:
    code = f"""
        import os
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        import biozoo_runners
        try:
            biozoo_runners.load({str(make_package(tmp_path / "p"))!r}, device="cuda")
        except RuntimeError as exc:
            print(exc)
        """
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert "CUDA_VISIBLE_DEVICES is '', which hides" in answer.stdout


# ---------------------------------------------------------------------------- memory


BRANCHES, FEATURES = 48, 64


def hungry(folder: Path, backend: str) -> Path:
    """A package whose network holds 48 maps of 64 features at once: 12 kB for each pixel.

    A tile of 4096 x 4096 so needs 200 GB, more than any card has, and no single array in it has
    more than 2 ** 31 values, which CUDA's libraries would refuse for another reason.
    """
    make_package(folder, halo=1, validate=False)
    firsts = [
        np.full((FEATURES, 1, 3, 3), (k + 1) / 9 / FEATURES / BRANCHES**2, np.float32)
        for k in range(BRANCHES)
    ]
    entry = read_rdf(folder)["weights"]
    if backend == "torch":
        import torch
        from torch import nn

        from weights_torch import save_torchscript

        class Hungry(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.convs = nn.ModuleList(
                    nn.Conv2d(1, FEATURES, 3, padding=1, bias=False) for _ in firsts
                )
                for conv, weight in zip(self.convs, firsts, strict=True):
                    conv.weight.data = torch.from_numpy(weight)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                maps = [conv(x) for conv in self.convs]
                total = maps[0]
                for one in maps[1:]:
                    total = total + one
                return total.sum(1, keepdim=True)

        example = (torch.zeros(1, 1, 16, 16),)
        save_torchscript(Hungry(), folder / "weights.pt", example=example)
        entry = {
            "torchscript": {
                "source": "weights.pt",
                "sha256": sha256(folder / "weights.pt"),
                "pytorch_version": torch.__version__.partition("+")[0],
            }
        }
    else:
        nodes = [
            helper.make_node("Conv", ["raw", f"w{k}"], [f"m{k}"], pads=[1, 1, 1, 1])
            for k in range(BRANCHES)
        ]
        nodes += [
            helper.make_node("Sum", [f"m{k}" for k in range(BRANCHES)], ["total"]),
            helper.make_node("ReduceSum", ["total", "axes"], ["prediction"], keepdims=1),
        ]
        initial = [numpy_helper.from_array(w, f"w{k}") for k, w in enumerate(firsts)]
        initial.append(numpy_helper.from_array(np.array([1]), "axes"))
        save_graph(folder / "weights.onnx", nodes, initial)
        entry["onnx"]["sha256"] = sha256(folder / "weights.onnx")
    change_rdf(folder, weights=entry)
    return folder


def test_memory_that_ends_on_the_card_halves_the_tile(tmp_path: Path, name: str) -> None:
    """A tile of 200 GB is asked for; the run goes on with what fits, and the result is right."""
    folder, image = hungry(tmp_path / "hungry", name), noise(1200, 4000)
    with on(folder, CARD, name) as model:
        expected = model(image, axes="yx", tile={"y": 256, "x": 256})["prediction"]
        got = model(image, axes="yx", tile={"y": 4096, "x": 4096})
        again = model(image, axes="yx", tile={"y": 4096, "x": 4096})
    np.testing.assert_allclose(got["prediction"], expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(again["prediction"], expected, rtol=1e-3, atol=1e-3)
    told = [n for n in got.report.notes if n.startswith("ran out of memory on cuda with tiles of")]
    assert len(told) == 1
    assert "y 4096, x 4096" in told[0]
    assert "smaller than the asked --tile" in told[0]
    assert any(n.startswith("an earlier image ran out of memory") for n in again.report.notes)


@pytest.fixture
def device_memory() -> DeviceMemory:
    return DeviceMemory()


def heavy_for(folder: Path, backend: str) -> Path:
    """A package with 400 MB of weights, as ONNX or TorchScript."""
    if backend == "onnxruntime":
        return heavy(folder, 400)
    import torch
    from torch import nn

    from weights_torch import save_torchscript

    class Heavy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(nn.Linear(1024, 1024) for _ in range(100))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            row = x.mean().expand(1, 1024)
            for part in self.parts:
                row = part(row)
            return x + row.mean()

    make_package(folder, channels=4, out_channels=4, validate=False)
    save_torchscript(Heavy(), folder / "weights.pt", example=(torch.zeros(1, 4, 16, 16),))
    entry = {"source": "weights.pt", "sha256": sha256(folder / "weights.pt")}
    entry["pytorch_version"] = torch.__version__.partition("+")[0]
    change_rdf(folder, weights={"torchscript": entry})
    return folder


def test_a_closed_runner_gives_the_cards_memory_back(
    tmp_path: Path, name: str, device_memory: DeviceMemory
) -> None:
    """What CUDA itself takes stays until the process ends; the weights do not."""
    folder, image = heavy_for(tmp_path / "heavy", name), noise(4, 64, 64)

    def turn() -> tuple[int, int]:
        with on(folder, CARD, name) as model:
            report = model(image, axes="cyx").report
            return device_memory.look() or 0, report.device_memory or 0

    turn()  # CUDA's own part, once for the process
    before = device_memory.look()
    if before is None:
        pytest.skip("the driver does not tell how much memory is used")
    during, told = turn()
    after = device_memory.look() or 0
    assert during - before > 300e6
    assert told > 300e6
    assert after - before < 0.25 * (during - before)


# ---------------------------------------------------------------------------- two at once


def test_two_runners_share_the_card(tmp_path: Path, machine: Machine) -> None:
    """In two threads, of different packages; both backends where both can use the card."""
    names = []
    for wanted in ("onnxruntime", "torch"):
        try:
            able(wanted, machine)
            names.append(wanted)
        except pytest.skip.Exception:
            continue
    if not names:
        pytest.skip("no backend can use the card")
    folders = [
        MAKERS[names[0]](tmp_path / "one", id="one", halo=1),
        MAKERS[names[-1]](tmp_path / "two", id="two", out_channels=3, halo=2, kernel=5),
    ]
    images = [noise(70, 60 + 4 * k) for k in range(4)]

    def work(model: biozoo_runners.Runner) -> list[Array]:
        tile = {"y": 32, "x": 32}
        return [model(i, axes="yx", tile=tile)["prediction"].values for i in images]

    with on(folders[0], CARD, names[0]) as one, on(folders[1], CARD, names[-1]) as two:
        alone = [work(one), work(two)]
        with ThreadPoolExecutor(2) as pool:
            together = [f.result() for f in [pool.submit(work, m) for m in (one, two)]]
    for expected, got in zip(alone, together, strict=True):
        for a, b in zip(expected, got, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_threads_and_errors_are_as_on_the_cpu(tmp_path: Path, name: str) -> None:
    """A wrong shape is an error that says so, and harms no later run."""
    with on(MAKERS[name](tmp_path / "p"), CARD, name) as model:
        with pytest.raises(BiozooError):
            model.backend.run({"raw": noise(1, 2, 3)})
        assert model(noise(20, 20), axes="yx")["prediction"].shape == (1, 20, 20)
