"""Operators that look at the whole image at once, named from a package's files; nothing is run.

An ONNX graph is read node by node, TorchScript and an author's source as text. What is found here
explains what was measured, it proves nothing: a network may divide by a mean and not care.
"""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biozoo.errors import BiozooError

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

__all__ = ["global_operators"]

#: ONNX operators that take all pixels whatever their attributes.
_ALWAYS = frozenset(
    {
        "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "InstanceNormalization",
        "GroupNormalization", "Attention", "MultiHeadAttention",
    }
)  # fmt: skip
_REDUCES = frozenset(
    {
        "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceSumSquare", "ReduceL1",
        "ReduceL2", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp",
    }
)  # fmt: skip

#: The same in TorchScript's code and in Python source.
_SCRIPT = re.compile(
    r"\btorch\.(adaptive_avg_pool[123]d|adaptive_max_pool[123]d|instance_norm|group_norm|"
    r"scaled_dot_product_attention|mean|amax|std|var|std_mean|var_mean)\("
)
_SOURCE = re.compile(
    r"\b(InstanceNorm[123]d|GroupNorm|AdaptiveAvgPool[123]d|AdaptiveMaxPool[123]d|"
    r"MultiheadAttention|GlobalAveragePooling[123]D|GlobalMaxPooling[123]D|instance_norm|"
    r"group_norm|adaptive_avg_pool[123]d|scaled_dot_product_attention)\b"
)


def global_operators(package: ModelPackage, weights_format: str) -> tuple[str, ...]:
    """What in a package's weights looks at all pixels, ``"InstanceNormalization (12 times)"``.

    The weights that ran are read first; where nothing is seen in them, the package's others.
    """
    weights = package.raw["weights"]
    order = [weights_format, *(f for f in weights if f != weights_format)]
    for name in order:
        entry = weights.get(name)
        if not isinstance(entry, Mapping):
            continue
        try:
            found = Counter(_of(package, name, entry))
        except (BiozooError, OSError, ValueError, zipfile.BadZipFile):
            continue  # not here, or not readable: another format may be
        if found:
            return tuple(f"{op}{f' ({n} times)' if n > 1 else ''}" for op, n in found.items())
    return ()


def _of(package: ModelPackage, name: str, entry: Mapping[str, Any]) -> Iterator[str]:
    if name == "onnx":
        yield from _in_graph(package.path(entry["source"]))
    elif name == "torchscript":
        yield from _in_script(package.path(entry["source"]))
    elif name == "pytorch_state_dict":
        source = (entry.get("architecture") or {}).get("source")
        if source:
            text = package.path(source).read_text(encoding="utf-8", errors="replace")
            yield from _SOURCE.findall(text)


def _in_script(path: Path) -> Iterator[str]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if "/code/" in name and name.endswith(".py"):
                yield from _SCRIPT.findall(archive.read(name).decode("utf-8", "replace"))


def _in_graph(path: Path) -> Iterator[str]:
    try:
        import onnx
    except ImportError:  # [pack] brings it; a run needs it not
        return
    try:
        model = onnx.load(str(path), load_external_data=False)
        model = onnx.shape_inference.infer_shapes(model)
    except Exception:  # protobuf's and onnx's own; a graph that runs may still be unknown to them
        return
    graph = model.graph
    ranks = {
        v.name: len(v.type.tensor_type.shape.dim)
        for v in (*graph.input, *graph.value_info, *graph.output)
        if v.type.tensor_type.HasField("shape")
    }
    constants = {i.name: i for i in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = next(
                (a.t for a in node.attribute if a.name == "value"), None
            )
    for node in graph.node:
        if node.op_type in _ALWAYS or (
            node.op_type in _REDUCES and _spatial(node, ranks, constants)
        ):
            yield node.op_type


def _spatial(node: Any, ranks: Mapping[str, int], constants: Mapping[str, Any]) -> bool:
    """Whether a reduction goes over an axis behind batch and channel, of an image or a volume."""
    import onnx

    axes: list[int] = []
    for a in node.attribute:
        if a.name == "axes":
            axes = list(a.ints)
    if len(node.input) > 1 and node.input[1]:
        tensor = constants.get(node.input[1])
        if tensor is None:
            return False
        axes = onnx.numpy_helper.to_array(tensor).ravel().tolist()
    rank = ranks.get(node.input[0], 4)
    if rank < 4:  # tokens or channels: what they stand for is not known
        return False
    return not axes or any((a + rank if a < 0 else a) >= 2 for a in axes)
