"""Hand a backend of biozoo to bioimageio.core, where a program is built on core's pipeline.

    from bioimageio.core import create_prediction_pipeline

    backend = OnnxBackend.open(package, "onnx", device="cpu")
    pipeline = create_prediction_pipeline(
        package.descr, model_adapter=BackendAdapter(package.descr, backend)
    )

Core then cuts, pads and normalises as it always does, and every network call is the backend's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bioimageio.core import Tensor
from bioimageio.core._model_adapter import ModelAdapter

if TYPE_CHECKING:
    from bioimageio.core.common import MemberId
    from bioimageio.spec.model.v0_5 import ModelDescr

    from .base import Backend

__all__ = ["BackendAdapter"]


class BackendAdapter(ModelAdapter):
    """A loaded backend in the shape of bioimageio.core's `ModelAdapter`.

    Parameters
    ----------
    descr
        The description that the backend was opened with.
    backend
        An open backend; `unload` closes it.
    """

    def __init__(self, descr: ModelDescr, backend: Backend) -> None:
        self._backend = backend
        super().__init__(descr, devices=[backend.info.device])

    def load(self) -> None:
        """Nothing to load: the backend is open."""
        self._loaded = True

    def forward(self, inputs: Mapping[MemberId, Tensor | None]) -> Mapping[MemberId, Tensor | None]:
        """One network call; axes are brought into the order of the description."""
        arrays = {
            str(tensor): given.transpose(axes).to_numpy()
            for tensor, axes in zip(self._input_ids, self._input_axes, strict=True)
            if (given := inputs.get(tensor)) is not None
        }
        made = self._backend.run(arrays)
        return {
            tensor: Tensor(made[str(tensor)], dims=axes)
            for tensor, axes in zip(self._output_ids, self._output_axes, strict=True)
        }

    def unload(self) -> None:
        """Close the backend."""
        self._backend.close()
        self._loaded = False
