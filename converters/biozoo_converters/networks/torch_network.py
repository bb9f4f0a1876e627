"""A torch module that is called with arrays, in evaluation mode on the CPU."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from biozoo.errors import NetworkError, OutOfMemoryError
from biozoo_runners.base import ran_out_of_memory

from .author_code import place_in, said
from .network import ExportRequest, Network
from .returned import ReturnedError, chosen, flat, not_a_tensor

__all__ = ["TorchNetwork", "arrays_of", "tensors_of"]


class TorchNetwork(Network):
    """A `torch.nn.Module` of this process."""

    format = "pytorch_state_dict"

    def __init__(
        self,
        module: Any,
        *,
        name: str = "",
        sha256: str = "",
        notes: Iterable[str] = (),
        outputs: Sequence[int | str] | None = None,
    ):
        """Take a module; it is put into evaluation mode and stays the caller's.

        Parameters
        ----------
        module
            On the CPU, of one floating type.
        name, sha256, notes
            See `Network`; without a hash that of its tensors is taken.
        outputs
            Which outputs are kept, by number or name; None: all.
        """
        from ..exporting.export import strategies_of
        from .torch_building import hash_of_state

        self._module = module.eval()
        self.name = name or type(module).__name__
        self.sha256 = sha256 or hash_of_state(module)
        self.notes = tuple(notes)
        self.input_names = _arguments(module)
        self.strategies = strategies_of(module)
        self._outputs = None if outputs is None else tuple(outputs)

    @property
    def module(self) -> Any:
        """The module itself."""
        return self._module

    def run(self, inputs: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Call it once; see `Network.run`."""
        made = flat(self.call(inputs))
        kept = chosen(made, self._outputs, self.name)
        self.output_names = tuple(name for name, _ in kept)
        return arrays_of(kept, self.name, len(made))

    def call(self, inputs: Sequence[npt.NDArray[Any]]) -> Any:
        """Call it once; what it returned, as it is. Raises as `run`."""
        import torch

        tensors = tensors_of(inputs, self._module)
        try:
            with torch.inference_mode():
                return self._module(*tensors)
        except Exception as exc:
            raise self._refused(exc, inputs) from exc

    def export(self, request: ExportRequest, strategy: str) -> bytes:
        """The module as an ONNX graph; see `Network.export`."""
        from ..exporting.export import export_onnx

        doubts: list[str] = []
        made = export_onnx(self._module, request, strategy, outputs=self._outputs, doubts=doubts)
        self.doubts = {**self.doubts, strategy: tuple(doubts)}
        return made

    def _refused(
        self, exc: Exception, inputs: Sequence[npt.NDArray[Any]]
    ) -> NetworkError | OutOfMemoryError:
        given = " and ".join(str(a.shape) for a in inputs)
        if ran_out_of_memory(exc):
            return OutOfMemoryError(
                f"{self.name} runs out of memory with an input of {given}. Give a smaller sample."
            )
        from ..exporting.diagnosis import module_path

        path = module_path(exc, self._module)
        places = [p for p in (f"in {path}" if path else "", place_in(exc)) if p]
        at = f" ({', '.join(places)})" if places else ""
        takes = ""
        if isinstance(exc, TypeError) and len(inputs) != len(self.input_names):
            takes = f" It takes {', '.join(self.input_names)}; {len(inputs)} were given."
        text = said(exc)
        if "expected scalar type" in text or "should be the same" in text:
            kinds = " and ".join(str(a.dtype) for a in inputs)
            takes += f" The input is {kinds}: preprocessing should end with ensure_dtype float32."
        return NetworkError(
            f"{self.name} does not take an input of {given}: {type(exc).__name__}: {text}{at}."
            f"{takes}"
        )


def _arguments(module: Any) -> tuple[str, ...]:
    """What `forward` must be given; where nothing must be, the first that it takes."""
    if hasattr(module, "_c"):  # TorchScript: its own schema tells
        arguments = module._c._get_method("forward").schema.arguments[1:]
        return tuple(a.name for a in arguments if not a.has_default_value()) or ("input",)
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return ("input",)
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p.name for p in places if p.default is p.empty]
    return tuple(needed or [p.name for p in places[:1]]) or ("input",)


def tensors_of(arrays: Sequence[npt.NDArray[Any]], module: Any) -> list[Any]:
    """Tensors of memory of their own; between floating types the network's own decides."""
    import torch

    own = (p.dtype for p in module.parameters() if p.is_floating_point())
    wanted = next(own, torch.float32)
    made = []
    for array in arrays:
        native = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
        tensor = torch.from_numpy(native)
        made.append(tensor.to(wanted) if tensor.is_floating_point() else tensor)
    return made


def arrays_of(named: Sequence[tuple[str, Any]], who: str, count: int) -> list[npt.NDArray[Any]]:
    """Arrays of memory of their own.

    Raises
    ------
    NetworkError
        An output is no tensor, or of complex numbers.
    """
    import torch

    made: list[npt.NDArray[Any]] = []
    for number, (name, value) in enumerate(named):
        if not isinstance(value, torch.Tensor):
            tensors = [n for n, v in named if isinstance(v, torch.Tensor)]
            raise not_a_tensor(who, number, name, value, count, tensors)
        if value.is_complex():
            raise ReturnedError(
                f"{who} gives complex numbers as output {number} ('{name}'); an image has real "
                "ones. Let it return torch.view_as_real(...), the absolute value or the phase."
            )
        tensor = value.detach().cpu().resolve_conj().resolve_neg()
        if tensor.is_quantized:
            tensor = tensor.dequantize()
        if tensor.dtype == torch.bfloat16:  # numpy has none
            tensor = tensor.float()
        made.append(np.array(tensor.to_dense().numpy(), order="C"))
    return made
