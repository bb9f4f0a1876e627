"""One U-Net as a package with several weights formats, built in a temporary folder.

    package = make("unet-2d", folder, nd=2)       # onnx, torchscript, pytorch_state_dict

The description comes from the factory of the tests; the weights are random (seeded): what is timed
does not depend on their values.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

if TYPE_CHECKING:
    from biozoo import ModelPackage

KERAS = """
import sys, numpy as np, keras
from keras import layers
nd, base, target = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
conv = layers.Conv2D if nd == 2 else layers.Conv3D
pool = layers.MaxPooling2D if nd == 2 else layers.MaxPooling3D
up = layers.UpSampling2D if nd == 2 else layers.UpSampling3D
keras.utils.set_random_seed(0)
def block(x, n):
    for _ in range(2):
        x = conv(n, 3, padding="same", activation="relu")(x)
    return x
given = keras.Input((*[None] * nd, 1), name="raw")
fine = block(given, base)
x = layers.Concatenate()([fine, up(2)(block(pool(2)(fine), 2 * base))])
x = conv(1, 1, activation="sigmoid", name="prediction")(block(x, base))
model = keras.Model(given, x)
model.export(target) if target.endswith("_model") else model.save(target)
"""


def make(name: str, folder: Path, *, nd: int, base: int = 16) -> ModelPackage:
    """The U-Net of `unet.py` as onnx, torchscript and pytorch_state_dict."""
    import torch
    from unet import UNet

    import biozoo
    from packages import change_rdf, make_package, read_rdf, sha256

    root = make_package(
        folder / name, id=name, axes="bcyx" if nd == 2 else "bczyx", size=(32, 4), halo=8
    )
    torch.manual_seed(0)
    net = UNet(nd, base).eval()
    example = torch.zeros(1, 1, *[32] * nd)
    free = {0: "b", **{2 + i: f"s{i}" for i in range(nd)}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, (example,), str(root / "weights.onnx"), dynamo=False, opset_version=18,
            input_names=["raw"], output_names=["prediction"],
            dynamic_axes={"raw": free, "prediction": free},
        )  # fmt: skip
        torch.jit.trace(net, example).save(str(root / "weights.torchscript.pt"))
    torch.save(net.state_dict(), root / "weights.pt")
    shutil.copy(Path(__file__).with_name("unet.py"), root / "unet.py")

    def file(source: str) -> dict[str, str]:
        return {"source": source, "sha256": sha256(root / source)}

    weights = read_rdf(root)["weights"]
    weights["onnx"] |= file("weights.onnx")
    weights["pytorch_state_dict"] = {
        **file("weights.pt"),
        "pytorch_version": "2.6",
        "architecture": {
            **file("unet.py"), "callable": "UNet", "kwargs": {"nd": nd, "base": base}
        },
    }  # fmt: skip
    weights["torchscript"] = {
        **file("weights.torchscript.pt"), "pytorch_version": "2.6", "parent": "pytorch_state_dict"
    }  # fmt: skip
    weights["onnx"]["parent"] = "pytorch_state_dict"
    change_rdf(root, weights=weights)
    return biozoo.open(root)


def make_keras(name: str, folder: Path, *, nd: int, base: int = 16) -> ModelPackage:
    """A two-level U-Net as keras_v3 and tensorflow_saved_model_bundle, channels last."""
    import biozoo
    from packages import change_rdf, make_package, sha256

    root = make_package(
        folder / name, id=name, axes="byxc" if nd == 2 else "bzyxc", size=(32, 4), halo=8
    )
    for target in ("weights.keras", "saved_model"):
        subprocess.run(
            [sys.executable, "-c", KERAS, str(nd), str(base), str(root / target)],
            check=True, capture_output=True,
            env={"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "PATH": ""},
        )  # fmt: skip
    shutil.make_archive(str(root / "saved_model"), "zip", root / "saved_model")
    shutil.rmtree(root / "saved_model")
    weights = {
        "keras_v3": {
            "source": "weights.keras", "sha256": sha256(root / "weights.keras"),
            "keras_version": "3.11", "backend": ["tensorflow", "2.18"],
        },
        "tensorflow_saved_model_bundle": {
            "source": "saved_model.zip", "sha256": sha256(root / "saved_model.zip"),
            "tensorflow_version": "2.18", "parent": "keras_v3",
        },
    }  # fmt: skip
    change_rdf(root, weights=weights)
    return biozoo.open(root)
