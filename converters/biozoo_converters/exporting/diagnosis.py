"""Why a network cannot be exported: the operator, where in the network, and what to change.

What torch's exporters raise is a wall of text for their developers. Of it are taken: the kind of
the fault, the operator, the submodule that was running (from the frames of the exception, or from
the node of the graph that was being translated) and the line of the author's code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from biozoo.errors import NetworkError

from ..networks.author_code import place_in, said

__all__ = ["Diagnosis", "ExportError", "diagnose", "module_path"]


@dataclass(frozen=True)
class Diagnosis:
    """What stopped an export.

    Attributes
    ----------
    operator
        As torch names it, ``"aten::fft_rfft2"``; "" where no single one is the cause.
    module_path
        Of the submodule that was running, ``"encoder.layer3.1.conv"``; "" for the network itself
        or where torch does not tell.
    why, change
        What happened, and what the author can do: sentences without their full stop.
    """

    operator: str
    module_path: str
    why: str
    change: str

    def __str__(self) -> str:
        at = f" in {self.module_path}" if self.module_path else ""
        head = f"{self.operator}{at}".strip()
        return f"{head}{': ' if head else ''}{self.why}. {self.change}."


class ExportError(NetworkError):
    """One way of exporting a network failed.

    Attributes
    ----------
    diagnosis
        Operator, place, cause and cure.
    """

    def __init__(self, diagnosis: Diagnosis):
        super().__init__(str(diagnosis))
        self.diagnosis = diagnosis


def diagnose(error: BaseException, module: Any) -> Diagnosis:
    """What an exporter's exception means for the author of `module`."""
    facts = _Facts.of(error, module)
    for rule in _RULES:
        if (found := rule(facts)) is not None:
            return found
    root = facts.errors[-1] if "Conversion" in type(error).__name__ else error
    return Diagnosis(
        facts.operator,
        facts.path,
        f"torch cannot follow the network there: {type(root).__name__}: {said(root)}{facts.at}",
        "Write that part with plain operators of torch, and try again",
    )


def module_path(error: BaseException, module: Any) -> str:
    """The innermost submodule that was running when an exception came; "" for the network."""
    names = {id(m): name for name, m in module.named_modules()}
    for exc in _chain(error):
        found = ""
        for frame in _frames(exc):
            found = names.get(id(frame.f_locals.get("self")), "") or found
        if found:
            return found
    return ""


# ----------------------------------------------------------------------------------------- facts


@dataclass(frozen=True)
class _Facts:
    """An exception and those behind it, and where in the network they came from."""

    errors: tuple[BaseException, ...]
    operator: str
    path: str
    place: str  # "net.py, line 31", or ""

    @classmethod
    def of(cls, error: BaseException, module: Any) -> _Facts:
        errors = tuple(_chain(error))
        operator = path = place = ""
        for exc in errors:
            for frame in _frames(exc):
                node = frame.f_locals.get("node")
                operator, path, place = _of_node(node) or (operator, path, place)
        path = path or module_path(error, module)
        places = (place_in(exc) for exc in errors)
        return cls(errors, operator, path, place or next(filter(None, places), ""))

    def said(self, *words: str) -> str:
        """The text of the first exception that has one of these words; ""."""
        for exc in self.errors:
            text = f"{type(exc).__name__}: {exc}"
            if any(word in text for word in words):
                return text
        return ""

    @property
    def at(self) -> str:
        return f" ({self.place})" if self.place else ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    todo: BaseException | None = error
    while todo is not None and id(todo) not in seen:
        seen.add(id(todo))
        yield todo
        todo = todo.__cause__ or todo.__context__


def _frames(error: BaseException) -> Iterator[FrameType]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def _of_node(node: Any) -> tuple[str, str, str] | None:
    """Operator, submodule and line of a node of an exporter's graph; None for what is none."""
    if hasattr(node, "meta") and hasattr(node, "target"):  # torch.fx
        if not re.match(r"\w+\.\w+\.\w+$", str(node.target)):
            return None
        stack = [str(v[0]) for v in (node.meta.get("nn_module_stack") or {}).values()]
        places = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
        place = f"{Path(places[-1][0]).name}, line {places[-1][1]}" if places else ""
        operator = "::".join(str(node.target).split(".")[:2])
        return operator, _own(stack[-1] if stack else ""), place
    if hasattr(node, "scopeName") and hasattr(node, "kind"):  # TorchScript
        kind = str(node.kind())
        if kind.startswith(("prim::", "onnx::")):
            return None
        parts = [part.rpartition("::")[2] for part in str(node.scopeName()).split("/")]
        line = re.search(r"([^\s/]+\.py):(\d+)", str(node.sourceRange()))
        place = f"{line.group(1)}, line {line.group(2)}" if line else ""
        return kind, _own(".".join(p for p in parts if p)), place
    return None


def _own(path: str) -> str:
    """A submodule's name without that of the wrapper in which it is exported."""
    path = re.sub(r"^L\['self'\]\.?", "", path)
    return "" if path == "network" else path.removeprefix("network.")


# ----------------------------------------------------------------------------------------- rules


def _specialised(facts: _Facts) -> Diagnosis | None:
    from .export_dynamo import SpecialisedError

    exc = next((e for e in facts.errors if isinstance(e, SpecialisedError)), None)
    if exc is None:
        return None
    axes = " and ".join(f"axis '{a}' of input '{i}' became {n}" for i, a, n in exc.axes)
    at = f" ({exc.place})" if exc.place else ""
    return Diagnosis(
        "",
        exc.path,
        f"a size that should vary is taken as a constant there: {axes}{at}",
        "Take the size from the tensor (x.shape) in place of a number, or describe the axis as "
        "fixed",
    )


