"""A network built by its author's code, with a state dict loaded into it, on torch.

The facts are ``source`` (a file's name, or a library's module), ``text`` (the file's content, None
for a library), ``callable``, ``kwargs``, ``weights`` (absolute path), ``strict``, and those that
every backend gives: ``device``, ``threads``, ``output_ids``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..isolated.executor import NotFitting
from ..isolated.source import callable_of, library_module, module_of
from ..torch_devices import full_float32
from .torch_weights import load_into, read_state

__all__ = ["TorchCode"]


class TorchCode:
    """A `torch.nn.Module` with its weights."""

    def __init__(self, facts: Mapping[str, Any], scratch: Path) -> None:
        """Build the network, load the weights, move it to the device."""
        import torch

        from ..torch_devices import resolve

        torch.set_num_threads(facts["threads"])
        self._torch = torch
        self._device = resolve(facts["device"])
        self._output_ids = list(facts["output_ids"])
        self._network = _build(facts)
        if not isinstance(self._network, torch.nn.Module):
            raise NotFitting(
                f"its architecture {_name(facts)} made {_type_name(self._network)} and no "
                "torch.nn.Module. Ask its author."
            )
        state = read_state(Path(facts["weights"]), self._network)
        load_into(
            self._network, state, strict=facts["strict"], what=_name(facts), kwargs=facts["kwargs"]
        )
        self._network = self._network.eval().to(self._device)
        floating = (p.dtype for p in self._network.parameters() if p.is_floating_point())
        self._dtype = next(floating, None)

    def describe(self) -> dict[str, Any]:
        """Torch's version, and where the network is."""
        if self._device.type == "cuda":
            name = self._torch.cuda.get_device_name(self._device)
            provider = f"cuda:{self._device.index} {name}"
        else:
            provider = "cpu"
        return {
            "version": str(self._torch.__version__),
            "providers": [provider],
            "threads": self._torch.get_num_threads(),
            "device": str(self._device),
        }

    def run(self, arrays: list[npt.NDArray[Any] | None]) -> list[npt.NDArray[Any]]:
        """Call the network once."""
        tensors = [None if a is None else self._tensor(a) for a in arrays]
        with self._torch.inference_mode(), full_float32(self._device):
            made = self._network(*tensors)
        return [self._array(value, i) for i, value in enumerate(_ordered(made, self._output_ids))]

    def peak_device_memory(self) -> int | None:
        """Most bytes that torch held on the card."""
        from ..torch_devices import peak_memory

        return peak_memory(self._device)

    def free_cached(self) -> None:
        """Give what torch keeps for later back to card and system."""
        from ..torch_devices import release_memory

        release_memory(self._device)

    def _tensor(self, array: npt.NDArray[Any]) -> Any:
        tensor = self._torch.from_numpy(array).to(self._device)
        # Between floating types the network's own precision decides, as in every backend.
        if self._dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(self._dtype)
        return tensor

    def _array(self, value: Any, number: int) -> npt.NDArray[Any]:
        if isinstance(value, np.ndarray):
            return value
        if not isinstance(value, self._torch.Tensor):
            raise NotFitting(
                f"output {number} of the network is {_type_name(value)} and no tensor. Its "
                "description promises one; ask its author."
            )
        tensor = value.detach().cpu().resolve_conj().resolve_neg()
        if tensor.dtype == self._torch.bfloat16:  # numpy has none
            tensor = tensor.float()
        array: npt.NDArray[Any] = tensor.numpy()
        return array


def _build(facts: Mapping[str, Any]) -> Any:
    source, name, kwargs = facts["source"], facts["callable"], facts["kwargs"]
    module = library_module(source) if facts["text"] is None else module_of(facts["text"], source)
    factory = callable_of(module, name, source)
    try:
        return factory(**kwargs)
    except TypeError as exc:
        if exc.__traceback__ is not None and exc.__traceback__.tb_next is None:  # not in its code
            raise NotFitting(
                f"its architecture {_name(facts)} does not take the arguments "
                f"{_short(kwargs)} of the description: {exc}. Ask its author."
            ) from exc
        raise


def _ordered(made: Any, ids: list[str]) -> list[Any]:
    """What a network returned, as a list in the order of the description."""
    if isinstance(made, Mapping):
        if all(i in made for i in ids):
            return [made[i] for i in ids]
        raise NotFitting(
            f"the network gives outputs named {', '.join(map(str, made))[:300]}; its description "
            f"names them {', '.join(ids)}. They must agree; ask its author."
        )
    return list(made) if isinstance(made, tuple | list) else [made]


def _name(facts: Mapping[str, Any]) -> str:
    return f"{facts['source']}:{facts['callable']}"


def _short(kwargs: Mapping[str, Any]) -> str:
    text = ", ".join(f"{name}={value!r}" for name, value in kwargs.items())
    return f"({text[:300]})"


def _type_name(value: Any) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
