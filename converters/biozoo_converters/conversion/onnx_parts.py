"""What is mended around onnx2pytorch 0.6: names, constants that are weights, Split and Resize.

- It calls submodules and buffers after the graph's values, where names that differ only in dots
  fall together, and dots are not allowed.
- Weights that are operands of a sum or product are buffers: they would never be trained. Those of
  convolutions stand there a second time.
- Split remembers the sizes of the first call.
- Resize is torch's interpolate, which knows few of the rules by which ONNX places pixels.
- Slice indexes with a list, which torch is about to read otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["mend", "resized", "with_plain_names"]

#: Inputs of these operators that are numbers about the operation, not weights.
_SETTINGS = frozenset(("Resize", "Upsample", "Clip", "Pad", "OneHot", "Range", "Tile", "Pow"))


def with_plain_names(model: Any) -> Any:
    """A copy whose values are called by letters, digits and underscores, no two alike."""
    from .onnx_tidy import main_graphs

    copy = type(model).FromString(model.SerializeToString())
    new: dict[str, str] = {"": ""}
    used: set[str] = set()

    def plain(name: str) -> str:
        if name not in new:
            base = re.sub(r"\W", "_", name)
            made = base
            while made in used:
                made = f"{base}_{len(used)}"
            used.add(made)
            new[name] = made
        return new[name]

    for graph in main_graphs(copy):
        for part in (*graph.input, *graph.output, *graph.initializer):
            part.name = plain(str(part.name))
        for node in graph.node:
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    names[i] = plain(str(name))
        del graph.value_info[:]
    return copy


def mend(network: Any, graph: Any) -> None:
    """Change a converted network in place; see the module."""
    import torch
    from onnx2pytorch.constants import STANDARD_LAYERS
    from onnx2pytorch.operations import Split

    opset = next((int(o.version) for o in graph.opset_import if o.domain in ("", "ai.onnx")), 1)
    fed: dict[str, bool] = {}  # initializer -> whether an operator takes it as a weight
    inner = any(a.HasField("g") or a.graphs for n in graph.graph.node for a in n.attribute)
    for node in graph.graph.node:
        name = network.mapping[node.output[0]]
        op = getattr(network, name)
        if isinstance(op, Split) and op.split_size_or_sections is None:
            op.register_forward_pre_hook(_forget_sizes)
        if str(node.op_type) == "Slice" and opset >= 10:
            setattr(network, name, _slice(torch))
            op = getattr(network, name)
        if str(node.op_type) == "Resize" and (rule := Rule.of(node, opset)).foreign:
            setattr(network, name, _resize(torch, rule, opset))
            op = getattr(network, name)
        if isinstance(op, STANDARD_LAYERS):
            continue
        if isinstance(op, torch.nn.Sequential) and any(
            isinstance(part, STANDARD_LAYERS) for part in op.modules()
        ):
            continue
        for value in node.input:
            is_weight = str(node.op_type) not in _SETTINGS
            fed[str(value)] = fed.get(str(value), False) or is_weight
    outputs = {str(v.name) for v in graph.graph.output}
    for tensor in graph.graph.initializer:
        key = f"_initializer_{tensor.name}"
        buffer = network._buffers.get(key)
        if buffer is None:
            continue
        if str(tensor.name) not in fed and str(tensor.name) not in outputs and not inner:
            delattr(network, key)  # a layer has it as its own parameter
        elif fed.get(str(tensor.name)) and buffer.is_floating_point() and buffer.numel() > 1:
            delattr(network, key)
            network.register_parameter(key, torch.nn.Parameter(buffer.clone()))


def _forget_sizes(module: Any, inputs: Any) -> None:
    module.split_size_or_sections = None


def _slice(torch: Any) -> Any:
    class Slice(torch.nn.Module):  # type: ignore[misc]
        """Slice by ONNX's rules: as Python's, but ends are cut to the axis."""

        def forward(
            self, x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None
        ) -> Any:
            count = len(starts)
            places = [int(a) for a in axes] if axes is not None else list(range(count))
            strides = [int(s) for s in steps] if steps is not None else [1] * count
            for axis, start, end, step in zip(places, starts, ends, strides, strict=True):
                size = x.shape[axis]
                first, last = int(start), int(end)
                if step > 0:
                    index = [slice(None)] * x.dim()
                    index[axis] = slice(first, last, step)
                    x = x[tuple(index)]
                    continue
                last = None if last < -size else last  # type: ignore[assignment]
                chosen = range(size)[first:last:step]
                x = x.index_select(axis, torch.tensor(chosen, dtype=torch.int64, device=x.device))
            return x

    return Slice()


class Rule:
    """How one Resize places the pixels of its output in its input."""

    def __init__(self, options: Mapping[str, Any]):
        self.mode = str(options.get("mode", "nearest"))
        self.places = str(options.get("coordinate_transformation_mode", "half_pixel"))
        self.nearest = str(options.get("nearest_mode", "round_prefer_floor"))
        self.cubic = float(options.get("cubic_coeff_a", -0.75))
        self.axes = [int(a) for a in options.get("axes", ())]
        self.antialias = bool(options.get("antialias", 0))
        self.outside = bool(options.get("exclude_outside", 0))
        self.policy = str(options.get("keep_aspect_ratio_policy", "stretch"))

    @classmethod
    def of(cls, node: Any, opset: int) -> Rule:
        """The attributes of a node; before opset 11 there was one rule."""
        from onnx import helper

        options = {}
        for attribute in node.attribute:
            value = helper.get_attribute_value(attribute)
            options[str(attribute.name)] = value.decode() if isinstance(value, bytes) else value
        if opset < 11:
            old = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            options |= old
        return cls(options)

    @property
    def foreign(self) -> bool:
        """Whether torch's interpolate has no such rule, and `resized` has."""
        own = {
            "nearest": self.places == "asymmetric" and self.nearest == "floor",
            "linear": self.places in ("half_pixel", "align_corners"),
            "cubic": True,
        }
        able = self.mode in ("nearest", "linear") and self.places in _PLACES
        plain = not self.antialias and not self.outside and self.policy == "stretch"
        return able and plain and (not own[self.mode] or bool(self.axes))


