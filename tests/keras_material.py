"""Makes Keras and TensorFlow weights for tests; run by `weights_keras.py` in a process of its own.

    python keras_material.py FOLDER '{"blurs": {NAME: SPEC, ...}, "others": true}'

Per blur NAME.keras, NAME.h5 and NAME.zip (a SavedModel). The others:

pair.*             inputs raw1, raw (in this order), outputs raw - raw1, 2 * raw1 in that order;
                   the layers have the tensors' names
pair-mapping.*     the same, inputs and outputs as mappings by name
pair-unnamed.*     inputs first, second; outputs first - second, 2 * second; no tensor's name
old.h5             a small network with Conv2DTranspose and batch normalization as TensorFlow 1.15
                   wrote it, and what it computes: old-x.npy, old-y.npy
average.keras      AveragePooling2D(3, strides 2, "same"), which torch computes otherwise
lambda.*           a Lambda layer, x + 1
custom.*           a layer class of its own
weights-only.h5    no network in it
unknown.h5         a layer that Keras 3 does not have
newer.keras        says it was written by Keras 99 and has a layer of that time
tf1.zip            a SavedModel as TensorFlow 1 wrote it, `input` + 1 -> `output`
half.zip           float16 in and out
plain.zip          the blur "byxc" with the one signature serving_default, as Keras 2 exported it
named.zip          the one signature is called "predict"
two-signatures.zip, no-signature.zip
reads-file.zip, runs-python.zip, prints-file.zip   SavedModels with such an operator
"""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
layers = keras.layers


def blur(
    axes: str, channels: int, out_channels: int, inputs: int, outputs: int, kernel: int
) -> Any:
    dims = len(axes) - 2
    given = [
        keras.Input((None,) * dims + (channels,), name=name)
        for name in ["raw", *(f"raw{i}" for i in range(1, inputs))]
    ]
    mean = layers.Average()(given) if inputs > 1 else given[0]
    conv = getattr(layers, f"Conv{dims}D")(out_channels, kernel, padding="same", use_bias=False)
    made = conv(mean)
    names = ["prediction", *(f"prediction{i}" for i in range(1, outputs))]
    results = [layers.Rescaling(k + 1.0, name=name)(made) for k, name in enumerate(names)]
    weight = np.ones((*(kernel,) * dims, channels, out_channels), np.float32)
    weight *= np.arange(1, out_channels + 1, dtype=np.float32) / (channels * kernel**dims)
    conv.set_weights([weight])
    return keras.Model(given if inputs > 1 else given[0], results if outputs > 1 else results[0])


def pair(first: str, second: str, *, mapping: bool = False, out: tuple[str, str]) -> Any:
    a, b = (keras.Input((None, None, 1), name=n) for n in (first, second))
    made = [layers.Subtract(name=out[0])([a, b]), layers.Rescaling(2.0, name=out[1])(b)]
    if mapping:
        return keras.Model({first: a, second: b}, dict(zip(out, made, strict=True)))
    order = [b, a] if first == "raw" else [a, b]
    return keras.Model(order, made)


def save(model: Any, folder: Path, name: str, *kinds: str) -> None:
    for kind in kinds or ("keras", "h5", "zip"):
        if kind != "zip":
            model.save(folder / f"{name}.{kind}")
            continue
        model.export(folder / name, verbose=False)
        zipped(folder / name)


