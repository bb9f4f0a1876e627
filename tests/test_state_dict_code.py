"""Packages of many kinds with a state dict, and authors who mean harm or make mistakes."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import biozoo
from biozoo import consent
from biozoo.errors import (
    BackendError,
    InvalidPackageError,
)
from biozoo.package import ModelPackage
from biozoo_runners.isolated.confine import protections
from biozoo_runners.state_dict import StateDictBackend
from biozoo_runners.testing import test_package as reproduce
from packages import change_rdf, make_package, read_rdf
from weights_state_dict import BLUR, add_state_dict

torch = pytest.importorskip("torch")


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


# ---------------------------------------------------------------------------- kinds of packages


def test_a_library_gives_the_architecture(tmp_path: Path) -> None:
    """3D, another channel count than one, and several outputs work as in a file."""
    folder = make_package(
        tmp_path / "tiny", axes="bczyx", channels=2, network="pointwise", validate=False
    )
    state = {"weight": torch.eye(2).reshape(2, 2, 1, 1, 1) * 2, "bias": torch.ones(2)}
    kwargs = {"in_channels": 2, "out_channels": 2, "kernel_size": 1}
    package = biozoo.open(
        add_state_dict(folder, library="torch.nn", callable="Conv3d", kwargs=kwargs, state=state)
    )
    consent.grant(package)
    report = reproduce(package)
    assert report.ok, str(report)


def test_the_older_format_is_read(tmp_path: Path) -> None:
    """0.4: `architecture: file.py:Name`, its hash and arguments beside it; `axes: bcyx`."""
    folder = make_package(tmp_path / "tiny", inputs=2, validate=False)
    add_state_dict(folder)
    rdf = read_rdf(folder)
    entry = rdf["weights"][FORMAT]
    architecture = entry.pop("architecture")
    entry |= {
        "architecture": f"{architecture['source']}:{architecture['callable']}",
        "architecture_sha256": architecture["sha256"],
        "kwargs": architecture["kwargs"],
    }

    def tensor(name: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "axes": "bcyx", "data_type": "float32", **more}

    free = {"min": [1, 1, 8, 8], "step": [0, 0, 4, 4]}
    as_input = {"reference_tensor": "raw", "scale": [1.0] * 4, "offset": [0.0] * 4}
    change_rdf(
        folder,
        format_version="0.4.10",
        weights={FORMAT: entry},
        inputs=[tensor("raw", shape=free), tensor("raw1", shape=free)],
        outputs=[tensor("prediction", shape=as_input)],
        test_inputs=["test_raw.npy", "test_raw1.npy"],
        test_outputs=["test_prediction.npy"],
        config={},
    )
    package = biozoo.open(folder)
    consent.grant(package)
    report = reproduce(package)
    assert report.ok, str(report)


def test_optional_inputs_and_named_outputs(tmp_path: Path) -> None:
    """An input that is left out is None; a mapping of outputs is taken by tensor id."""
    named = BLUR.replace(
        "return many if self.outputs > 1 else many[0]",
        "return {'unused': None, 'prediction1': many[1], 'prediction': many[0]}",
    )
    folder = make_package(tmp_path / "tiny", inputs=2, outputs=2, validate=False)
    add_state_dict(folder, text=named)
    inputs = read_rdf(folder)["inputs"]
    inputs[1]["optional"] = True
    change_rdf(folder, inputs=inputs)
    package = biozoo.open(folder)
    consent.grant(package)
    image = np.load(folder / "test_raw.npy")
    with load(package) as backend:
        one = backend.run({"raw": image})
        two = backend.run({"raw": image, "raw1": image})
    assert list(one) == ["prediction", "prediction1"]
    for name, array in one.items():
        np.testing.assert_allclose(two[name], array, rtol=1e-5)
    np.testing.assert_allclose(one["prediction1"], 2 * one["prediction"], rtol=1e-5)


def test_arguments_must_survive_the_way_to_the_child(tmp_path: Path) -> None:
    """JSON makes text of a mapping's numbers: refused before anything runs."""
    package = package_of(tmp_path / "tiny", kwargs={"depth": {1: 2}})
    with pytest.raises(InvalidPackageError, match="are no plain values"):
        load(package)


