"""State dicts: only trusted, in a child; what runs is what was hashed; misfits are named."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import biozoo
from biozoo import consent
from biozoo.errors import (
    BiozooError,
    DeviceError,
    HashMismatchError,
    MissingDependencyError,
    UntrustedCodeError,
)
from biozoo.package import ModelPackage
from biozoo_runners.base import Backend
from biozoo_runners.devices import CudaDevice, Machine
from biozoo_runners.isolated.executor import NotFitting
from biozoo_runners.selection import Wish, select
from biozoo_runners.state_dict import StateDictBackend
from biozoo_runners.testing import BackendContract
from biozoo_runners.testing import test_package as reproduce
from packages import make_package, read_rdf, sha256
from weights_state_dict import BLUR, add_state_dict, blur_state

torch = pytest.importorskip("torch")

from biozoo_runners.executors.torch_code import TorchCode  # noqa: E402

FORMAT = "pytorch_state_dict"


def package_of(folder: Path, *, trusted: bool = True, **more: Any) -> ModelPackage:
    """A tiny package with a state dict."""
    package = biozoo.open(add_state_dict(make_package(folder, validate=False), **more))
    if trusted:
        consent.grant(package)
    return package


def load(package: ModelPackage, **more: Any) -> StateDictBackend:
    return StateDictBackend.open(package, FORMAT, device="cpu", threads=1, **more)


def feed(package: ModelPackage) -> dict[str, Any]:
    return {"raw": np.load(package.root / "test_raw.npy")}


class Lent:
    """An open backend of several tests: leaving `with` does not close it."""

    def __init__(self, backend: Backend):
        self.backend = backend

    def __enter__(self) -> Backend:
        return self.backend

    def __exit__(self, *_: object) -> None:
        pass


@dataclass
class Loan:
    """A package, and its open backends by number of threads."""

    package: ModelPackage
    backends: dict[int | None, Backend] = field(default_factory=dict)


@pytest.fixture(scope="module")
def lent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loan]:
    loan = Loan(package_of(tmp_path_factory.mktemp("contract") / "tiny", trusted=False))
    yield loan
    for backend in loan.backends.values():
        backend.close()


class TestStateDictBackend(BackendContract):
    """The contract of every backend. Importing torch in a process of its own takes seconds: tests
    that only run share one for each number of threads.
    """

    afresh = False

    @pytest.fixture
    def backend_class(self) -> type[StateDictBackend]:
        return StateDictBackend

    @pytest.fixture
    def package(self, lent: Loan) -> ModelPackage:
        self.lent = lent.backends
        consent.grant(lent.package)  # in the zoo of this test
        return lent.package

    def open(self, backend_class: type[Backend], package: ModelPackage, **more: Any) -> Any:
        if self.afresh or more.keys() - {"threads"}:
            return super().open(backend_class, package, **more)
        threads = more.get("threads")
        if threads not in self.lent:
            self.lent[threads] = super().open(backend_class, package, **more)
        return Lent(self.lent[threads])

    def test_closed_is_closed(self, backend_class: type[Backend], package: ModelPackage) -> None:
        self.afresh = True
        super().test_closed_is_closed(backend_class, package)

    def test_a_card_that_is_not_there_is_an_error(
        self, backend_class: type[Backend], package: ModelPackage
    ) -> None:
        """Also where torch cannot use it; said once."""
        if torch.cuda.is_available():
            pytest.skip("this machine has one")
        with pytest.raises(DeviceError, match="Device 'cuda' cannot be used: ") as told:
            self.open(backend_class, package, device="cuda")
        assert str(told.value).count("cannot be used") == 1


# ------------------------------------------------------------------------------------------ trust


def test_before_and_after_it_is_allowed(tmp_path: Path) -> None:
    """Refused and named, then run; and refused again when a byte of the source changes."""
    package = package_of(tmp_path / "tiny", trusted=False)
    with pytest.raises(UntrustedCodeError, match=r"network\.py:Blur.*zoo trust"):
        load(package)
    consent.grant(package)
    report = reproduce(package)
    assert report.ok, str(report)
    (package.root / "network.py").write_text(BLUR + "#")
    with pytest.raises(BiozooError):
        load(package)
    consent.withdraw(package)
    (package.root / "network.py").write_text(BLUR)
    with pytest.raises(UntrustedCodeError):
        load(package)


def test_what_runs_is_the_text_that_was_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child gets no path of the source: a change after the look at it changes nothing."""
    package = package_of(tmp_path / "tiny")
    require = consent.require

    def and_then_someone_writes(p: ModelPackage) -> Any:
        items = require(p)
        (p.root / "network.py").write_text("raise SystemExit('other code')")
        return items

    monkeypatch.setattr(consent, "require", and_then_someone_writes)
    with load(package) as backend:
        got = backend.run(feed(package))["prediction"]
    expected = np.load(package.root / "test_prediction.npy")
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_a_file_that_is_not_the_described_one_is_refused(tmp_path: Path) -> None:
    package = package_of(tmp_path / "tiny")
    (package.root / "network.py").write_text("import os")
    with pytest.raises(HashMismatchError, match=r"network\.py"):
        load(package)


