"""A torch module of this process in the place of a package's weights, for the package's runner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from biozoo.errors import BackendError, OutOfMemoryError
from biozoo_runners.base import (
    Availability,
    Backend,
    BackendInfo,
    check_inputs,
    described,
    ran_out_of_memory,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from biozoo.package import ModelPackage
    from biozoo_runners.devices import Machine

__all__ = ["ModuleBackend"]


class ModuleBackend(Backend):
    """Runs a module in evaluation mode, and leaves it in the mode that it was in.

    Parameters
    ----------
    network
        As `Differentiable.network`.
    device
        Where its inputs go; the network has to be there.
    """

    name: ClassVar[str] = "torch module"
    weights_formats: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def available(cls, machine: Machine) -> Availability:
        """Never chosen by itself."""
        return Availability(False, "it runs a module of this process")

    @classmethod
    def open(
        cls, package: ModelPackage, weights_format: str, *, device: str, threads: int | None = None
    ) -> Self:
        """There is no weights format that it opens."""
        raise BackendError(f"{cls.name} opens no weights; it is made from a module.")

    def __init__(self, package: ModelPackage, network: Any, *, device: str = "cpu") -> None:
        self._network = network.to(device)
        self._device = device
        self._ids = described(package)

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Execute the network once; see `Backend.run`."""
        import torch

        ids = self._ids["input_ids"]
        check_inputs(inputs, ids, self._ids["optional"], model=self._ids["model"])
        # Copies in this machine's byte order: torch takes no other.
        given = [np.array(inputs[i]) for i in ids if i in inputs]
        tensors = [
            torch.from_numpy(a.astype(a.dtype.newbyteorder("="))).to(self._device) for a in given
        ]
        training = self._network.training
        self._network.eval()
        try:
            with torch.no_grad():
                made = self._network(*tensors)
        except Exception as exc:
            if ran_out_of_memory(exc):
                raise OutOfMemoryError(f"Model '{self._ids['model']}': {exc}") from exc
            raise BackendError(
                f"Model '{self._ids['model']}' fails as a torch module: "
                f"{type(exc).__name__}: {str(exc).strip().splitlines()[0] if str(exc) else ''}"
            ) from exc
        finally:
            self._network.train(training)
        values = made if isinstance(made, tuple) else (made,)
        arrays = (v.detach().float().cpu().numpy() for v in values)
        return dict(zip(self._ids["output_ids"], arrays, strict=False))

    @property
    def info(self) -> BackendInfo:
        """Torch, in this process."""
        import torch

        return BackendInfo(
            backend=self.name,
            version=str(torch.__version__),
            weights_format="torch module",
            device=self._device,
            providers=(self.name,),
            threads=torch.get_num_threads(),
        )

    def close(self) -> None:
        """Nothing is held but the module, which is its maker's."""
