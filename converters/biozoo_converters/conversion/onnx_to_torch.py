"""ONNX weights back to a torch module, to be trained further; by onnx2pytorch, and proven.

    module, proof = to_module(biozoo.open("nuclei-fluo"))
    module.train()

The module takes and gives tensors in the order of the description. It has been compared with ONNX
Runtime on the graph at several sizes and batches, and a gradient has reached every parameter.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from biozoo.errors import BackendError, ConversionError, MissingDependencyError, OutOfMemoryError
from biozoo.install import install_line
from biozoo_runners.base import check_inputs, ran_out_of_memory

from .onnx_tidy import import_onnx

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

    from ..proof.certificate import FormatProof

__all__ = ["module_of", "to_module"]


def to_module(package: ModelPackage) -> tuple[Any, FormatProof]:
    """The network of a package's ONNX weights as a differentiable torch module.

    Returns
    -------
    torch.nn.Module
        In evaluation mode on the CPU. Called with one tensor per input of the description, in its
        order and with its axes; gives one tensor, or a tuple in the order of the outputs. Weights
        that stand in the graph as plain constants (of a product, a sum, a matrix) are parameters
        too.
    FormatProof
        The comparison with ONNX Runtime.

    Raises
    ------
    ConversionError
        The package has no ONNX weights, onnx2pytorch does not know an operator, the module gives
        other results, or no gradient reaches a parameter.
    MissingDependencyError
        onnx2pytorch or torch is not installed.
    """
    from biozoo_runners.base import described

    from ..networks.opening import open_weights
    from ..proof.prove import prove, remembered
    from ..proof.setting import network_inputs

    torch, library = _imports()
    what = f"Model '{package.id}'"
    if "onnx" not in package.summary.weights:
        have = ", ".join(package.summary.weights) or "none"
        raise ConversionError(
            what=what, target="torch", tried={"onnx2pytorch": f"it has no ONNX weights but {have}"}
        )
    path = package.path(package.raw["weights"]["onnx"]["source"])
    ids = described(package)
    names = (ids["input_ids"], ids["output_ids"])
    real = network_inputs(package)
    tried: dict[str, str] = {}
    with open_weights(package, "onnx") as backend:
        reference = remembered(backend)
        for strategy, graph in _graphs(import_onnx().load_model(path)):
            name = f"onnx2pytorch {library}{strategy}"
            try:
                module = module_of(graph(), *names)
                _check_gradients(module, real, ids["input_ids"])
            except ConversionError as exc:
                tried[name] = "; ".join(exc.tried.values())
                continue
            proof = prove(
                package,
                reference,
                "onnx",
                real=real,
                strategy=name,
                candidate=_Called(module, package.id, *names),
            )
            if proof.ok:
                return module, replace(proof, runs_on=f"torch {torch.__version__}")
            tried[name] = proof.fault
    raise ConversionError(
        what=what,
        target="torch",
        tried=tried,
        hint="Its ONNX weights run all the same; only training them further is not possible here.",
    )


def module_of(
    graph: Any, input_names: tuple[str, ...] = (), output_names: tuple[str, ...] = ()
) -> Any:
    """An `onnx.ModelProto` as a torch module, not yet compared with anything.

    Parameters
    ----------
    graph
        With its weights inside.
    input_names, output_names
        The order of inputs and outputs, where the graph's ports have these names; else its own.

    Raises
    ------
    ConversionError
        An operator cannot be converted; says which.
    """
    _imports()
    from .onnx_parts import with_plain_names

    ports = _order(graph, input_names, output_names)
    with _quiet():
        try:
            return _built(with_plain_names(graph), *ports)
        except Exception as exc:  # the library raises everything from KeyError to AssertionError
            node = _node_of(exc)
            text = f"{type(exc).__name__}: {_first(exc)}"
            at = f"operator {node}: " if node and node.split()[0] not in text else ""
            raise ConversionError(
                what="The graph", target="torch", tried={"onnx2pytorch": f"{at}{text}"}
            ) from exc


def _built(graph: Any, inputs: list[int], outputs: list[int]) -> Any:
    """The library's module, mended, with inputs and outputs in the order of these places."""
    import torch
    from onnx2pytorch import ConvertModel

    from .onnx_parts import mend

    class FromOnnx(torch.nn.Module):
        """A network that came as an ONNX graph."""

        def __init__(self, network: Any) -> None:
            super().__init__()
            self.network = network

        def forward(self, *tensors: Any) -> Any:
            given: list[Any] = [None] * len(tensors)
            for place, value in zip(inputs, tensors, strict=True):
                given[place] = value
            made = self.network(*given)
            values = made if isinstance(made, list | tuple) else [made]
            chosen = tuple(values[n] for n in outputs)
            return chosen if len(chosen) > 1 else chosen[0]

    network = ConvertModel(graph, experimental=True)
    mend(network, graph)
    return FromOnnx(network).eval()