# --------------------------------------------------------------------------------------- machine


def machine(version: str | None, cards: int = 0) -> Machine:
    libraries = {} if version is None else {"torch": version}
    cuda = tuple(CudaDevice(i, "a card") for i in range(cards))
    return Machine(cuda=cuda, libraries=libraries)


def test_availability_is_that_of_torch() -> None:
    missing = StateDictBackend.available(machine(None))
    assert not missing.ok
    assert "torch is not installed" in missing.reason
    assert "[torch]" in missing.install
    assert StateDictBackend.available(machine("2.9.0+cpu")).devices == ("cpu",)
    assert StateDictBackend.available(machine("2.9.0+cu130", 1)).devices == ("cuda", "cpu")
    assert StateDictBackend.available(machine("2.9.0+cpu", 1)).devices == ("cpu",)


def test_it_is_selected_for_trusted_packages_only(tmp_path: Path) -> None:
    package = package_of(tmp_path / "tiny", keep_onnx=True)
    known = {"torch-code": StateDictBackend}
    chosen = select(package, machine("2.9.0+cpu"), Wish(), known, trusted=True)
    assert (chosen.weights_format, chosen.backend) == (FORMAT, StateDictBackend)
    with pytest.raises(BiozooError, match="author's code"):
        select(package, machine("2.9.0+cpu"), Wish(), known)


def test_without_torch_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = package_of(tmp_path / "tiny")
    monkeypatch.setattr("biozoo_runners.state_dict.importable", lambda name: False)
    with pytest.raises(MissingDependencyError, match=r"needs torch.*\[torch\]"):
        load(package)


@pytest.mark.cuda
def test_on_a_card_it_says_so(tmp_path: Path) -> None:
    package = package_of(tmp_path / "tiny")
    with StateDictBackend.open(package, FORMAT, device="cuda") as backend:
        got = backend.run(feed(package))["prediction"]
        assert backend.info.device == "cuda"
        assert backend.info.providers[0].startswith("cuda:0 ")
        assert backend.peak_device_memory
    expected = np.load(package.root / "test_prediction.npy")
    np.testing.assert_allclose(got, expected, rtol=1e-2, atol=1e-3)


def test_listing_backends_imports_no_torch() -> None:
    code = "import sys, biozoo_runners.state_dict; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -------------------------------------------------- weights; the executor without its process


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Callable[..., TorchCode]]:
    """Make the executor in this process, from parts."""
    threads = torch.get_num_threads()

    def made(
        state: Any = None,
        *,
        text: str | None = BLUR,
        source: str = "network.py",
        callable: str = "Blur",
        kwargs: Mapping[str, Any] | None = None,
        strict: bool = True,
        name: str = "weights.pt",
        output_ids: tuple[str, ...] = ("prediction",),
    ) -> TorchCode:
        from weights_state_dict import save

        save(tmp_path / name, blur_state() if state is None else state)
        facts = {
            "source": source,
            "text": text,
            "callable": callable,
            "kwargs": dict(kwargs or {}),
            "weights": str(tmp_path / name),
            "strict": strict,
            "device": "cpu",
            "threads": 1,
            "output_ids": list(output_ids),
        }
        return TorchCode(facts, tmp_path)

    yield made
    torch.set_num_threads(threads)


