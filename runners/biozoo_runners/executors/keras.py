"""A Keras network on one of Keras' engines, in the child.

The facts are ``weights`` (absolute path), ``engine`` ("torch", "tensorflow", "jax"), ``native``
(whether the network was made with that engine), ``allowed`` (sha256 of the networks whose code may
run), and those that every backend gives.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..isolated.executor import NotFitting
from .frameworks import cause_of, check_axes, in_order, limit_tensorflow, port_of, quieten, restated
from .keras_file import Network, check_layers, differs_on_torch, read_network

__all__ = ["EngineUnfit", "Keras"]

#: Layers of which Keras 2 wrote `groups`, always 1, and of which Keras 3 does not take it.
_NO_GROUPS = (
    "Conv1DTranspose",
    "Conv2DTranspose",
    "Conv3DTranspose",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "SeparableConv1D",
    "SeparableConv2D",
)

#: What Keras says of a file that it reads on no engine.
_UNKNOWN = re.compile(
    r"Unknown layer|Could not locate|KerasSaveable|Unrecognized keyword|parent module"
)
_ELSE = "ask its author for ONNX weights, or take other weights of the package with --weights."


class EngineUnfit(Exception):
    """The network cannot be had on the engine; on another one it may. The text says why."""


class Keras:
    """A Keras model in inference mode."""

    def __init__(self, facts: Mapping[str, Any], scratch: Path) -> None:
        """Look into the file, start the engine, load."""
        path = Path(facts["weights"])
        network = read_network(path, scratch)
        check_layers(path, facts["allowed"])
        self._engine: str = facts["engine"]
        foreign = self._engine == "torch" and not facts["native"]
        if foreign and (layer := differs_on_torch(network.config)):
            raise EngineUnfit(f"{layer} would give other numbers on it")
        self._device = "cpu"
        keras = self._keras = self._start(facts)
        self._model = _load(keras, network, safe=not facts["allowed"])
        self._call = self._caller()
        ids, output_ids = facts["input_ids"], facts["output_ids"]
        self._given = _flat(keras, getattr(self._model, "inputs", None))
        names = _names(keras, self._model.input, self._given) if self._given else []
        # Where a model of the author's own class does not say, its inputs are the described ones.
        self._order = in_order(ids, names) if names else list(range(len(ids)))
        self._made = _flat(keras, getattr(self._model, "outputs", None))
        self._output_names = _output_names(keras, self._model) if self._made else []
        if self._given and len(names) != len(ids):
            raise NotFitting(
                f"the network has {len(names)} input(s) ({', '.join(names)}), the description "
                f"{len(ids)} ({', '.join(ids)}). They must agree; ask the package's author."
            )
        self._output_order = in_order(output_ids, self._output_names)

    def describe(self) -> dict[str, Any]:
        """Versions, engine, threads, and the network's inputs and outputs as described."""
        described: dict[str, Any] = {
            "version": f"{self._keras.__version__} ({self._engine} {self._version})",
            "providers": [f"{self._engine} engine", self._place],
            "threads": self._threads(),
            "device": self._device,
        }
        if self._given:
            names = _names(self._keras, self._model.input, self._given)
            described["inputs"] = [port_of(names[n], self._given[n]) for n in self._order]
        if self._made:
            described["outputs"] = [
                port_of(self._output_names[n], self._made[n]) for n in self._output_order
            ]
        return described

    def run(self, arrays: list[npt.NDArray[Any] | None]) -> list[npt.NDArray[Any]]:
        """Call the network once."""
        flat: list[Any] = [None] * len(arrays)
        for array, n in zip(arrays, self._order, strict=True):
            if array is not None and self._given:
                check_axes(array, self._given[n])
            flat[n] = array
        try:
            made = _flat(self._keras, self._call(flat))
            results = [np.asarray(self._keras.ops.convert_to_numpy(value)) for value in made]
        except Exception as exc:
            raise restated(exc) from exc
        return [results[n] for n in self._output_order] if self._output_order else results

    def peak_device_memory(self) -> int | None:
        """Most bytes that torch held on the card."""
        if self._device == "cpu":
            return None
        from ..torch_devices import peak_memory

        return peak_memory(self._torch.device(self._device))

    def free_cached(self) -> None:
        """Give memory that is kept for later back to card and system."""
        from ..torch_devices import release_memory, trim_heap

        if self._engine == "torch":
            release_memory(self._torch.device(self._device))
        else:
            trim_heap()

    # -------------------------------------------------------------------------------- engines

    def _start(self, facts: Mapping[str, Any]) -> Any:
        """Import the engine with its threads and device, then Keras."""
        quieten()
        os.environ["KERAS_BACKEND"] = self._engine
        threads = int(facts["threads"])
        self._place = "cpu"
        try:
            if self._engine == "torch":
                import torch

                from ..torch_devices import resolve

                self._torch, self._version = torch, str(torch.__version__)
                torch.set_num_threads(threads)
                device = resolve(facts["device"])
                self._device = str(device)
                if device.type == "cuda":
                    self._place = f"{device} {torch.cuda.get_device_name(device)}"
                os.environ["KERAS_TORCH_DEVICE"] = self._device
                self._threads = torch.get_num_threads
            elif self._engine == "tensorflow":
                import tensorflow as tf

                self._tf, self._version = tf, str(tf.__version__)
                limit_tensorflow(tf, threads)
                self._threads = tf.config.threading.get_intra_op_parallelism_threads
            else:
                os.environ["JAX_PLATFORMS"] = "cpu"
                self._version = version("jax")
                self._threads = lambda: threads
            import keras
        except ImportError as exc:
            raise EngineUnfit(f"it cannot be imported ({cause_of(exc)})") from exc
        if self._engine == "torch":
            sys.meta_path.insert(0, _NoTensorFlow())
        return keras

    def _caller(self) -> Any:
        """The function that maps the inputs, as one list, to what the model returns."""
        keras, model = self._keras, self._model
        struct = model.input if getattr(model, "inputs", None) else None

        def call(flat: list[Any]) -> Any:
            if struct is None:
                return model(*flat, training=False)
            return model(keras.tree.pack_sequence_as(struct, flat), training=False)

        if self._engine == "torch":

            def on_torch(flat: list[Any]) -> Any:
                with self._torch.inference_mode():
                    return call(flat)

            return on_torch
        if self._engine == "tensorflow":
            # As Keras' own predict does; twice as fast as without.
            graph = self._tf.function(call, reduce_retracing=True)
            tensor = self._tf.convert_to_tensor
            return lambda flat: graph([None if a is None else tensor(a) for a in flat])
        return call


