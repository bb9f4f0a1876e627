"""TorchScript from a stranger: what is looked at before anything of it runs, and bad files."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from biozoo.errors import BackendError
from biozoo_runners import torchscript_safety
from test_torchscript import ONE, Convolve, Subtract, opened
from weights_torch import save_torchscript

Tensor = torch.Tensor


# ---------------------------------------------------------------------------------- safety


class Saves(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        torch.ops.aten.save([x], "stolen")
        return x


class SavesInABranch(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            if x.sum() > 0:
                torch.ops.aten.save([x], "stolen")
        return x


class SavesInAPart(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = torch.nn.Sequential(torch.nn.ReLU(), Saves())

    def forward(self, x: Tensor) -> Tensor:
        return self.parts(x)


class SavesInAFork(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = Saves()

    def forward(self, x: Tensor) -> Tensor:
        return torch.jit.wait(torch.jit.fork(self.part, x))


class Forks(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = torch.nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return torch.jit.wait(torch.jit.fork(self.part, x))


class SavesInAnotherMethod(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x

    @torch.jit.export
    def later(self, x: Tensor) -> Tensor:
        torch.ops.aten.save([x], "stolen")
        return x


def saving(x: Tensor) -> Tensor:
    torch.ops.aten.save([x], "stolen")
    return x


class ReadsAFile(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_file("secret", shared=False, size=2) + x


class Innocent(torch.nn.Module):
    """Names that look like operators."""

    def __init__(self) -> None:
        super().__init__()
        self.save = torch.nn.ReLU()
        self.from_file: int = 3
        self.text = "ops.aten.save(x) torch.save from_file"

    @torch.jit.export
    def rpc_async(self, x: Tensor) -> Tensor:
        return self.save(x)

    def forward(self, x: Tensor) -> Tensor:
        with torch.profiler.record_function("aten::save"):
            return self.rpc_async(x) + self.from_file - 3


@pytest.mark.parametrize(
    "network", [Saves, SavesInABranch, SavesInAPart, SavesInAFork, SavesInAnotherMethod, ReadsAFile]
)
def test_code_that_touches_files_is_refused(
    tmp_path: Path, network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it hides, and before any of it runs."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BackendError, match=r"aten::(save|from_file) \(in __torch__") as caught:
        opened(network(), tmp_path)
    assert "Nothing of it was run; do not use this package" in str(caught.value)
    assert not (tmp_path / "stolen").exists()


def test_traced_code_that_calls_a_saving_function_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.jit.script(saving)

    class Calls(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return compiled(x) + 1

    path = save_torchscript(Calls(), tmp_path / "m.pt", example=(torch.ones(2),))
    (tmp_path / "stolen").unlink(missing_ok=True)
    with pytest.raises(BackendError, match="aten::save"):
        opened(path, tmp_path)
    assert not (tmp_path / "stolen").exists()


def test_code_of_a_fork_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written by hand: torch itself only forks functions, which are looked at anyway."""
    monkeypatch.chdir(tmp_path)
    call, save = b"return (part).forward(x, )", b'torch.save([x], "stolen")\n      return x'
    good = save_torchscript(Forks(), tmp_path / "good.pt")
    evil = changed(good, lambda n, b: b.replace(call, save))
    assert evil.stat().st_size != good.stat().st_size
    with pytest.raises(BackendError, match="aten::save"):
        opened(evil, tmp_path)
    with opened(good, tmp_path) as backend:
        np.testing.assert_array_equal(backend.run({"x": ONE})["y"], ONE)


def test_names_that_look_like_operators_are_no_reason(tmp_path: Path) -> None:
    with opened(Innocent(), tmp_path) as backend:
        np.testing.assert_array_equal(backend.run({"x": ONE})["y"], ONE)