Build = Callable[..., TorchCode]
IMAGE = np.ones((1, 1, 8, 8), "f4")


def works(network: TorchCode) -> bool:
    (made,) = network.run([IMAGE])
    return made.shape == IMAGE.shape and abs(float(made[0, 0, 4, 4]) - 1) < 1e-5


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"callable": "Unet"}, r"network\.py was to give 'Unet', which is not there\. It has Blur"),
        ({"callable": "torch"}, "'torch', which is no class or function there"),
        ({"kwargs": {"depth": 3}}, r"does not take the arguments \(depth=3\).*'depth'"),
        ({"text": "def Blur(): return 5"}, r"made int and no torch\.nn\.Module"),
        ({"text": "import no_such_library"}, "imports 'no_such_library', which is not installed"),
        (
            {"text": None, "source": "no_such_library.nets", "callable": "UNet"},
            "imports 'no_such_library', which is not installed",
        ),
        ({"text": "from .other import Blur"}, "relative import"),
        ({"text": "def broken(:"}, r"invalid syntax \(network\.py, line 1\)"),
        ({"text": None, "source": "torch.nn", "callable": "Blur"}, r"torch\.nn was to give 'Blur'"),
    ],
)
def test_an_architecture_that_cannot_be_used(
    build: Build, more: dict[str, Any], message: str
) -> None:
    with pytest.raises((NotFitting, ImportError, SyntaxError), match=message):
        build(**more)


def test_weights_that_do_not_fit_are_named(build: Build) -> None:
    """Missing, unknown, and of another shape; how many and the first of them."""
    wide = {"conv.weight": torch.zeros(2, 1, 3, 3)}
    with pytest.raises(NotFitting, match=r"1 have other shapes \(conv\.weight is \(2, 1, 3, 3\), "):
        build(wide)
    many = {f"layer{i}.weight": torch.zeros(1) for i in range(5)}
    message = (
        r"network\.py:Blur \(kernel=3\): 1 of its 1 tensors are missing \(conv\.weight\), "
        r"5 tensors are not in it \(layer0\.weight, layer1\.weight, layer2\.weight, \.\.\.\)"
    )
    with pytest.raises(NotFitting, match=message):
        build(many, kwargs={"kernel": 3})


def test_strict_is_as_described(build: Build) -> None:
    """False allows more or fewer tensors, but not that none of them is known."""
    more = {**blur_state(), "ema.weight": torch.zeros(3)}
    with pytest.raises(NotFitting, match=r"1 tensors are not in it \(ema\.weight\)"):
        build(more)
    assert works(build(more, strict=False))
    with pytest.raises(NotFitting, match="no tensor has a name that it knows"):
        build({"other": torch.zeros(1)}, strict=False)


