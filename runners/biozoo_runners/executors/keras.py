"""A Keras network on one of Keras' engines, in the child.

The facts are ``weights`` (absolute path), ``engine`` ("torch", "tensorflow", "jax"), ``native``
(whether the network was made with that engine), ``allowed`` (sha256 of the networks whose code may
run), and those that every backend gives.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ..isolated.executor import NotFitting
from .frameworks import (
    cause_of,
    check_axes,
    in_order,
    limit_tensorflow,
    plain,
    port_of,
    quieten,
    restated,
)
from .keras_file import check_layers, differs_on_torch, read_network
from .keras_model import EngineUnfit, gives, load, takes

__all__ = ["Keras"]


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
        self._model = load(keras, network, safe=not facts["allowed"])
        self._takes, self._gives = takes(keras, self._model), gives(keras, self._model)
        ids, names = facts["input_ids"], self._takes.names
        if names and len(names) != len(ids):
            raise NotFitting(
                f"the network has {len(names)} input(s) ({', '.join(names)}), the description "
                f"{len(ids)} ({', '.join(ids)}). They must agree; ask the package's author."
            )
        # Places in the model's own order, in the order of the description.
        self._given = in_order(ids, names) if names else list(range(len(ids)))
        self._made = in_order(facts["output_ids"], self._gives.names)
        self._call = self._caller()

    def describe(self) -> dict[str, Any]:
        """Versions, engine, threads, and the network's inputs and outputs as described."""
        described: dict[str, Any] = {
            "version": f"{self._keras.__version__} ({self._engine} {self._version})",
            "providers": [f"{self._engine} engine", self._place],
            "threads": self._threads(),
            "device": self._device,
        }
        for key, found, order in (
            ("inputs", self._takes, self._given),
            ("outputs", self._gives, self._made),
        ):
            if found.tensors:
                described[key] = [port_of(found.names[n], found.tensors[n]) for n in order]
        return described

    def run(self, arrays: list[npt.NDArray[Any] | None]) -> list[npt.NDArray[Any]]:
        """Call the network once."""
        flat: list[Any] = [None] * len(arrays)
        for array, n in zip(arrays, self._given, strict=True):
            if array is not None and self._takes.tensors:
                check_axes(array, self._takes.tensors[n])
            flat[n] = array
        try:
            made = self._keras.tree.flatten(self._call(flat))
            results = [plain(self._keras.ops.convert_to_numpy(value)) for value in made]
        except Exception as exc:
            raise restated(exc) from exc
        return [results[n] for n in self._made] if self._made else results

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
        quieten(on_card=facts["device"] != "cpu")
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
        keras, model, struct = self._keras, self._model, self._takes.struct

        def call(flat: list[Any]) -> Any:
            if struct is None:
                return model(*flat, training=False)
            return model(keras.tree.pack_sequence_as(struct, flat), training=False)

        if self._engine == "torch":
            from ..torch_devices import full_float32

            device = self._torch.device(self._device)

            def on_torch(flat: list[Any]) -> Any:
                with self._torch.inference_mode(), full_float32(device):
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