class _NoTensorFlow:
    """Tells Keras on torch that TensorFlow is not installed.

    It imports TensorFlow to see whether something is a tensor of it: 3 s and 300 MB for nothing.
    """

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Refuse tensorflow; leave everything else to the next finder."""
        if name == "tensorflow" or name.startswith("tensorflow."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


# ------------------------------------------------------------------------------------------ model


def _load(keras: Any, network: Network, *, safe: bool) -> Any:
    """The model, or why it cannot be had."""
    own = _of_keras_2(keras) if network.hdf5 else None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            model = keras.saving.load_model(
                network.path, custom_objects=own, compile=False, safe_mode=safe
            )
        except Exception as exc:
            text = _not_read(keras, network, cause_of(exc))
            raise (NotFitting if _UNKNOWN.search(str(exc)) else EngineUnfit)(text) from exc
    for warning in told:
        # Of Conv2DTranspose on torch; Keras computed it otherwise there before 3.13.
        if "inconsistencies across backends" in str(warning.message):
            raise EngineUnfit(cause_of(Exception(str(warning.message))))
    return model


def _not_read(keras: Any, network: Network, cause: str) -> str:
    """Why Keras does not read a file, with the file's version, which often is the reason."""
    wrote, here = network.written_by, str(keras.__version__)
    cause = cause.partition(" Please ensure ")[0].rstrip(".")
    if _major_minor(wrote) > _major_minor(here):
        return (
            f"the file was written by the newer Keras {wrote} and Keras {here} does not read it: "
            f"{cause}. Update Keras (pip install --upgrade keras), or {_ELSE}"
        )
    by = f" of Keras {wrote}" if wrote else ""
    return f"Keras {here} does not read the file{by}: {cause}. {_ELSE[0].upper()}{_ELSE[1:]}"


def _major_minor(text: str) -> tuple[int, ...]:
    parts = text.split(".")[:2]
    return tuple(int(p) for p in parts if p.isdecimal())


def _of_keras_2(keras: Any) -> dict[str, Any]:
    """Classes that read what Keras 2 wrote of them."""

    def without_groups(layer: Any) -> Any:
        class Older(layer):  # type: ignore[misc]
            @classmethod
            def from_config(cls, config: dict[str, Any]) -> Any:
                if config.get("groups") == 1:
                    config = {k: v for k, v in config.items() if k != "groups"}
                return super().from_config(config)

        return Older

    named = {n: getattr(keras.layers, n) for n in _NO_GROUPS if hasattr(keras.layers, n)}
    own = {name: without_groups(layer) for name, layer in named.items()}
    # As TensorFlow 1.13 to 1.15 called it.
    return own | {"BatchNormalizationV1": keras.layers.BatchNormalization}


def _flat(keras: Any, value: Any) -> list[Any]:
    return [] if value is None else list(keras.tree.flatten(value))


def _names(keras: Any, struct: Any, tensors: Sequence[Any]) -> list[str]:
    """Names of a model's inputs: the keys of a mapping, else those of its input layers."""
    if isinstance(struct, dict) and len(struct) == len(tensors):
        return [str(n) for n in keras.tree.flatten({k: k for k in struct})]
    return [str(t.name) for t in tensors]


def _output_names(keras: Any, model: Any) -> list[str]:
    """Names of a model's outputs: the keys of a mapping, else those of its last layers."""
    count = len(_flat(keras, model.outputs))
    struct = getattr(model, "output", None)
    if isinstance(struct, dict) and len(struct) == count:
        return _names(keras, struct, model.outputs)
    names = getattr(model, "output_names", None) or [model.layers[-1].name]
    return [str(n) for n in names] if len(names) == count else [f"output {n}" for n in range(count)]