def test_checkpoints_are_unwrapped_with_care(build: Build) -> None:
    state = blur_state()
    assert works(build({"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}}))
    assert works(build({"model_state_dict": state}))
    assert works(build({f"module.{k}": v for k, v in state.items()}))
    with pytest.raises(NotFitting, match=r"'epoch', 'model', 'net', with 2 state dict\(s\)"):
        build({"epoch": 3, "model": state, "net": state})
    with pytest.raises(NotFitting, match="'epoch', with no state dict"):
        build({"epoch": 3})
    with pytest.raises(NotFitting, match="holds list and no state dict"):
        build([1, 2])


def test_safetensors_are_read(build: Build, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    assert works(build(name="weights.safetensors"))
    with pytest.raises(NotFitting, match=r"'cut\.safetensors' is damaged, cut off"):
        build((tmp_path / "weights.safetensors").read_bytes()[:50], name="cut.safetensors")


@pytest.mark.parametrize("old", [False, True])
def test_truncated_weights_are_named(build: Build, tmp_path: Path, old: bool) -> None:
    """Files of both kinds that torch writes, cut at several places, and an empty one."""
    path = tmp_path / "whole.pt"
    torch.save(blur_state(), path, _use_new_zipfile_serialization=not old)
    whole = path.read_bytes()
    assert works(build(whole))
    for end in (0, 3, 20, len(whole) // 2, len(whole) - 5):
        with pytest.raises(NotFitting, match=r"'weights\.pt' is damaged, cut off.*zoo verify"):
            build(whole[:end])


class Evil:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_with_code_is_not_opened(build: Build, tmp_path: Path) -> None:
    """In either kind of file, also when it is bare; nothing of it runs."""
    evil = Evil(tmp_path / "ran")
    with pytest.raises(NotFitting, match=r"holds more than tensors.*save model\.state_dict\(\)"):
        build({**blur_state(), "evil": evil})
    with pytest.raises(NotFitting, match=r"is damaged, cut off, or no state dict"):
        build(pickle.dumps(evil))
    assert not evil.path.exists()


def test_evaluation_mode_precision_and_threads(build: Build) -> None:
    """No dropout; the network's own precision; integers reach it as they are."""
    text = (
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.scale = nn.Parameter(torch.ones(1, dtype=torch.float64))\n"
        "        self.drop = nn.Dropout(0.9)\n"
        "    def forward(self, x):\n"
        "        assert not self.training and not torch.is_grad_enabled()\n"
        "        return self.drop(x) * self.scale if x.is_floating_point() else x\n"
    )
    network = build({"scale": torch.ones(1, dtype=torch.float64)}, text=text, callable="Net")
    (made,) = network.run([IMAGE])
    np.testing.assert_array_equal(made, IMAGE)
    assert made.dtype == np.float64
    assert network.run([IMAGE.astype("u1")])[0].dtype == np.uint8
    told = network.describe()
    assert (told["threads"], told["providers"], told["device"]) == (1, ["cpu"], "cpu")
    assert told["version"] == torch.__version__


def test_outputs_that_are_not_as_described(build: Build) -> None:
    def network(code: str, ids: tuple[str, ...] = ("prediction",)) -> TorchCode:
        text = f"import torch\nclass Net(torch.nn.Identity):\n    def forward(self, x): {code}\n"
        return build({}, text=text, callable="Net", output_ids=ids)

    with pytest.raises(NotFitting, match="output 0 of the network is NoneType and no tensor"):
        network("return None").run([IMAGE])
    with pytest.raises(NotFitting, match="outputs named masks; its description names them predi"):
        network("return {'masks': x}").run([IMAGE])
    assert len(network("return [x, x]").run([IMAGE])) == 2
    half = network("return x.to(torch.bfloat16)").run([IMAGE])[0]
    assert half.dtype == np.float32


def test_a_source_is_a_module_of_its_own(build: Build) -> None:
    """Dataclasses, pickles and `inspect` work; no name of another package's code is seen."""
    text = (
        "import dataclasses, inspect, pickle\nfrom torch import nn\n"
        "@dataclasses.dataclass\nclass Config:\n    width: int = 3\n"
        "assert 'first' not in globals()\nfirst = 1\n"
        "class Net(nn.Identity):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        assert pickle.loads(pickle.dumps(Config())) == Config()\n"
        "        assert 'width: int' in inspect.getsource(Config)\n"
    )
    for _ in range(2):
        build({}, text=text, callable="Net")


def test_the_factory_declares_hashes(tmp_path: Path) -> None:
    """What other tests build on."""
    folder = add_state_dict(make_package(tmp_path / "tiny", validate=False))
    entry = read_rdf(folder)["weights"][FORMAT]
    assert entry["sha256"] == sha256(folder / "weights.pt")
    assert entry["architecture"]["sha256"] == sha256(folder / "network.py")
    assert list(read_rdf(folder)["weights"]) == [FORMAT]
    assert biozoo.open(folder).descr.weights.pytorch_state_dict is not None