def zipped(bundle: Path, top: str = "") -> None:
    with zipfile.ZipFile(bundle.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(bundle.rglob("*")):
            archive.write(file, f"{top}/{file.relative_to(bundle)}".lstrip("/"))
    shutil.rmtree(bundle)


def module(
    folder: Path,
    name: str,
    function: Callable[[Any], Any],
    dtype: Any,
    signatures: tuple[str, ...] = ("serving_default",),
) -> None:
    """A SavedModel of a plain function of one image."""
    made = tf.Module()
    spec = tf.TensorSpec((None, None, None, 1), dtype, name="raw")
    made.call = tf.function(lambda raw: {"prediction": function(raw)}, input_signature=[spec])
    tf.saved_model.save(made, folder / name, signatures=dict.fromkeys(signatures, made.call))
    zipped(folder / name)


def change_network(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    with h5py.File(path, "r+") as file:
        network = json.loads(file.attrs["model_config"])
        change(network)
        file.attrs["model_config"] = json.dumps(network)


def as_in_2019(network: dict[str, Any]) -> None:
    """A network's description as Keras 2.2 in TensorFlow 1.15 wrote it."""
    network["class_name"] = "Model"
    for layer in network["config"]["layers"]:
        config = layer["config"]
        for key in ("module", "registered_name", "build_config"):
            layer.pop(key, None)
        for key, value in config.items():
            if isinstance(value, dict) and "class_name" in value:
                config[key] = {"class_name": value["class_name"], "config": value["config"]}
        if isinstance(config.get("dtype"), dict):
            config["dtype"] = config["dtype"]["config"]["name"]
        if layer["class_name"] == "InputLayer":
            config["batch_input_shape"] = config.pop("batch_shape")
            config.pop("optional", None)
        if layer["class_name"] == "BatchNormalization":
            layer["class_name"] = "BatchNormalizationV1"
            config["axis"] = [3]
            config.pop("synchronized", None)
        if layer["class_name"] == "Conv2DTranspose":
            config["groups"] = 1
        nodes = [n["args"][0] for n in layer["inbound_nodes"]]
        layer["inbound_nodes"] = [
            [[*t["config"]["keras_history"], {}] for t in (n if isinstance(n, list) else [n])]
            for n in nodes
        ]


def old(folder: Path) -> None:
    raw = keras.Input((None, None, 1), name="raw")
    x = layers.BatchNormalization()(layers.Conv2D(3, 3, padding="same", activation="relu")(raw))
    up = layers.Conv2DTranspose(2, 3, strides=2, padding="same")(layers.MaxPooling2D(2)(x))
    made = layers.Conv2D(1, 1, name="prediction")(layers.Concatenate()([x, up]))
    model = keras.Model(raw, made)
    rng = np.random.default_rng(0)
    model.set_weights([rng.random(w.shape).astype(w.dtype) for w in model.get_weights()])
    x = rng.random((1, 12, 16, 1)).astype(np.float32)
    np.save(folder / "old-x.npy", x)
    np.save(folder / "old-y.npy", model(x, training=False).numpy())
    save(model, folder, "old", "h5")
    shutil.copyfile(folder / "old.h5", folder / "unknown.h5")
    change_network(folder / "old.h5", as_in_2019)
    change_network(
        folder / "unknown.h5", lambda n: n["config"]["layers"][1].update(class_name="TFOpLambda")
    )


@keras.saving.register_keras_serializable("tests")
class Doubled(layers.Layer):
    def call(self, x: Any) -> Any:
        return x * 2


def one_layer(layer: Any) -> Any:
    raw = keras.Input((None, None, 1), name="raw")
    return keras.Model(raw, layer(raw))


def newer(folder: Path) -> None:
    made = folder / "newer.keras"
    with zipfile.ZipFile(folder / "average.keras") as old_zip, zipfile.ZipFile(made, "w") as new:
        for name in old_zip.namelist():
            content = old_zip.read(name)
            if name == "metadata.json":
                content = json.dumps({**json.loads(content), "keras_version": "99.1.0"}).encode()
            if name == "config.json":
                content = content.replace(b'"AveragePooling2D"', b'"Foresight2D"')
            new.writestr(name, content)


def tf1(folder: Path) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        given = v1.placeholder(tf.float32, (None, None, None, 1), name="input")
        one = v1.get_variable("one", initializer=np.float32(1), use_resource=False)
        made = tf.add(given, one, name="output")
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(folder / "tf1"), {"input": given}, {"output": made})
    zipped(folder / "tf1", top="model")


def python(x: Any) -> Any:
    made = tf.py_function(lambda a: a, [x], tf.float32)
    made.set_shape(x.shape)
    return made


def main(folder: Path, wishes: dict[str, Any]) -> None:
    for name, spec in wishes["blurs"].items():
        save(blur(*spec), folder, name)
    if not wishes["others"]:
        return
    out = ("prediction", "prediction1")
    save(pair("raw", "raw1", out=out), folder, "pair", "keras", "h5", "zip")
    save(pair("raw", "raw1", mapping=True, out=out), folder, "pair-mapping", "keras", "zip")
    save(pair("first", "second", out=("o1", "o2")), folder, "pair-unnamed", "keras", "h5", "zip")
    old(folder)
    save(one_layer(layers.AveragePooling2D(3, 2, "same", name="prediction")), folder, "average",
         "keras")  # fmt: skip
    save(one_layer(layers.Lambda(lambda x: x + 1, name="sly")), folder, "lambda", "keras", "h5")
    save(one_layer(Doubled(name="own")), folder, "custom", "keras", "h5")
    one_layer(layers.Conv2D(1, 3)).save_weights(folder / "made.weights.h5")
    (folder / "made.weights.h5").rename(folder / "weights-only.h5")
    newer(folder)
    tf1(folder)
    kernel = np.full((3, 3, 1, 1), 1 / 9, np.float32)
    module(folder, "plain", lambda x: tf.nn.conv2d(x, kernel, 1, "SAME"), tf.float32)
    module(folder, "named", lambda x: x + 1, tf.float32, ("predict",))
    module(folder, "two-signatures", lambda x: x + 1, tf.float32, ("one", "two"))
    module(folder, "no-signature", lambda x: x + 1, tf.float32, ())
    module(folder, "half", lambda x: x * 2, tf.float16)
    module(folder, "runs-python", python, tf.float32)
    path = str(folder / "secret.txt")
    module(
        folder, "reads-file",
        lambda x: x + tf.cast(tf.strings.length(tf.io.read_file(path)), tf.float32), tf.float32,
    )  # fmt: skip

    def prints(x: Any) -> Any:
        tf.print("hello", output_stream=f"file://{path}")
        return x + 1

    module(folder, "prints-file", prints, tf.float32)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