def test_no_operator_with_a_file_name_is_forgotten() -> None:
    """Of all that this torch has in the namespaces that are let through."""
    known = {
        str(schema.name)
        for schema in torch._C._jit_get_all_schemas()
        if schema.name.partition("::")[0] in torchscript_safety.ALLOWED
        and any(
            str(a.type) == "str" and any(word in a.name for word in ("file", "path", "url", "dir"))
            for a in schema.arguments
        )
    }
    assert {"aten::save", "aten::from_file"} <= known <= torchscript_safety.REFUSED


def test_operators_of_unknown_libraries_are_refused(tmp_path: Path) -> None:
    """Also those that exist because something registered them in this process."""
    library = torch.library.Library("biozoo_test_ops", "FRAGMENT")
    library.define("shout(Tensor x) -> Tensor")
    library.impl("shout", lambda x: x, "CPU")

    class Shouts(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.ops.biozoo_test_ops.shout(x)

    with pytest.raises(BackendError, match="biozoo_test_ops::shout"):
        opened(Shouts(), tmp_path)


class RunsWhenLoaded(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.training = False
        self.weight = 1

    @torch.jit.export
    def __getstate__(self) -> tuple[int, bool]:
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[int, bool]) -> None:
        torch.ops.aten.save([torch.ones(1)], "stolen")
        self.weight, self.training = state[0], state[1]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight


def test_code_that_runs_while_loading_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BackendError, match=r"would run code while it is loaded \(__setstate__ in"):
        opened(RunsWhenLoaded(), tmp_path)
    assert not (tmp_path / "stolen").exists()


