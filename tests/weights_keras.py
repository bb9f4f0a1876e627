"""Tiny packages whose weights are Keras or TensorFlow files that compute the same box blur.

    folder = add_keras(make_package(tmp_path / "p", axes="byxc"))             # keras_v3
    folder = add_keras(make_package(tmp_path / "p", axes="bzyxc"), "keras_hdf5")
    folder = add_keras(make_package(tmp_path / "p", axes="byxc", inputs=2, outputs=2),
                       "tensorflow_saved_model_bundle", keep_onnx=True)
    folder = set_weights(folder, "keras_v3", material("lambda.keras"))        # any other file

The axes are channels last ("byxc", "bzyxc"); `weights.onnx` is taken out of the description unless
`keep_onnx`, hashes are declared, the test tensors stay what they were. The files are made by
`keras_material.py` in a process of its own, once per session: pytest's own process imports neither
Keras nor TensorFlow.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from packages import read_rdf, sha256, write_rdf

MAKER = Path(__file__).with_name("keras_material.py")

#: Format -> name of its file, and what the description says of it.
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "keras_v3": ("weights.keras", {"keras_version": "3.15.1", "backend": ["tensorflow", "2.21.0"]}),
    "keras_hdf5": ("weights.h5", {"tensorflow_version": "2.21.0"}),
    "tensorflow_saved_model_bundle": ("weights.zip", {"tensorflow_version": "2.21.0"}),
}

#: Blurs that are made with the rest: (axes, channels, out_channels, inputs, outputs, kernel).
USUAL = (("byxc", 1, 1, 1, 1, 3), ("bzyxc", 1, 2, 1, 1, 3), ("byxc", 2, 1, 2, 2, 3))


def add_keras(
    folder: Path, *formats: str, kernel: int = 3, keep_onnx: bool = False, **fields: Any
) -> Path:
    """Give a package of `make_package` Keras or TensorFlow weights; returns its folder.

    Parameters
    ----------
    formats
        Of `FORMATS`; default ``keras_v3``.
    kernel
        The one given to `make_package`.
    fields
        More for the weights' entries in the description.
    """
    rdf = read_rdf(folder)
    axes = "".join("c" if a["type"] == "channel" else a["id"][0] for a in rdf["inputs"][0]["axes"])
    if axes[0] != "b" or axes[-1] != "c":
        raise ValueError(f"axes {axes}: these networks have the channels last")
    channels, out_channels = (
        len(rdf[side][0]["axes"][-1]["channel_names"]) for side in ("inputs", "outputs")
    )
    spec = (axes, channels, out_channels, len(rdf["inputs"]), len(rdf["outputs"]), kernel)
    for name in formats or ("keras_v3",):
        suffix = FORMATS[name][0].partition(".")[2]
        set_weights(folder, name, _blur(spec) / f"{stem(spec)}.{suffix}", **fields)
    if not keep_onnx:
        rdf = read_rdf(folder)
        del rdf["weights"]["onnx"]
        write_rdf(folder, rdf)
    return folder


def set_weights(
    folder: Path, weights_format: str, file: Path, *, name: str = "", **fields: Any
) -> Path:
    """Copy a file into a package as its weights of a format, whatever it holds."""
    usual, described = FORMATS[weights_format]
    name = name or usual
    shutil.copyfile(file, folder / name)
    rdf = read_rdf(folder)
    entry = {"source": name, "sha256": sha256(folder / name), **described, **fields}
    rdf["weights"][weights_format] = entry
    write_rdf(folder, rdf)
    return folder


def material(name: str) -> Path:
    """One of the files that `keras_material.py` describes."""
    return _made(tuple(USUAL)) / name


def stem(spec: tuple[Any, ...]) -> str:
    """The name of a blur's files, without what stands after the dot."""
    return "blur-" + "-".join(map(str, spec))


def quiet_environment(**more: str) -> dict[str, str]:
    """For a process that imports TensorFlow on the CPU."""
    return {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", **more}


def _blur(spec: tuple[Any, ...]) -> Path:
    return _made(tuple(USUAL)) if spec in USUAL else _made((spec,), others=False)


@cache
def _made(specs: tuple[tuple[Any, ...], ...], others: bool = True) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="biozoo-tests-keras-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    wishes = json.dumps({"blurs": {stem(s): s for s in specs}, "others": others})
    done = subprocess.run(
        [sys.executable, str(MAKER), str(folder), wishes],
        env=quiet_environment(KERAS_BACKEND="tensorflow", HOME=str(folder)),
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    if done.returncode:
        raise AssertionError(done.stderr[-3000:])
    return folder