class _Called:
    """A module called by tensor ids, as a backend is."""

    def __init__(self, module: Any, model: str, inputs: tuple[str, ...], outputs: tuple[str, ...]):
        self._module, self._model = module, model
        self._inputs, self._outputs = inputs, outputs

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        import torch

        check_inputs(inputs, self._inputs, (), model=self._model)
        tensors = [torch.from_numpy(np.array(inputs[i])) for i in self._inputs]
        try:
            with torch.no_grad(), _quiet():
                made = self._module(*tensors)
        except Exception as exc:
            if ran_out_of_memory(exc):
                raise OutOfMemoryError(f"Model '{self._model}' as a torch module: {exc}") from exc
            node = _node_of(exc)
            raise BackendError(
                f"as a torch module it fails{f' at {node}' if node else ''}: "
                f"{type(exc).__name__}: {_first(exc)}"
            ) from exc
        values = made if isinstance(made, tuple) else (made,)
        arrays = (np.array(v.detach().numpy()) for v in values)
        return dict(zip(self._outputs, arrays, strict=True))


def _check_gradients(
    module: Any, real: Mapping[str, npt.NDArray[Any]], input_ids: tuple[str, ...]
) -> None:
    """Whether one backward pass reaches every parameter with finite numbers.

    Constants that were made parameters and that nothing differentiable uses are constants again.
    """
    import torch

    if missing := [i for i in input_ids if i not in real]:
        raise _refused(f"input {', '.join(missing)} has no test tensor")
    tensors = [torch.from_numpy(np.array(real[i])) for i in input_ids]
    module.zero_grad(set_to_none=True)
    try:
        with _quiet(), torch.enable_grad():
            made = module(*tensors)
            values = made if isinstance(made, tuple) else (made,)
            floating = [v for v in values if v.is_floating_point() and v.requires_grad]
            if not floating:
                raise _refused("no output depends on a parameter in a differentiable way")
            # Weighted, as the plain sum behind a softmax has no gradient at all.
            generator = torch.Generator().manual_seed(0)
            sum(
                (v * torch.randn(v.shape, generator=generator, dtype=v.dtype)).mean()
                for v in floating
            ).backward()
    except ConversionError:
        raise
    except Exception as exc:
        if ran_out_of_memory(exc):
            raise OutOfMemoryError(f"Memory ended while gradients were computed: {exc}") from exc
        node = _node_of(exc)
        at = f"at {node}: " if node else ""
        raise _refused(f"{at}{type(exc).__name__}: {_first(exc)}") from exc
    without = [n for n, p in module.named_parameters() if p.grad is None]
    for name in [n for n in without if "._initializer_" in f".{n}"]:
        module.get_parameter(name).requires_grad_(False)
        without.remove(name)
    odd = [
        n
        for n, p in module.named_parameters()
        if p.grad is not None and not bool(torch.isfinite(p.grad).all())
    ]
    module.zero_grad(set_to_none=True)
    if without:
        raise _refused(f"no gradient reaches {', '.join(without[:3])}")
    if odd:
        raise _refused(f"the gradient of {', '.join(odd[:3])} is not finite")


def _graphs(original: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The graph with its constants folded, then as it is."""

    def slimmed() -> Any:
        try:
            import onnxslim

            copy = type(original).FromString(original.SerializeToString())
            return onnxslim.slim(copy)
        except Exception as exc:  # a tool that helps may fail: the graph itself is tried next
            raise _refused(f"onnxslim fails: {_first(exc)}") from exc

    try:
        import onnxslim  # noqa: F401
    except ImportError:
        pass
    else:
        yield " on onnxslim's graph", slimmed
    yield "", lambda: original


def _order(
    graph: Any, input_names: tuple[str, ...], output_names: tuple[str, ...]
) -> tuple[list[int], list[int]]:
    """Places of the wanted ports among the graph's: by name where all are there, else by order."""
    constants = {str(t.name) for t in graph.graph.initializer}
    ports = (
        [str(v.name) for v in graph.graph.input if str(v.name) not in constants],
        [str(v.name) for v in graph.graph.output],
    )
    found = []
    for have, wanted in zip(ports, (input_names, output_names), strict=True):
        if wanted and all(name in have for name in wanted):
            found.append([have.index(name) for name in wanted])
        else:
            found.append(list(range(len(wanted) or len(have))))
    return found[0], found[1]


def _node_of(error: BaseException) -> str:
    """The operator at which the library was, from its own frame: "Resize (node_up)"."""
    trace, found = error.__traceback__, ""
    while trace is not None:
        node = trace.tb_frame.f_locals.get("node")
        if node is not None and hasattr(node, "op_type"):
            found = f"{node.op_type} ({node.name or node.output[0]})"
        trace = trace.tb_next
    return found


def _imports() -> tuple[Any, str]:
    """Torch and the version of onnx2pytorch."""
    from importlib.metadata import version

    try:
        import torch
    except ImportError as exc:
        raise MissingDependencyError(
            what="Making a torch module", library="torch", install=install_line("torch")
        ) from exc
    try:
        with _quiet():
            import onnx2pytorch  # noqa: F401
    except ImportError as exc:
        raise MissingDependencyError(
            what="Making a torch module of ONNX weights",
            library="onnx2pytorch",
            install=install_line("onnx2torch"),
        ) from exc
    return torch, version("onnx2pytorch")


def _refused(why: str) -> ConversionError:
    return ConversionError(what="The graph", target="torch", tried={"onnx2pytorch": why})


def _first(error: BaseException) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:300]


@contextmanager
def _quiet() -> Iterator[None]:
    """The library warns of results that may differ: they are compared."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
