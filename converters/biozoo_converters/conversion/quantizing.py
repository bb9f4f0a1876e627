"""The float16 and int8 twins of an ONNX graph; whether they are any good is decided elsewhere."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biozoo.errors import ConversionError, MissingDependencyError
from biozoo.install import install_line

from .base import Attempt
from .onnx_tidy import checked, import_onnx, opset_of, strip

__all__ = ["attempts", "calibration"]

Arrays = Mapping[str, npt.NDArray[Any]]

#: Operators that lose most in float16: sums over many pixels, squares, exponentials, and places.
_SENSITIVE = (
    "InstanceNormalization", "GroupNormalization", "LayerNormalization", "BatchNormalization",
    "LpNormalization", "MeanVarianceNormalization", "ReduceMean", "ReduceSum", "ReduceSumSquare",
    "ReduceL2", "GlobalAveragePool", "Pow", "Sqrt", "Exp", "Log", "Reciprocal", "Div", "Softmax",
    "LogSoftmax", "Erf", "Resize", "Upsample", "GridSample",
)  # fmt: skip

#: What int8 makes faster.
_HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")

#: Quantized per channel since this version of the standard.
_OPSET = 13

#: Arrays that int8 is calibrated with.
_MOST = 8


def attempts(source: Path, name: str, precision: str, real: Arrays) -> Iterator[Attempt]:
    """Ways to make a precision of a graph, boldest first.

    Parameters
    ----------
    source
        The float32 graph.
    name
        The file to write.
    precision
        ``"float16"`` or ``"int8"``.
    real
        What the network gets of a real image; calibrates int8.
    """
    if precision == "float16":
        ways: dict[str, Callable[[Any], Any]] = {
            "float16": partial(_half, ()),
            "float16, sensitive operators in float32": partial(_half, _SENSITIVE),
        }
    else:
        arrays = calibration(real)
        ways = {
            "int8 (QDQ, per channel)": partial(_int8, arrays, False),
            "int8 (QDQ, per channel), first and last layer in float32": partial(
                _int8, arrays, True
            ),
        }
    for strategy, make in ways.items():
        yield Attempt(strategy, partial(_written, source, name, precision, make))


def calibration(real: Arrays, most: int = _MOST) -> list[dict[str, npt.NDArray[Any]]]:
    """What int8 ranges are measured on: the real input, its mirror images, and random values.

    The random ones have mean and deviation of the real input, so that values beyond those of one
    image have a place too.
    """
    rng = np.random.Generator(np.random.PCG64(0))
    made = [dict(real)]
    for axis in range(2, max((a.ndim for a in real.values()), default=2)):
        made.append({i: np.flip(a, axis) if axis < a.ndim else a for i, a in real.items()})
    while len(made) < most:
        made.append({i: _like(a, rng) for i, a in real.items()})
    return [{i: np.ascontiguousarray(a) for i, a in one.items()} for one in made[:most]]


def _like(array: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[Any]:
    if array.dtype.kind != "f":
        return rng.permuted(array, axis=array.ndim - 1)
    drawn = rng.normal(float(array.mean()), float(array.std()) or 1.0, array.shape)
    return drawn.clip(array.min(), array.max()).astype(array.dtype)


def _written(
    source: Path, name: str, precision: str, make: Callable[[Any], Any], folder: Path
) -> dict[str, Any]:
    onnx = import_onnx()
    original = onnx.load_model(source)
    try:
        with _quiet():
            model = make(original)
    except (ConversionError, MissingDependencyError):
        raise
    except Exception as exc:  # of the libraries, in any class
        first = next((line for line in str(exc).splitlines() if line.strip()), "")[:300]
        raise ConversionError(
            what=source.name, target=precision, tried={type(exc).__name__: first}
        ) from exc
    strip(model)
    _keep_ports(model, onnx.load_model(source))
    content = checked(model)
    (folder / name).write_bytes(content)
    return {"source": name, "sha256": hashlib.sha256(content).hexdigest()}


def _half(blocked: Sequence[str], model: Any) -> Any:
    try:
        from onnxconverter_common import float16
    except ImportError as exc:
        raise MissingDependencyError(
            what="A float16 variant", library="onnxconverter-common", install=install_line("pack")
        ) from exc
    there = {str(node.op_type) for node in model.graph.node}
    if blocked and not there.intersection(blocked):
        raise ConversionError(
            what="The graph",
            target="float16",
            tried={"sensitive operators in float32": "it has none of them"},
        )
    return float16.convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *blocked],
    )


def _int8(arrays: Sequence[Arrays], gently: bool, model: Any) -> Any:
    """Activations as unsigned, weights as signed bytes of 7 bits: with 8, processors without VNNI
    overflow the sums of two products, and the numbers would depend on the machine.
    """
    try:
        from onnxruntime import quantization as q
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as exc:
        raise MissingDependencyError(
            what="An int8 variant", library="onnxruntime", install=install_line("cpu")
        ) from exc
    onnx = import_onnx()
    if opset_of(model) < _OPSET:
        model = onnx.version_converter.convert_version(model, _OPSET)
    names = {str(v.name) for v in model.graph.input}
    feeds = [{i: a for i, a in one.items() if i in names} for one in arrays]
    if len(feeds[0]) < len(arrays[0]):  # the graph calls its inputs otherwise: by order
        constants = {str(t.name) for t in model.graph.initializer}
        ordered = [str(v.name) for v in model.graph.input if str(v.name) not in constants]
        feeds = [dict(zip(ordered, one.values(), strict=True)) for one in arrays]

    class Reader(q.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(feeds)

        def get_next(self) -> Any:
            return next(self.left, None)

    with tempfile.TemporaryDirectory(prefix="biozoo-") as folder:
        ready, made = Path(folder, "ready.onnx"), Path(folder, "made.onnx")
        quant_pre_process(model, ready, skip_symbolic_shape=True)
        graph = onnx.load_model(ready).graph
        heavy = [str(n.name) for n in graph.node if n.op_type in _HEAVY]
        if len(heavy) < (3 if gently else 1):
            raise ConversionError(
                what="The graph",
                target="int8",
                tried={"quantization": "too few convolutions and products of matrices are left"},
            )
        q.quantize_static(
            ready,
            made,
            Reader(),
            quant_format=q.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=q.QuantType.QUInt8,
            weight_type=q.QuantType.QInt8,
            nodes_to_exclude=[heavy[0], heavy[-1]] if gently else [],
        )
        return onnx.load_model(made)


def _keep_ports(model: Any, original: Any) -> None:
    """Inputs and outputs as the float32 graph declares them."""
    constants = {str(t.name) for t in original.graph.initializer}
    for ports, wanted in (
        (model.graph.input, [v for v in original.graph.input if str(v.name) not in constants]),
        (model.graph.output, list(original.graph.output)),
    ):
        copies = [type(v).FromString(v.SerializeToString()) for v in wanted]
        del ports[:]
        ports.extend(copies)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The libraries advise on the root logger, and warn of every small number."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
