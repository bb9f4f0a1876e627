"""Adaptive average pooling as a product of matrices, which holds for every size of the image.

torch.export takes pooling to a fixed number of cells (PSPNet's pyramid) apart into gathers of
positions that it works out for one size; the graph is then wrong at others. Window i of m cells
over n pixels is, as torch defines it, floor(i n / m) to ceil((i + 1) n / m); the average over a
window is linear and its axes are independent, so it is a matrix of m x n per axis, made inside the
graph from n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["with_free_pooling"]

_NAMES = ("adaptive_avg_pool2d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d")


def with_free_pooling(program: Any) -> Any:
    """An exported program whose poolings to several cells hold at every size.

    Parameters
    ----------
    program
        A `torch.export.ExportedProgram`; one without such poolings is returned as it is.
    """
    import torch

    packets = (getattr(torch.ops.aten, name) for name in (*_NAMES, "adaptive_avg_pool3d"))
    operators = [packet.default for packet in packets]
    nodes = (n for n in program.graph.nodes if n.op == "call_function")
    if not any(n.target in operators and _varies(n) for n in nodes):
        return program
    return program.run_decompositions(dict.fromkeys(operators, _pooled))


def _varies(node: Any) -> bool:
    """Whether a symbolic size is pooled to several cells."""
    sizes = node.args[0].meta["val"].shape[-len(node.args[1]) :]
    return any(not isinstance(n, int) and m != 1 for n, m in zip(sizes, node.args[1], strict=True))


def _pooled(x: Any, output_size: Sequence[int]) -> Any:
    """Average over windows, one axis after the other.

    Parameters
    ----------
    x
        Tensor whose last axes are pooled.
    output_size
        Cells per axis.
    """
    import torch
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    for number, cells in enumerate(reversed(list(output_size)), start=1):
        size = x.shape[-number]
        if statically_known_true(cells == size):
            continue
        if statically_known_true(cells == 1):
            x = x.mean(-number, keepdim=True)
            continue
        cell = torch.arange(cells, device=x.device).unsqueeze(1)
        pixel = torch.arange(size, device=x.device)
        start = torch.div(cell * size, cells, rounding_mode="floor")
        stop = torch.div((cell + 1) * size + (cells - 1), cells, rounding_mode="floor")
        inside = ((pixel >= start) & (pixel < stop)).to(x.dtype)  # cells, pixels
        weights = inside / (stop - start).to(x.dtype)
        x = (x.transpose(-1, -number) @ weights.t()).transpose(-1, -number)
    return x
