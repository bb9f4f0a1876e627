"""Keras networks and TensorFlow bundles to ONNX, in the confined child in which they also run.

A Keras network is exported by tf2onnx where TensorFlow is its engine, and by torch's exporters
where torch is. Layers that are code of the author (Lambda, classes of their own) need the same
consent as for a run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from biozoo.errors import BackendError, NetworkError
from biozoo.install import install_line
from biozoo_runners.base import Availability, described
from biozoo_runners.devices import importable, usable_cores

from .base import Attempt, Converter, Job
from .to_onnx import NAME, onnx_entry

if TYPE_CHECKING:
    from biozoo_runners.isolated.backend import Request

    from ..networks.network import ExportRequest

__all__ = ["KerasToOnnx", "TensorFlowToOnnx"]

#: Engine of Keras, and what torch's exporters are called; tf2onnx has one way.
WAYS = (
    ("tensorflow", "tf2onnx"),
    ("torch", "dynamo"),
    ("torch", "torchscript"),
    ("torch", "trace"),
)


class KerasToOnnx(Converter):
    """``keras_v3`` and ``keras_hdf5`` to ONNX."""

    name: ClassVar[str] = "keras-onnx"
    sources: ClassVar[tuple[str, ...]] = ("keras_v3", "keras_hdf5")
    target: ClassVar[str] = "onnx"

    @classmethod
    def available(cls) -> Availability:
        """Whether Keras, onnx, and TensorFlow with tf2onnx or torch with onnxscript are here."""
        able = (importable("tensorflow") and importable("tf2onnx")) or (
            importable("torch") and importable("onnxscript")
        )
        missing = [name for name in ("keras", "onnx") if not importable(name)]
        missing += [] if able else ["tf2onnx (with tensorflow)"]
        reason = f"{' and '.join(missing)} is not installed" if missing else ""
        return Availability(not missing, reason, ("cpu",), install_line("keras2onnx,keras,pack"))

    @classmethod
    def attempts(cls, job: Job) -> Iterable[Attempt]:
        """tf2onnx, then torch's exporters, each on the engine that it belongs to."""
        from biozoo_runners.keras import KerasBackend

        threads = usable_cores()[1]
        request = KerasBackend.request(job.package, job.source, device="cpu", threads=threads)
        made_with = request.facts["made_with"]
        for engine, strategy in WAYS:
            needs = "tf2onnx" if engine == "tensorflow" else "onnxscript"
            if engine in request.facts["engines"] and importable(needs):
                facts = {**request.facts, "engine": engine, "native": engine == made_with}
                yield _attempt(job, strategy, "KerasExport", replace(request, facts=facts), engine)


class TensorFlowToOnnx(Converter):
    """SavedModel bundles to ONNX."""

    name: ClassVar[str] = "tensorflow-onnx"
    sources: ClassVar[tuple[str, ...]] = ("tensorflow_saved_model_bundle",)
    target: ClassVar[str] = "onnx"

    @classmethod
    def available(cls) -> Availability:
        """Whether TensorFlow, tf2onnx and onnx are installed."""
        missing = [n for n in ("tensorflow", "tf2onnx", "onnx") if not importable(n)]
        reason = f"{' and '.join(missing)} is not installed" if missing else ""
        install = install_line("keras2onnx,tensorflow,pack")
        return Availability(not missing, reason, ("cpu",), install)

    @classmethod
    def attempts(cls, job: Job) -> Iterable[Attempt]:
        """tf2onnx."""
        from biozoo_runners.tensorflow import TensorFlowBackend

        threads = usable_cores()[1]
        request = TensorFlowBackend.request(job.package, job.source, device="cpu", threads=threads)
        yield _attempt(job, "tf2onnx", "TensorFlowExport", request, "")


def _attempt(job: Job, strategy: str, executor: str, child: Request, engine: str) -> Attempt:
    on_torch = " of keras on torch" if engine == "torch" else ""
    make = partial(_written, job, strategy, executor, child)
    return Attempt(f"{strategy}{on_torch}", make)


def _written(
    job: Job, strategy: str, executor: str, child: Request, folder: Path
) -> dict[str, Any]:
    from .onnx_tidy import tidy

    request = job.request
    graph = _exported(job, strategy, executor, child, request)
    (folder / NAME).write_bytes(tidy(graph, request))
    return onnx_entry(folder)


def _exported(
    job: Job, strategy: str, executor: str, asked: Request, request: ExportRequest
) -> bytes:
    """The graph as it comes from the child; each attempt has one of its own, as an engine does."""
    from biozoo_runners.isolated.client import Child, ForeignError

    from ..executors.export_code import command

    threads = usable_cores()[1]
    ids = described(job.package)
    facts = {"input_ids": list(ids["input_ids"]), "output_ids": list(ids["output_ids"])}
    free = [{str(k): list(v) for k, v in axes.items()} for axes in request.free]
    call = command(
        "export",
        strategy=strategy,
        input_names=request.input_names,
        output_names=request.output_names,
        free=free,
        opset=request.opset,
    )
    try:
        with Child.start(
            f"biozoo_converters.executors.keras_export:{executor}",
            {"device": "cpu", "threads": threads, **facts, **asked.facts},
            model=job.package.id,
            doing=f"export its weights {asked.weights_name}",
            threads=threads,
            readable=asked.readable,
            env=asked.env,
        ) as child:
            return child.run([call, *request.inputs])[0].tobytes()
    except ForeignError as exc:
        told = exc.text if exc.kind in ("NotFitting", "EngineUnfit") else f"{exc.kind}: {exc.text}"
        raise NetworkError(f"{told.splitlines()[0] if told else exc.kind}") from exc
    except BackendError as exc:
        raise NetworkError(exc.message) from exc