# --------------------------------------------------------------------------------- hostile code


def test_an_architecture_that_fails_on_import(tmp_path: Path) -> None:
    """With its line; `test_isolated` has what ends a process."""
    package = package_of(tmp_path / "tiny", text="raise OSError('no')")
    match = r"Model 'tiny'.*code \(network\.py, line 1, in <module>\) raised OSError: no"
    with pytest.raises(BackendError, match=match):
        load(package)


def test_a_fault_in_forward_is_told_with_its_line_and_a_loop_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a fault the model can be run again; code that loops for ever is stopped."""
    loop = "while images[0].max() > 7e7: pass\n        given = ["
    package = package_of(tmp_path / "tiny", text=BLUR.replace("given = [", loop))
    with load(package) as backend:
        match = r"network\.py, line 17, in forward\) raised RuntimeError.*\(1, 2, 8, 8\)"
        with pytest.raises(BackendError, match=match):
            backend.run({"raw": np.zeros((1, 2, 8, 8), "f4")})
        backend.run(feed(package))
        monkeypatch.setenv("BIOZOO_CODE_SECONDS", "0.5")
        match = r"run its weights weights\.pt: it was still running after 0\.5 s and was stopped"
        with pytest.raises(BackendError, match=match):
            backend.run({"raw": np.full((1, 1, 8, 8), 8e7, "f4")})


def test_a_crash_in_forward_is_an_error_and_not_the_end(tmp_path: Path) -> None:
    crash = BLUR.replace("given = [", "import os; os._exit(7)\n        given = [")
    package = package_of(tmp_path / "bad", text=crash)
    with load(package) as backend:
        with pytest.raises(BackendError, match="exit code 7 while running"):
            backend.run(feed(package))
        with pytest.raises(BackendError, match="Load the model again"):
            backend.run(feed(package))


CURIOUS = """
import os, socket, sys
from pathlib import Path
from torch import nn

print("x" * 2_000_000)

def attempt(what):
    try:
        return str(what())
    except Exception as exc:
        return type(exc).__name__

class Curious(nn.Module):
    def __init__(self, secret, outside, address, parent):
        super().__init__()
        raise ValueError(" ".join([
            "token=" + attempt(lambda: os.environ["MY_TOKEN"]),
            "environ=" + attempt(lambda: Path(f"/proc/{parent}/environ").read_bytes()),
            "read=" + attempt(lambda: Path(secret).read_text()),
            "write=" + attempt(lambda: Path(outside).write_text("x")),
            "connect=" + attempt(lambda: socket.create_connection(tuple(address), 2)),
            "scratch=" + attempt(lambda: Path("note.txt").write_text("x")),
        ]))
"""


def test_curious_code_learns_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt fails where the machine allows to prevent it; a token never gets in."""
    import os

    monkeypatch.setenv("MY_TOKEN", "very-secret")
    secret, outside = tmp_path / "secret.txt", tmp_path / "outside.txt"
    secret.write_text("very-private")
    with socket.create_server(("127.0.0.1", 0)) as server:
        kwargs = {
            "secret": str(secret),
            "outside": str(outside),
            "address": list(server.getsockname()),
            "parent": os.getpid(),
        }
        package = package_of(tmp_path / "tiny", text=CURIOUS, callable="Curious", kwargs=kwargs)
        with pytest.raises(BackendError, match="raised ValueError: token=") as told:
            load(package)
    got = dict(part.split("=") for part in told.value.message.split() if part.count("=") == 1)
    assert got["token"] == "KeyError"
    assert got["scratch"].startswith("1")
    holds = {p.name for p in protections() if p.holds}
    if "your files cannot be read" in holds:
        assert got["read"] == got["environ"] == "PermissionError"
    if "your files cannot be changed" in holds:
        assert got["write"] == "PermissionError"
        assert not outside.exists()
    if "the network is shut off" in holds:
        assert got["connect"] in ("PermissionError", "OSError")
