"""Reading a state dict without running anything in it, and loading it into a network."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base import ran_out_of_memory
from ..isolated.executor import NotFitting

__all__ = ["load_into", "read_state"]

#: Under which names training programs keep the state dict in a checkpoint.
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "params")

_DAMAGED = "is damaged, cut off, or no state dict. Run `zoo verify`, and get the model again."


def read_state(path: Path, network: Any) -> dict[str, Any]:
    """The tensors of a weights file, by name, on the CPU.

    A checkpoint that holds one state dict among other things gives that one, and names that all
    begin with ``module.`` (a network trained on several cards) lose it.

    Raises
    ------
    NotFitting
        The file is damaged, holds more than tensors, or no state dict.
    """
    if path.suffix == ".safetensors":
        return _safetensors(path)
    state = _unwrapped(_loaded(path), path.name)
    own = network.state_dict()
    if state and all(k.startswith("module.") for k in state) and not any(k in own for k in state):
        from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

        consume_prefix_in_state_dict_if_present(state, "module.")
    return state


def load_into(
    network: Any, state: Mapping[str, Any], *, strict: bool, what: str, kwargs: Mapping[str, Any]
) -> None:
    """Load a state dict.

    Raises
    ------
    NotFitting
        It does not fit; says which tensors and how many. With ``strict=False`` tensors may be
        missing or unknown, but not all of them.
    """
    own = network.state_dict()
    try:
        network.load_state_dict(state, strict=strict)
    except RuntimeError as exc:
        if fault := _misfit(own, state):
            raise NotFitting(_not_fitting(what, kwargs, fault)) from exc
        raise
    if own and not set(own) & set(state):
        raise NotFitting(_not_fitting(what, kwargs, "no tensor has a name that it knows"))


def _not_fitting(what: str, kwargs: Mapping[str, Any], fault: str) -> str:
    arguments = ", ".join(f"{k}={v!r}" for k, v in kwargs.items())[:200]
    return (
        f"the weights do not fit the architecture {what} ({arguments}): {fault}. One of the two "
        "is not the described one; ask the package's author."
    )


def _misfit(own: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    missing = [k for k in own if k not in state]
    unknown = [k for k in state if k not in own]
    shapes = [
        f"{k} is {tuple(v.shape)}, the architecture has {tuple(own[k].shape)}"
        for k, v in state.items()
        if k in own and hasattr(own[k], "shape") and tuple(v.shape) != tuple(own[k].shape)
    ]
    parts = []
    if missing:
        parts.append(f"{len(missing)} of its {len(own)} tensors are missing ({_first(missing)})")
    if unknown:
        parts.append(f"{len(unknown)} tensors are not in it ({_first(unknown)})")
    if shapes:
        parts.append(f"{len(shapes)} have other shapes ({_first(shapes, '; ')})")
    return ", ".join(parts)


def _first(names: list[str], between: str = ", ") -> str:
    more = f"{between}..." if len(names) > 3 else ""
    return between.join(names[:3]) + more


# ----------------------------------------------------------------------------------------- files


def _loaded(path: Path) -> Any:
    import torch

    with path.open("rb") as file:
        start = file.read(4)
    if not start or (start.startswith(b"PK") and not zipfile.is_zipfile(path)):
        raise NotFitting(f"'{path.name}' {_DAMAGED}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:
        if ran_out_of_memory(exc):
            raise
        refused = re.search(r"GLOBAL ([\w.]+)", str(exc))
        if refused is None:
            raise NotFitting(f"'{path.name}' {_DAMAGED}") from exc
        raise NotFitting(
            f"'{path.name}' holds more than tensors ({refused.group(1)}), which can be code. Only "
            "plain state dicts are loaded. Ask the package's author to save model.state_dict()."
        ) from exc


def _unwrapped(loaded: Any, name: str) -> dict[str, Any]:
    """The state dict itself, not a copy: its attribute `_metadata` tells torch of old layouts."""
    if loaded == {} or _is_state(loaded):
        return loaded  # type: ignore[no-any-return]
    if not isinstance(loaded, Mapping):
        raise NotFitting(
            f"'{name}' holds {type(loaded).__name__} and no state dict. Ask the package's author "
            "to save model.state_dict()."
        )
    inside = [k for k in _WRAPPERS if k in loaded and _is_state(loaded[k])]
    if len(inside) == 1:
        state: dict[str, Any] = loaded[inside[0]]
        return state
    held = ", ".join(repr(k) for k in list(loaded)[:8])
    raise NotFitting(
        f"'{name}' is a checkpoint that holds {held}, with {len(inside) or 'no'} state dict(s) "
        "that can be told. Ask the package's author to save model.state_dict() alone."
    )


def _is_state(value: Any) -> bool:
    """A mapping of names to tensors (and to what layers keep as extra state), not empty."""
    import torch

    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(k, str) for k in value)
        and all(isinstance(v, torch.Tensor) or k.endswith("_extra_state") for k, v in value.items())
    )


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as exc:
        raise NotFitting(
            f"'{path.name}' needs the library safetensors: pip install safetensors"
        ) from exc
    try:
        state: dict[str, Any] = load_file(path, device="cpu")
    except (SafetensorError, OSError) as exc:
        raise NotFitting(f"'{path.name}' {_DAMAGED}") from exc
    return state
