"""The backend for ``pytorch_state_dict``: its author's architecture, run in a confined child.

The package's own code builds the network, so it must have been allowed (`biozoo.consent`): the text
that was hashed for that is what the child gets and executes. The weights are loaded without running
anything in them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from biozoo.errors import InvalidPackageError, MissingDependencyError
from biozoo.install import install_line

from .base import Availability
from .devices import Machine, importable
from .isolated.backend import IsolatedBackend, Request
from .torch_devices import availability

if TYPE_CHECKING:
    from biozoo.code import CodeItem
    from biozoo.package import ModelPackage

__all__ = ["StateDictBackend"]


class StateDictBackend(IsolatedBackend):
    """Executes ``pytorch_state_dict`` weights with torch, in a child process."""

    name: ClassVar[str] = "torch-code"
    weights_formats: ClassVar[tuple[str, ...]] = ("pytorch_state_dict",)
    runs_code: ClassVar[bool] = True
    executor: ClassVar[str] = "biozoo_runners.executors.torch_code:TorchCode"
    load_hint: ClassVar[str] = (
        "Run `zoo verify` on it; torch may be older or newer than the one it was made with."
    )

    @classmethod
    def available(cls, machine: Machine) -> Availability:
        """Whether torch is installed, and for which devices; decided from metadata."""
        return availability(machine, extra="torch")

    @classmethod
    def request(
        cls, package: ModelPackage, weights_format: str, *, device: str, threads: int
    ) -> Request:
        """The architecture's text as it was allowed, its arguments, and the weights file.

        Raises
        ------
        UntrustedCodeError
            Nobody has allowed the package's code.
        InvalidPackageError
            The description names no architecture, or arguments that are no plain values.
        MissingDependencyError
            torch is not installed.
        """
        from biozoo.consent import require

        if not importable("torch"):
            raise MissingDependencyError(
                what="Running a PyTorch state dict", library="torch", install=install_line("torch")
            )
        items = require(package)
        item = next(i for i in items if i.weights == weights_format)
        entry = package.raw["weights"][weights_format]
        path = package.path(entry["source"])
        facts: dict[str, Any] = {
            "source": item.module or item.source,
            "text": None if item.module else item.text,
            "callable": item.callable,
            "kwargs": _plain(package, item),
            "weights": str(path.resolve()),
            "strict": entry.get("strict", True) is not False,
        }
        return Request(facts, readable=(path,), weights_name=path.name)


def _plain(package: ModelPackage, item: CodeItem) -> dict[str, Any]:
    """The arguments as they reach the child: JSON must not change them."""
    given = dict(item.kwargs)
    try:
        kwargs: dict[str, Any] = json.loads(json.dumps(given))
    except (TypeError, ValueError):
        kwargs = {}
    if repr(kwargs) != repr(given):
        fault = "are no plain values (numbers, text, lists, mappings with text as keys)"
        raise InvalidPackageError(source=package.rdf, fields={f"{item.where}.kwargs": fault})
    return kwargs
