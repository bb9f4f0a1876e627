"""An ONNX file as a network: run by ONNX Runtime, its graph given names and sizes as described."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biozoo.errors import BackendError, MissingDependencyError, NetworkError
from biozoo.files import sha256_of
from biozoo.install import install_line
from biozoo_runners.onnx import OnnxBackend
from biozoo_runners.onnx_external import check_external_data

from .author_code import said
from .network import ExportRequest, Network
from .returned import chosen
from .weights_files import kind_of, refusal

__all__ = ["AS_IT_IS", "OnnxNetwork"]

#: The one strategy: the graph itself, under the names and with the fixed sizes of the description.
AS_IT_IS = "as it is"


class OnnxNetwork(Network):
    """A graph of a file, with what it keeps in other files beside it."""

    format = "onnx"
    strategies = (AS_IT_IS,)

    def __init__(
        self,
        path: Path,
        *,
        root: Path | None = None,
        name: str = "",
        outputs: Sequence[int | str] | None = None,
    ):
        """Load a file.

        Parameters
        ----------
        path
            The graph.
        root
            The folder that its external data must lie in; None: the graph's own.
        name
            See `Network`; None: the file's name.
        outputs
            Which outputs are kept, by number or name; None: all.

        Raises
        ------
        NetworkError
            It is no ONNX graph, or cannot be loaded.
        MissingDependencyError
            onnx or onnxruntime is not installed.
        """
        self.name = name or path.name
        self._path, self._root = path, root or path.parent
        if (kind := kind_of(path)) != "onnx":
            raise NetworkError(refusal(path, kind))
        onnx = _onnx()
        try:
            check_external_data(path, self._root, model=self.name)
            graph = onnx.load(str(path), load_external_data=False).graph
        except BackendError as exc:
            raise NetworkError(str(exc)) from exc
        except Exception as exc:  # protobuf's DecodeError
            raise NetworkError(f"'{path.name}' is no readable ONNX file ({said(exc)}).") from exc
        constants = {i.name for i in graph.initializer}
        self.input_names = tuple(v.name for v in graph.input if v.name not in constants)
        given = [(v.name, v.name) for v in graph.output]
        self.output_names = tuple(n for n, _ in chosen(given, outputs, self.name))
        self.sha256 = sha256_of(path)
        try:
            self._backend = OnnxBackend(
                path,
                root=self._root,
                model=self.name,
                input_ids=self.input_names,
                output_ids=self.output_names,
            )
        except BackendError as exc:
            raise NetworkError(str(exc)) from exc

    def run(self, inputs: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Execute the graph once; see `Network.run`."""
        if len(inputs) != len(self.input_names):
            raise NetworkError(
                f"{self.name} takes {', '.join(self.input_names)}; {len(inputs)} arrays were given."
            )
        try:
            made = self._backend.run(dict(zip(self.input_names, inputs, strict=True)))
        except BackendError as exc:
            given = " and ".join(str(np.shape(a)) for a in inputs)
            raise NetworkError(f"{self.name} does not take an input of {given}: {exc}") from exc
        return [made[name] for name in self.output_names]

    def export(self, request: ExportRequest, strategy: str) -> bytes:
        """The graph under the names of the description; see `Network.export`."""
        from .graph_names import embedded, renamed

        if strategy != AS_IT_IS:
            raise NetworkError(f"{self.name} is an ONNX graph: it is taken {AS_IT_IS}.")
        model = embedded(self._path)
        return renamed(model, self.input_names, self.output_names, request)

    def close(self) -> None:
        """Free the session."""
        self._backend.close()


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as exc:
        raise MissingDependencyError(
            what="Opening an ONNX file", library="onnx", install=install_line("pack")
        ) from exc
    return onnx