def test_objects_of_cpp_classes_are_refused(tmp_path: Path) -> None:
    """They are made while loading, by code that nobody can look at; quantized weights are such."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = torch.ao.nn.quantized.Linear(2, 2)
        path = save_torchscript(quantized, tmp_path / "m.pt")
    with pytest.raises(BackendError, match="would run code while it is loaded"):
        opened(path, tmp_path)


def test_what_code_prints_is_not_printed(tmp_path: Path, capfd: Any) -> None:
    """Standard output belongs to the program: `zoo run --json` writes there."""

    class Chatty(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            print("hello", x)
            if x.sum() > 0:
                print("more")
            return x + 1

    with opened(Chatty(), tmp_path) as backend:
        np.testing.assert_array_equal(backend.run({"x": ONE})["y"], ONE + 1)
    assert capfd.readouterr().out == ""


# ------------------------------------------------------------------------------- bad files


def changed(path: Path, change: Callable[[str, bytes], bytes | None], **more: Any) -> Path:
    """An archive with its members changed; None leaves one out."""
    made = path.with_name("changed.pt")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(made, "w", **more) as target:
        for member in source.infolist():
            content = change(member.filename, source.read(member))
            if content is not None:
                target.writestr(member.filename, content)
    return made


def refused(path: Path) -> str:
    with pytest.raises(BackendError) as caught:
        opened(path, path.parent)
    text = str(caught.value)
    assert "Model 'tiny'" in text
    assert path.name in text
    return text


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return save_torchscript(Convolve(), tmp_path / "m.pt")


def test_a_file_that_is_cut_off(archive: Path) -> None:
    for part in (0.5, 0.99):
        content = archive.read_bytes()
        cut = archive.with_name("cut.pt")
        cut.write_bytes(content[: int(part * len(content))])
        assert "is cut off or damaged. Fetch the package again" in refused(cut)


def test_files_of_other_kinds(tmp_path: Path) -> None:
    """Each is named for what it is."""
    network = Convolve()
    path = tmp_path / "m.pt"
    path.write_bytes(b"")
    assert "is an empty file" in refused(path)
    path.write_text("hello, I am no network")
    assert "no TorchScript archive, nor any other zip" in refused(path)
    torch.save(network.state_dict(), path)
    assert "is a state dict as torch.save writes it" in refused(path)
    assert "pytorch_state_dict" in refused(path)
    torch.save({"model": network.state_dict(), "epoch": 3}, path)
    assert "is a state dict" in refused(path)
    torch.save(network, path)
    assert "a whole network as a Python pickle (it names test_torchscript.Convolve)" in refused(
        path
    )
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=False)
    assert "a Python pickle as torch.save wrote it before torch 1.6" in refused(path)
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    assert "is an HDF5 file" in refused(path)
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("rdf.yaml", "name: no network")
    assert "is a zip, but no TorchScript archive" in refused(path)


def test_no_pickle_is_ever_executed(tmp_path: Path) -> None:
    """Neither where a state dict should be, nor inside an archive."""

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "executed",))

    path = tmp_path / "m.pt"
    torch.save(Evil(), path)
    refused(path)
    path.write_bytes(pickle.dumps(Evil()))
    refused(path)
    good = save_torchscript(Convolve(), tmp_path / "good.pt")
    evil = pickle.dumps(Evil(), protocol=2)
    for name in ("data.pkl", "constants.pkl"):
        refused(changed(good, lambda n, b, name=name: evil if n.endswith(f"/{name}") else b))
    assert not (tmp_path / "executed").exists()


def test_an_archive_of_a_newer_torch(archive: Path) -> None:
    """By its file format, or by an operator that this torch does not know."""
    newer = changed(archive, lambda n, b: b"99\n" if n.endswith("/version") else b)
    text = refused(newer)
    assert f"was written by a newer torch than {torch.__version__}" in text
    assert "Install a newer torch" in text
    path = save_torchscript(Subtract(), archive)
    newer = changed(path, lambda n, b: b.replace(b"torch.sub(", b"torch.shiny_new_sub("))
    text = refused(newer)
    assert "calls aten::shiny_new_sub, which torch" in text
    assert "made with a newer torch" in text


def test_operators_of_a_library_that_is_not_torch(archive: Path) -> None:
    path = save_torchscript(Subtract(), archive)
    other = changed(path, lambda n, b: b.replace(b"torch.sub(", b"ops.author_ops.sub("))
    assert "needs the operator author_ops::sub of the library author_ops" in refused(other)


@pytest.mark.parametrize("absent", ["data/0", "data.pkl", "constants.pkl", "version"])
def test_an_archive_with_a_part_missing(archive: Path, absent: str) -> None:
    text = refused(changed(archive, lambda n, b: None if n.endswith(f"/{absent}") else b))
    assert "zoo verify" in text or "Fetch the package again" in text


def test_code_that_is_no_code(archive: Path) -> None:
    broken = changed(archive, lambda n, b: b"class (" if n.endswith(".py") else b)
    assert "failed to load" in refused(broken)


def test_an_archive_that_unpacks_to_too_much(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchscript_safety, "_SPARE", 2**20)
    packed = {"compression": zipfile.ZIP_DEFLATED}
    bomb = changed(archive, lambda n, b: bytes(2**24) if n.endswith("data/0") else b, **packed)
    assert bomb.stat().st_size < 2**17
    assert "more than a network needs. It was not loaded" in refused(bomb)


def test_two_archives_in_one_file(archive: Path, tmp_path: Path) -> None:
    """One that Python's zip reader sees and one that torch's does would be checked in vain."""
    evil = save_torchscript(RunsWhenLoaded(), tmp_path / "evil.pt")
    both = tmp_path / "both.pt"
    both.write_bytes(evil.read_bytes() + archive.read_bytes())
    try:
        with opened(both, tmp_path) as backend:  # both readers took the last one
            backend.run({"x": np.ones((1, 1, 8, 8), np.float32)})
    except BackendError:
        pass
    assert not (tmp_path / "stolen").exists()


def test_an_archive_without_forward(tmp_path: Path) -> None:
    class Idle(torch.nn.Module):
        @torch.jit.export
        def other(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(BackendError, match="no method 'forward'"):
        opened(Idle(), tmp_path)