def _frozen(facts: _Facts) -> Diagnosis | None:
    from .export_script import FrozenError

    exc = next((e for e in facts.errors if isinstance(e, FrozenError)), None)
    if exc is None:
        return None
    compiler = exc.__cause__ and _compiler_says(str(exc.__cause__))
    told = f" ({compiler})" if compiler else ""
    return Diagnosis(
        "",
        facts.path,
        f"Python decides by a tensor or a size in {exc}, which recording one run freezes, and "
        f"torch.jit.script cannot compile the network{told}",
        "Decide with torch.where on tensors, or leave the decision out of forward",
    )


def _compiler_says(text: str) -> str:
    """The sentence of torch.jit.script's report that tells the cause."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    plain = [n for n in lines if not n.startswith(("File ", "Module ", "The error", "~", "#", "'"))]
    return plain[0].rstrip(".:")[:160] if plain else ""


def _value(facts: _Facts) -> Diagnosis | None:
    text = facts.said("data-dependent", "DataDependentOutput", "DynamicOutputShape")
    if not text:
        return None
    sizes = re.search(r"Size-like symbols: (?!none)\w", text) or "DynamicOutputShape" in text
    operator = re.search(r"aten\.(\w+)\.\w+", text)
    name = facts.operator or (f"aten::{operator.group(1)}" if operator else "")
    if sizes:
        return Diagnosis(
            name,
            facts.path,
            f"the size of a tensor depends on the values of the image{facts.at}",
            "Keep the shape: multiply with a mask, or use torch.where, in place of selecting by "
            "values; what selects objects belongs after the network",
        )
    return Diagnosis(
        name or "aten::item",
        facts.path,
        f"Python takes a value out of a tensor and goes on by it{facts.at}",
        "Decide with torch.where on tensors, or leave the decision out of forward",
    )


def _outside(facts: _Facts) -> Diagnosis | None:
    text = facts.said(
        ".numpy() is not supported", "access data pointer", "invalid python storage",
        "expected np.ndarray", "Can't call numpy()", "does not use its input",
    )  # fmt: skip
    if not text:
        return None
    return Diagnosis(
        facts.operator,
        facts.path,
        f"the network leaves torch there{facts.at}: what NumPy or another library computes is not "
        "seen",
        "Write that part with operators of torch, or make it a pre- or postprocessing step",
    )


def _stored(facts: _Facts) -> Diagnosis | None:
    text = facts.said("was assigned during export", "were assigned during export")
    if not text:
        return None
    names = re.search(r"attributes? ([\w., ]+?) w", text)
    what = names.group(1) if names else "an attribute"
    return Diagnosis(
        "",
        facts.path,
        f"forward stores a tensor on the module ({what}), which a graph cannot",
        "Hand it on as a variable, or return it",
    )


def _unsupported(facts: _Facts) -> Diagnosis | None:
    for pattern in (
        r"No ONNX function found for <OpOverload\(op='([\w.]+)'",
        r"No decompositions registered for .*?'([\w.]+)'",
        r"the operator '([\w:]+)' to ONNX",
        r"unrecognized namespace ([\w:]+)",
        r"export of operator (\w+)",
        r"Unsupported: (\w+)",
    ):
        found = next((m for e in facts.errors if (m := re.search(pattern, str(e)))), None)
        if found:
            break
    else:
        return None
    named = found.group(1).replace(".", "::")
    operator = named if "::" in named else facts.operator or f"aten::{named}"
    why = f"this way of exporting has no ONNX form of it{facts.at}"
    if facts.said("not accessible", "not constant"):
        why = f"it has no ONNX form for sizes that vary{facts.at}"
    elif facts.said("unknown rank"):
        why = f"this way of exporting has lost there how many axes the tensor has{facts.at}"
    return Diagnosis(operator, facts.path, why, _instead(operator))


#: Part of an operator's name -> what does the same and can be exported.
_INSTEAD = {
    "adaptive_": "Pool with a window of fixed size (kernel_size, stride), or describe the axes as "
    "fixed",
    "fft": "Use a convolution in place of the Fourier transform, or compute it before the network",
    "linalg": "Compute it before or after the network, or write it with matrix products",
    "median": "Use torch.sort or torch.topk and take the middle",
    "kthvalue": "Use torch.topk and take the last",
    "cummax": "Use a maximum pooling, or torch.cumsum where a sum does",
    "histc": "Count with comparisons and sums, or move it into postprocessing",
    "bincount": "Count with comparisons and sums, or move it into postprocessing",
    "unique": "Move it into postprocessing: labels are made after the network",
    "grid_sample": "Use torch.nn.functional.interpolate, or sample in 2D",
    "deform_conv": "Use an ordinary convolution (torch.nn.Conv2d)",
    "erfinv": "Write it with torch.erf, torch.log and torch.sqrt",
    "special_": "Write it with exp, log and powers",
    "ListConstruct": "Return a tuple of tensors",
    "DictConstruct": "Return a tuple of tensors",
}


def _instead(operator: str) -> str:
    for part, change in _INSTEAD.items():
        if part in operator:
            return change
    if not operator.startswith(("aten::", "prim::", "prims::")):
        library = operator.partition("::")[0]
        return f"It is an operator of {library}, not of torch: write it with operators of torch"
    return "Replace it by operators that ONNX has (convolutions, matrix products, elementwise ones)"


_RULES: tuple[Callable[[_Facts], Diagnosis | None], ...] = (
    _specialised,
    _frozen,
    _unsupported,
    _stored,
    _outside,
    _value,
)