_PLACES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners",
           "half_pixel_symmetric")  # fmt: skip


def _resize(torch: Any, rule: Rule, opset: int) -> Any:
    class Resize(torch.nn.Module):  # type: ignore[misc]
        """Resize by ONNX's own rules."""

        def forward(self, x: Any, roi: Any = None, scales: Any = None, sizes: Any = None) -> Any:
            if opset < 11:  # the signature was (x, scales)
                scales = roi
            axes = rule.axes or list(range(x.dim()))
            if scales is not None and scales.numel():
                factors = [float(s) for s in scales]
                pixels = [int(x.shape[a] * s) for a, s in zip(axes, factors, strict=True)]
            else:
                pixels = [int(n) for n in sizes]
                factors = [n / x.shape[a] for a, n in zip(axes, pixels, strict=True)]
            return resized(x, rule, axes, pixels, factors)

    return Resize()


def resized(
    x: Any, rule: Rule, axes: Sequence[int], sizes: Sequence[int], factors: Sequence[float]
) -> Any:
    """`x` with other sizes along some axes, nearest or linear, differentiable.

    The formulas are those of the operator Resize in the ONNX standard, axis by axis.
    """
    for axis, size, factor in zip(axes, sizes, factors, strict=True):
        if size != x.shape[axis] or factor != 1:
            x = _along(x, rule, axis % x.dim(), size, factor)
    return x


def _along(x: Any, rule: Rule, axis: int, size: int, factor: float) -> Any:
    import torch

    have = x.shape[axis]
    out = torch.arange(size, dtype=torch.float64, device=x.device)
    match rule.places:
        case "asymmetric":
            at = out / factor
        case "align_corners":
            at = out * (have - 1) / (size - 1) if size > 1 else out * 0
        case "pytorch_half_pixel" if size == 1:
            at = out * 0
        case "half_pixel_symmetric":
            centre = have / 2 * (1 - size / (factor * have))
            at = centre + (out + 0.5) / factor - 0.5
        case _:
            at = (out + 0.5) / factor - 0.5
    if rule.mode == "nearest":
        return x.index_select(axis, _nearest(torch, at, rule.nearest).clamp(0, have - 1))
    at = at.clamp(0, have - 1)
    low = at.floor().long()
    high = (low + 1).clamp(max=have - 1)
    shape = [1] * x.dim()
    shape[axis] = size
    part = (at - low).to(x.dtype).reshape(shape)
    return x.index_select(axis, low) * (1 - part) + x.index_select(axis, high) * part


def _nearest(torch: Any, at: Any, mode: str) -> Any:
    match mode:
        case "floor":
            return at.floor().long()
        case "ceil":
            return at.ceil().long()
        case "round_prefer_ceil":
            return (at + 0.5).floor().long()
        case _:
            return (at - 0.5).ceil().long()
