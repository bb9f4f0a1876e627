"""Keras and TensorFlow networks exported to ONNX, in the confined child that can also run them.

The facts are those of `biozoo_runners.executors.keras` or `.tensorflow`. A call's first array is
JSON as bytes, ``{"strategy": ..., "input_names": ..., "output_names": ..., "free": ...,
"opset": ...}``, the others are the inputs; it gives one array of bytes, the graph.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from biozoo.errors import BiozooError
from biozoo_runners.executors.frameworks import cause_of
from biozoo_runners.executors.keras import Keras
from biozoo_runners.executors.tensorflow import TensorFlow
from biozoo_runners.isolated.executor import NotFitting

from ..networks.network import ExportRequest
from .export_code import request_of

__all__ = ["KerasExport", "TensorFlowExport"]

Arrays = list[npt.NDArray[Any]]


class KerasExport(Keras):
    """A Keras network, that is exported by its engine's own exporter."""

    def run(self, arrays: list[npt.NDArray[Any] | None]) -> Arrays:
        """The graph as bytes."""
        strategy, request = _asked(arrays)
        if self._engine == "torch":
            return _bytes(lambda: self._by_torch(request, strategy))
        dtypes = [_dtype(t) for t in self._ordered_inputs()]
        return _bytes(lambda: _by_tf2onnx(self._tf, self._flat, request, dtypes))

    def _ordered_inputs(self) -> list[Any]:
        tensors = self._takes.tensors
        return [tensors[n] for n in self._given] if tensors else []

    def _flat(self, *tensors: Any) -> list[Any]:
        """The network on tensors in the order of the description, with outputs in that order."""
        flat: list[Any] = [None] * len(tensors)
        for tensor, n in zip(tensors, self._given, strict=True):
            flat[n] = tensor
        struct = self._takes.struct
        if struct is None:
            made = self._model(*flat, training=False)
        else:
            packed = self._keras.tree.pack_sequence_as(struct, flat)
            made = self._model(packed, training=False)
        values = list(self._keras.tree.flatten(made))
        return [values[n] for n in self._made] if self._made else values

    def _by_torch(self, request: ExportRequest, strategy: str) -> bytes:
        from ..exporting.export import export_onnx

        call = self._flat
        model = self._model

        class Shown(self._torch.nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.network = model

            def forward(self, *tensors: Any) -> Any:
                made = tuple(call(*tensors))
                return made if len(made) > 1 else made[0]

        return export_onnx(Shown().eval(), request, strategy)


class TensorFlowExport(TensorFlow):
    """One signature of a SavedModel, exported by tf2onnx."""

    def run(self, arrays: list[npt.NDArray[Any] | None]) -> Arrays:
        """The graph as bytes."""
        _, request = _asked(arrays)
        dtypes = [_dtype(spec) for spec in self._takes.values()]
        return _bytes(lambda: _by_tf2onnx(self._tf, self._flat, request, dtypes))

    def _flat(self, *tensors: Any) -> list[Any]:
        made = self._call(**dict(zip(self._takes, tensors, strict=True)))
        return [made[name] for name in self._gives]


def _by_tf2onnx(
    tf: Any, call: Callable[..., list[Any]], request: ExportRequest, dtypes: Sequence[Any]
) -> bytes:
    import tf2onnx
    from tf2onnx import optimizer

    # It loses a Squeeze in about one of ten conversions of a network with two outputs (1.17), which
    # ones is left to the addresses of objects. ONNX Runtime moves transposes itself.
    optimizer._get_optimizers().pop("optimize_transpose", None)
    free = request.free or tuple({} for _ in request.inputs)
    signature = [
        tf.TensorSpec(
            [None if n in axes else size for n, size in enumerate(array.shape)],
            dtypes[number] if dtypes else array.dtype,
            name=f"given_{number}",
        )
        for number, (array, axes) in enumerate(zip(request.inputs, free, strict=True))
    ]
    count = len(request.output_names)
    # identity: a network may hand one of its inputs on, or give one tensor twice
    function = tf.function(
        lambda *tensors: [tf.identity(value) for value in call(*tensors)[:count]],
        input_signature=signature,
    )
    model, _ = tf2onnx.convert.from_function(
        function, input_signature=signature, opset=request.opset
    )
    content: bytes = model.SerializeToString()
    return content


def _asked(arrays: list[npt.NDArray[Any] | None]) -> tuple[str, ExportRequest]:
    asked = json.loads(np.asarray(arrays[0]).tobytes())
    given = [np.array(a) for a in arrays[1:] if a is not None]
    return asked["strategy"], request_of(asked, given)


def _bytes(make: Callable[[], bytes]) -> Arrays:
    try:
        return [np.frombuffer(make(), np.uint8)]
    except BiozooError as exc:
        raise NotFitting(str(exc)) from exc
    except Exception as exc:
        raise NotFitting(f"{type(exc).__name__}: {cause_of(exc)}") from exc


def _dtype(tensor: Any) -> str:
    return str(getattr(tensor.dtype, "name", tensor.dtype))
