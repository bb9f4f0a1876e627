"""A TensorFlow SavedModel, in the child.

The facts are ``weights`` (absolute path of the zip), ``max_bytes`` (how large it may be when
unpacked), and those that every backend gives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ..isolated.executor import NotFitting
from ..saved_model import UnfitBundle, unpack
from .frameworks import (
    check_axes,
    in_order,
    limit_tensorflow,
    plain,
    port_of,
    quieten,
    restated,
)

__all__ = ["TensorFlow"]

#: Signatures, first choice first; else the only one.
_SIGNATURES = ("serving_default", "serve")


class TensorFlow:
    """One signature of a SavedModel."""

    def __init__(self, facts: Mapping[str, Any], scratch: Path) -> None:
        """Unpack, check the graph's operators, load."""
        try:
            folder, bundle = unpack(
                Path(facts["weights"]), scratch / "bundle", max_bytes=facts["max_bytes"]
            )
            tags = list(bundle.serving)
        except UnfitBundle as exc:
            raise NotFitting(str(exc)) from exc
        quieten()
        import tensorflow as tf

        self._tf = tf
        limit_tensorflow(tf, int(facts["threads"]))
        try:
            self._loaded = tf.saved_model.load(str(folder), tags=tags)  # keeps the variables
        except Exception as exc:
            raise restated(exc) from exc
        self._name, self._call = _signature(self._loaded.signatures)
        takes, gives = self._call.structured_input_signature[1], self._call.structured_outputs
        self._takes = _arranged("input", facts["input_ids"], takes)
        self._gives = _arranged("output", facts["output_ids"], gives)

    def describe(self) -> dict[str, Any]:
        """Version, threads, and the signature's inputs and outputs."""
        return {
            "version": str(self._tf.__version__),
            "providers": [f"signature {self._name}", "cpu"],
            "threads": self._tf.config.threading.get_intra_op_parallelism_threads(),
            "device": "cpu",
            "inputs": [port_of(name, spec) for name, spec in self._takes.items()],
            "outputs": [port_of(name, spec) for name, spec in self._gives.items()],
        }

    def run(self, arrays: list[npt.NDArray[Any] | None]) -> list[npt.NDArray[Any]]:
        """Call the signature once."""
        given = {}
        for (name, spec), array in zip(self._takes.items(), arrays, strict=True):
            if array is not None:
                check_axes(array, spec)
                given[name] = self._tf.cast(array, spec.dtype)
        try:
            made = self._call(**given)
            return [plain(made[name]) for name in self._gives]
        except Exception as exc:
            raise restated(exc) from exc

    def free_cached(self) -> None:
        """Give freed memory back to the system."""
        from ..torch_devices import trim_heap

        trim_heap()


def _signature(signatures: Mapping[str, Any]) -> tuple[str, Any]:
    """The signature to call, with its name."""
    for name in _SIGNATURES:
        if name in signatures:
            return name, signatures[name]
    others = [name for name in signatures if not name.startswith("__")]  # such start things up
    if len(others) == 1:
        return others[0], signatures[others[0]]
    named = ", ".join(others)
    raise NotFitting(
        f"the bundle has {f'the signatures {named}' if named else 'no signature'}, and none of "
        f"{', '.join(_SIGNATURES)}. Ask the package's author to export it for serving."
    )


def _arranged(what: str, ids: list[str], specs: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a signature in the order of the description.

    Raises
    ------
    NotFitting
        There are more or fewer than described, and names do not tell which are meant.
    """
    names = sorted(specs, key=_as_counted)
    known = all(i in specs for i in ids)
    if len(names) != len(ids) and not (known and what == "output"):
        raise NotFitting(
            f"the signature has {len(names)} {what}(s) ({', '.join(names)}), the description "
            f"{len(ids)} ({', '.join(ids)}). They must agree; ask the package's author."
        )
    return {names[n]: specs[names[n]] for n in in_order(ids, names)}


def _as_counted(name: str) -> list[tuple[int, str]]:
    """Sorts names as people count: input_2 before input_10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts]
