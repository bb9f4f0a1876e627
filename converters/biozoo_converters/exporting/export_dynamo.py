"""Export by torch.export: sizes stay symbols, or it is refused here."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy.typing as npt

from biozoo_runners.torch_devices import import_torch

from ..networks.author_code import is_own_line
from ..networks.network import ExportRequest
from .adaptive_pooling import with_free_pooling
from .diagnosis import Diagnosis, ExportError
from .patience import Overdue, computing_at_most
from .size_guards import frozen_decisions

__all__ = ["SpecialisedError", "by_dynamo"]


class SpecialisedError(Exception):
    """A free axis became a constant.

    Attributes
    ----------
    axes
        Input name and axis name of each, and the size it got.
    path, place
        The submodule and the line that made it so; "" where that was not seen.
    """

    def __init__(self, axes: Sequence[tuple[str, str, int]], path: str = "", place: str = ""):
        super().__init__(", ".join(f"{i}.{a} = {n}" for i, a, n in axes))
        self.axes, self.path, self.place = tuple(axes), path, place


#: Seconds of computing; U-Nets take 5, the deepest encoders 60, a Swin transformer whose windows
#: do not divide the image would take hours.
MOST_SECONDS = 200.0


def by_dynamo(shown: Any, arrays: Sequence[npt.NDArray[Any]], request: ExportRequest) -> Any:
    """The graph as a protobuf message, made from symbols.

    Sizes that torch may choose itself are tried first. Where it takes a free axis for a constant,
    the axis is declared as what its steps make of it (16 * n, say): a network that halves four
    times then sees that no row is ever left over.
    """
    try:
        with computing_at_most(MOST_SECONDS):
            return _exported(shown, arrays, request)
    except Overdue as exc:
        names = {id(m): name for name, m in shown.network.named_modules()}
        path, place = _here(names, exc.frame)
        at = f" ({place})" if place else ""
        why = f"torch.export was not done with sizes there after {MOST_SECONDS:.0f} s{at}"
        change = "Fix the sizes (--fixed y,x), or let it compute no sizes from other sizes"
        raise ExportError(Diagnosis("", path, why, change)) from exc


def _exported(shown: Any, arrays: Sequence[npt.NDArray[Any]], request: ExportRequest) -> Any:
    torch: Any = import_torch("Exporting to ONNX", extra="pack")
    tensors = shown.tensors(arrays)
    free = request.free or tuple({} for _ in arrays)
    first: Exception | None = None
    for shapes in (_automatic(free), _derived(free)):
        try:
            with _fixings(shown.network) as seen:
                program = torch.export.export(
                    shown.flat, tensors, dynamic_shapes=(tuple(shapes),), strict=False
                )
            given = _inputs(program)
            _check_symbols(given, request, seen)
        except Exception as exc:
            if first is not None:
                raise first from None  # what it says without our declarations is plainer
            if not _about_sizes(exc):
                raise
            first = exc
            continue
        shown.doubts += frozen_decisions(given, free)
        made = torch.onnx.export(
            with_free_pooling(program),
            dynamo=True,
            input_names=list(request.input_names),
            output_names=list(request.output_names),
            opset_version=request.opset,
            external_data=False,
            verbose=False,
        )
        return made.model_proto
    raise AssertionError("no shapes")


def _automatic(free: Sequence[Mapping[int, Any]]) -> list[dict[int, Any]]:
    from torch.export import Dim

    return [dict.fromkeys(axes, Dim.AUTO) for axes in free]


def _derived(free: Sequence[Mapping[int, tuple[str, int, int]]]) -> list[dict[int, Any]]:
    """Each axis by its own rule, step * n + rest; axes of one name are one size."""
    from torch.export import Dim

    made = []
    for axes in free:
        shapes = {}
        for axis, (name, step, least) in axes.items():
            base = Dim(f"_{name}", min=max(1, least // step), max=2**20)
            size = step * base if step > 1 else base
            shapes[axis] = size + least % step if least % step else size
        made.append(shapes)
    return made


def _inputs(program: Any) -> list[Any]:
    """The symbolic tensors of the network's inputs."""
    values = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    return [values[name] for name in program.graph_signature.user_inputs]


def _check_symbols(
    given: Sequence[Any], request: ExportRequest, seen: Mapping[int, tuple[str, str]]
) -> None:
    """Raise where a free axis has a number in place of a symbol."""
    fixed: list[tuple[str, str, int]] = []
    for name, tensor, axes in zip(request.input_names, given, request.free, strict=False):
        for axis, (label, _, _) in axes.items():
            size = tensor.shape[axis]
            if isinstance(size, int) or str(size).isdigit():
                fixed.append((name, label, int(size)))
    if fixed:
        sizes = {size for _, _, size in fixed}
        where = next((place for size, place in seen.items() if size in sizes), ("", ""))
        raise SpecialisedError(fixed, *where)


def _about_sizes(exc: Exception) -> bool:
    """Whether declaring the sizes otherwise may help."""
    if isinstance(exc, SpecialisedError):
        return True
    return "Constraint" in type(exc).__name__ or "Constraints violated" in str(exc)


@contextmanager
def _fixings(module: Any) -> Iterator[dict[int, tuple[str, str]]]:
    """Size -> submodule and line that made a symbol that size, as torch follows the network.

    torch tells only that a symbol became a constant. It does so in one method of its own, where
    the frames of the network are still on the stack. Without that method nothing is told.
    """
    import torch.fx.experimental.symbolic_shapes as shapes

    env: Any = shapes.ShapeEnv
    names = {id(m): name for name, m in module.named_modules()}
    seen: dict[int, tuple[str, str]] = {}
    plain = getattr(env, "_set_replacement", None)
    if plain is None:
        yield seen
        return

    def noted(self: Any, symbol: Any, target: Any, *more: Any, **named: Any) -> Any:
        if getattr(target, "is_Integer", False):
            seen.setdefault(int(target), _here(names, sys._getframe(1)))
        return plain(self, symbol, target, *more, **named)

    env._set_replacement = noted
    try:
        yield seen
    finally:
        env._set_replacement = plain


def _here(names: Mapping[int, str], frame: FrameType | None) -> tuple[str, str]:
    """The innermost submodule that is running, and the innermost line that is not torch's."""
    path = place = ""
    while frame is not None and not path:
        if not place and is_own_line(frame.f_code.co_filename):
            place = f"{Path(frame.f_code.co_filename).name}, line {frame.f_lineno}"
        path = names.get(id(frame.f_locals.get("self")), "")
        frame = frame.f_back
    return path, place
