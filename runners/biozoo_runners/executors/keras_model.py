"""Loading a Keras model, and what tensors it takes and gives."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..isolated.executor import NotFitting
from .frameworks import cause_of
from .keras_file import Network

__all__ = ["EngineUnfit", "Tensors", "gives", "load", "takes"]

#: Layers of which Keras 2 wrote `groups`, always 1, and of which Keras 3 does not take it.
_NO_GROUPS = (
    "Conv1DTranspose",
    "Conv2DTranspose",
    "Conv3DTranspose",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "SeparableConv1D",
    "SeparableConv2D",
)

#: What Keras says of a file that it reads on no engine.
_UNKNOWN = re.compile(
    r"Unknown layer|Could not locate|KerasSaveable|Unrecognized keyword|parent module"
)
_ELSE = "ask its author for ONNX weights, or take other weights of the package with --weights."


class EngineUnfit(Exception):
    """The network cannot be had on the engine; on another one it may. The text says why."""


@dataclass(frozen=True, slots=True)
class Tensors:
    """Symbolic inputs or outputs of a model.

    Attributes
    ----------
    names
        The keys of a mapping, else the names of the layers.
    tensors
        Flat, in the model's order; empty where the model does not say.
    struct
        How the model has them: one, a list, a mapping.
    """

    names: tuple[str, ...] = ()
    tensors: tuple[Any, ...] = ()
    struct: Any = None


def load(keras: Any, network: Network, *, safe: bool) -> Any:
    """The model, or why it cannot be had."""
    own = _of_keras_2(keras) if network.hdf5 else None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            model = keras.saving.load_model(
                network.path, custom_objects=own, compile=False, safe_mode=safe
            )
        except Exception as exc:
            text = _not_read(keras, network, cause_of(exc))
            raise (NotFitting if _UNKNOWN.search(str(exc)) else EngineUnfit)(text) from exc
    for warning in told:
        # Of Conv2DTranspose on torch; Keras computed it otherwise there before 3.13.
        if "inconsistencies across backends" in str(warning.message):
            raise EngineUnfit(cause_of(Exception(str(warning.message))))
    return model


def _not_read(keras: Any, network: Network, cause: str) -> str:
    """Why Keras does not read a file, with the file's version, which often is the reason."""
    wrote, here = network.written_by, str(keras.__version__)
    if _major_minor(wrote) > _major_minor(here):
        return (
            f"the file was written by the newer Keras {wrote} and Keras {here} does not read it: "
            f"{cause}. Update Keras (pip install --upgrade keras), or {_ELSE}"
        )
    by = f" of Keras {wrote}" if wrote else ""
    return f"Keras {here} does not read the file{by}: {cause}. {_ELSE[0].upper()}{_ELSE[1:]}"


def _major_minor(text: str) -> tuple[int, ...]:
    parts = text.split(".")[:2]
    return tuple(int(p) for p in parts if p.isdecimal())


def _of_keras_2(keras: Any) -> dict[str, Any]:
    """Classes that read what Keras 2 wrote of them."""

    def without_groups(layer: Any) -> Any:
        class Older(layer):  # type: ignore[misc]
            @classmethod
            def from_config(cls, config: dict[str, Any]) -> Any:
                if config.get("groups") == 1:
                    config = {k: v for k, v in config.items() if k != "groups"}
                return super().from_config(config)

        return Older

    named = {n: getattr(keras.layers, n) for n in _NO_GROUPS if hasattr(keras.layers, n)}
    own = {name: without_groups(layer) for name, layer in named.items()}
    # As TensorFlow 1.13 to 1.15 called it.
    return own | {"BatchNormalizationV1": keras.layers.BatchNormalization}


def takes(keras: Any, model: Any) -> Tensors:
    """The inputs of a model; empty for one of its author's own class that does not say."""
    tensors = _flat(keras, getattr(model, "inputs", None))
    if not tensors:
        return Tensors()
    struct = _struct(model, "input", tensors)
    names = _keys(keras, struct, len(tensors)) or [str(t.name) for t in tensors]
    return Tensors(tuple(names), tuple(tensors), struct)


def gives(keras: Any, model: Any) -> Tensors:
    """The outputs of a model, as `takes`."""
    tensors = _flat(keras, getattr(model, "outputs", None))
    if not tensors:
        return Tensors()
    struct = _struct(model, "output", tensors)
    layers = [str(n) for n in getattr(model, "output_names", None) or [model.layers[-1].name]]
    if len(layers) != len(tensors):
        layers = [f"output {n}" for n in range(len(tensors))]
    names = _keys(keras, struct, len(tensors)) or layers
    return Tensors(tuple(names), tuple(tensors), struct)


def _flat(keras: Any, value: Any) -> Sequence[Any]:
    return [] if value is None else list(keras.tree.flatten(value))


def _struct(model: Any, which: str, tensors: Sequence[Any]) -> Any:
    try:
        return getattr(model, which)
    except AttributeError:  # a Sequential
        return tensors[0] if len(tensors) == 1 else list(tensors)


def _keys(keras: Any, struct: Any, count: int) -> list[str]:
    """The keys of a mapping in the order in which Keras flattens it, else none."""
    if not isinstance(struct, dict) or len(struct) != count:
        return []
    return [str(n) for n in keras.tree.flatten({k: k for k in struct})]
